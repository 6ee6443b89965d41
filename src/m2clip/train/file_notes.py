"""Bad and damaged files as plain values, which a training state may hold, and back."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.data.manifest import Manifest
from m2clip.data.places import Place, ShardMember, WebAddress


def plain_bad(files: Iterable[BadFile]) -> list[dict[str, Any]]:
    """A mapping for each file. Users and passwords of web addresses are left out."""
    return [
        {
            "place": _plain(file.path),
            "where": file.where,
            "reason": file.reason,
            "index": file.index,
            "crashed": file.crashed,
        }
        for file in files
    ]


def plain_damaged(files: Iterable[DamagedFile]) -> list[dict[str, Any]]:
    """A mapping for each file, as `plain_bad`."""
    return [
        {"place": _plain(file.path), "where": file.where, "lost_share": file.lost_share, "index": file.index}
        for file in files
    ]


def bad_files(plain: Iterable[Mapping[str, Any]]) -> list[BadFile]:
    """What `plain_bad` was given. Raises KeyError, TypeError or ValueError for anything else."""
    return [
        BadFile(
            _place(file["place"]), str(file["where"]), str(file["reason"]), int(file["index"]), bool(file["crashed"])
        )
        for file in plain
    ]


def damaged_files(plain: Iterable[Mapping[str, Any]]) -> list[DamagedFile]:
    """What `plain_damaged` was given. Raises KeyError, TypeError or ValueError for anything else."""
    return [
        DamagedFile(_place(file["place"]), str(file["where"]), float(file["lost_share"]), int(file["index"]))
        for file in plain
    ]


def listed_in(manifest: Manifest, files: Iterable[BadFile]) -> list[BadFile]:
    """Of the bad files of a run, those of one of its lists: what crashed or hung before the break need not do so again."""
    samples = manifest.samples
    return [file for file in files if file.index < len(samples) and samples[file.index].where == file.where]


def _plain(place: Place) -> str | dict[str, Any]:
    if isinstance(place, ShardMember):
        return asdict(place)
    return {"url": str(place)} if isinstance(place, WebAddress) else str(place)


def _place(plain: str | Mapping[str, Any]) -> Place:
    if isinstance(plain, str):
        return Path(plain)
    return WebAddress(str(plain["url"])) if "url" in plain else ShardMember(**plain)

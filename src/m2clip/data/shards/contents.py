"""What a tar file without an index holds: the videos and labels of WebDataset's layout, found by the names of its members.

`00042.mp4` and `00042.cls` are one sample: the key goes up to the first dot behind the last slash.
"""

import hashlib
import json
import logging
import os
import posixpath
from dataclasses import astuple, dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from m2clip.data.lists.listed_rows import VIDEO_SUFFIXES
from m2clip.data.lists.text_files import shown
from m2clip.data.shards.members import Shard, open_shard
from m2clip.data.shards.tar_members import TarMember, tar_members
from m2clip.data.web import is_web_address, shown_address
from m2clip.errors import ManifestError, VideoError
from m2clip.kept_files import KeptFiles

_FORMAT = 2  # to be raised when the same tar file gives other rows than before
_KEPT = KeptFiles("shard-contents", most_bytes=2**31)
_LABELS = ("json", "cls", "txt")  # the first that is there and says a label counts
_JSON_LABELS = ("label", "class", "cls")
_MOST_LABEL_BYTES = 2**20
_log = logging.getLogger("m2clip")


@dataclass(frozen=True, slots=True)
class ListedMember:
    """A video of a tar file and the label beside it."""

    name: str
    offset: int
    size: int
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None


def read_contents(path: str) -> tuple[Shard, list[ListedMember]]:
    """The videos of a tar file, in its order. Looked through once, and kept while the file stays the same.

    A file behind a web address is fetched, and held to the sum that it has now from then on. Raises ManifestError.
    """
    remote = is_web_address(path)
    name = shown_address(path) if remote else path
    try:
        stat = None if remote else os.stat(path)
        key = repr((_FORMAT, path if remote else os.path.abspath(path), stat and (stat.st_size, stat.st_mtime_ns)))
        kept = _KEPT.get(key)
        if kept is not None:
            size, sha256, rows = json.loads(kept)
            return Shard(path, size, sha256), [ListedMember(*row) for row in rows]
        with open_shard(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if remote else ""
            size = os.fstat(file.fileno()).st_size
            members = _listed(list(tar_members(file, name=name)), file, name)
    except FileNotFoundError:
        raise ManifestError(f"{name} does not exist: check the path") from None
    except OSError as error:
        raise ManifestError(f"{name} cannot be read ({error.strerror or error}): check its permissions") from error
    except VideoError as error:
        raise ManifestError(str(error)) from None
    _KEPT.put(key, json.dumps((size, sha256, [astuple(member) for member in members])).encode())
    return Shard(path, size, sha256), members


def _listed(members: list[TarMember], file: BufferedReader, shard: str) -> list[ListedMember]:
    samples: dict[str, dict[str, TarMember]] = {}  # key -> what comes behind the first dot -> member
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not stem or not suffix or (base.startswith("__") and base.endswith("__")):
            continue  # hidden files, such as ._x.mp4 of a Mac, and WebDataset's notes
        parts = samples.setdefault(folder + slash + stem, {})
        if parts.setdefault(suffix.lower(), member) is not member:
            raise ManifestError(
                f"{shard}: the member {member.name!r} stands twice: pack the shard again, each file once"
            )
    listed: list[ListedMember] = []
    without = []
    for key, parts in samples.items():
        videos = [part for suffix, part in parts.items() if Path("x." + suffix).suffix in VIDEO_SUFFIXES]
        if len(videos) > 1:
            raise ManifestError(
                f"{shard}: {videos[0].name!r} and {videos[1].name!r} are one sample: give each its own key"
            )
        if videos:
            listed += _samples(videos[0], parts, file, shard)
        elif any(suffix in _LABELS for suffix in parts):
            without.append(key)
    if not listed:
        raise ManifestError(f"{shard} holds no video: pack files such as 0001.mp4 and 0001.cls, by m2clip data shard")
    unlabelled = [member for member in listed if not member.label]
    if unlabelled:
        listed = _labelled_by_folder(listed, unlabelled[0], shard)
    if without:
        _log.warning("%s: %d samples have a label and no video; the first is %r", shard, len(without), without[0])
    return listed


def _samples(video: TarMember, parts: dict[str, TarMember], file: BufferedReader, shard: str) -> list[ListedMember]:
    """One sample, or as many as the JSON file lists parts of the video. The label is "" where no file says it."""
    if not video.plain:
        raise ManifestError(
            f"{shard}: {video.name!r} is a link or has holes: pack the files themselves, by tar --dereference --hard-dereference"
        )
    for kind in _LABELS:
        member = parts.get(kind)
        if member is None:
            continue
        where = f"{shard}/{member.name}"
        if not member.plain or member.size > _MOST_LABEL_BYTES:
            raise ManifestError(f"{where} is no small file that holds a label: write the label alone")
        file.seek(member.offset)
        try:
            text = file.read(member.size).decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise ManifestError(f"{where} is not UTF-8 text: save it as UTF-8") from None
        if kind != "json":
            if len(text.splitlines()) != 1:
                what = "has several lines" if text else "is empty"
                raise ManifestError(f"{where} {what}: write the label into it, and nothing else")
            return [ListedMember(video.name, video.offset, video.size, text)]
        found = _json_labels(text, where)
        if found:
            return [ListedMember(video.name, video.offset, video.size, *row) for row in found]
    return [ListedMember(video.name, video.offset, video.size, "")]


def _labelled_by_folder(listed: list[ListedMember], unlabelled: ListedMember, shard: str) -> list[ListedMember]:
    """Videos that all lack a label have the name of their folder, as in a list of files."""
    folders = [posixpath.basename(posixpath.dirname(member.name)) for member in listed]
    if any(member.label for member in listed) or not all(folder.strip(".") for folder in folders):
        raise ManifestError(
            f"{shard}/{unlabelled.name} has no label: put it into a file with the same key, which ends at the first dot, such as 0001.cls"
        )
    return [replace(member, label=folder) for member, folder in zip(listed, folders, strict=True)]


def _json_labels(text: str, where: str) -> list[tuple[str, float | None, float | None]]:
    """(label, first second, last second) of each part; none where the file says no label."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ManifestError(f"{where} is no JSON: mend it, or write the label alone into a .cls file") from None
    rows = content.get("parts", [content]) if isinstance(content, dict) else []
    found = []
    for row in rows if isinstance(rows, list) else []:
        label = next((row[key] for key in _JSON_LABELS if key in row), None) if isinstance(row, dict) else None
        if isinstance(label, bool) or not isinstance(label, int | str) or not str(label).strip():
            continue
        start, end = (_seconds(row.get(key), where) for key in ("start_seconds", "end_seconds"))
        found.append((str(label).strip(), start, end))
    if found and len(found) < len(rows):
        raise ManifestError(f"{where}: a part has no label: give each one a label")
    return found


def _seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ManifestError(f"{where}: {shown(str(value))} are no seconds from 0 on: mend the file")
    return float(value)

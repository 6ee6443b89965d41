"""A list of videos -> shards in WebDataset's layout and their index. Videos are copied as they are.

`00000042.mp4`, `00000042.cls` (the class's id) and `00000042.json` (its name, the part's seconds, where the video came from) are one
sample. A video that a list names several times, in parts, is packed once; its JSON file holds all parts.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from m2clip.data.classes import ClassTable
from m2clip.data.manifest import Manifest
from m2clip.data.shards.file_lock import file_lock
from m2clip.data.shards.index import INDEX, write_index
from m2clip.data.shards.packing import LeftOut, PackedShard, PackedVideo, PackingList, fill
from m2clip.data.shards.tar_writer import TarWriter
from m2clip.drafts import replacing, synced
from m2clip.errors import ConfigError, ManifestError, VideoError

_FORMAT = 1
_WORK = ".unfinished"
_SETTINGS = "settings.json"
_DONE = ".unfinished-done"  # what it is called while it is removed: beside an index, notes are whole or not there


@dataclass(frozen=True)
class WrittenShards:
    """What was written."""

    index: Path
    shards: int
    samples: int
    bytes: int
    """Of all shards."""
    left_out: tuple[LeftOut, ...]


def write_shards(
    manifest: Manifest,
    out: Path,
    *,
    base: Path,
    shard_bytes: int = 512 << 20,
    shard_samples: int | None = None,
    shuffle_seed: int | None = None,
    on_bad_file: Literal["skip", "stop"] = "skip",
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WrittenShards:
    """Pack the videos of a manifest into `out`/shard-000000.tar and so on, about `shard_bytes` each, and write their index.

    `base`: what recorded paths are relative to. `shard_samples`: most videos of a shard. `shuffle_seed`: decides an order; None:
    that of the list. A video that cannot be read is told and left out, or ends the work. The same videos and settings give
    the same bytes. A run that was killed goes on behind its last whole shard. Raises ConfigError for a folder that holds
    something else or cannot be written, ManifestError where nothing can be packed, VideoError for a bad file.
    """
    settings = {
        "format": _FORMAT,
        "list": manifest.sha256,
        "samples": len(manifest.samples),
        "classes": list(manifest.class_names),
        "texts": [list(texts) for texts in manifest.further_texts],
        "base": os.path.abspath(base),
        "shard_bytes": shard_bytes,
        "shard_samples": shard_samples,
        "shuffle_seed": shuffle_seed,
    }

    def judge(bad: LeftOut) -> None:
        if on_bad_file == "stop":
            raise VideoError(f"{bad.reason} (listed at {bad.where}); to go on without such files choose to skip them")
        tell(f"left out: {bad.reason} (listed at {bad.where})")

    try:
        with _work_folder(out, settings) as work:
            videos = PackingList(manifest, shuffle_seed)
            shards: list[PackedShard] = []
            while (shard := _finished(work, out, len(shards))) is not None:
                shards.append(shard)
            left_out = [bad for shard in shards for bad in shard.left_out]
            for bad in left_out:
                judge(bad)
            start = shards[-1].end if shards else 0
            while start < len(videos):
                draft = work / "shard.draft"
                with synced(draft) as file:
                    shard = fill(
                        TarWriter(file), _name(len(shards)), videos, start, base=base, scratch=work, most_bytes=shard_bytes,
                        most_videos=shard_samples, judge=judge, progress=progress,
                    )  # fmt: skip
                start = shard.end
                left_out += shard.left_out
                if shard.videos:  # else the list ends with bad ones only
                    os.replace(draft, out / shard.name)
                    with replacing(work / f"{shard.name}.json") as file:
                        file.write(json.dumps(asdict(shard)).encode())
                    shards.append(shard)
            if shards:
                rows = videos.rows(shards)
                head = [{key: getattr(one, key) for key in ("name", "size", "sha256")} for one in shards]
                with replacing(out / INDEX, draft=work / "index.draft") as file:
                    write_index(file, rows, head, ClassTable(manifest.class_names, manifest.further_texts))
            os.rename(work, out / _DONE)
            shutil.rmtree(out / _DONE, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{out} cannot be written ({reason}): make room, or give another folder") from error
    if not shards:
        raise ManifestError(f"{manifest.source}: none of its {len(videos)} videos can be packed: {left_out[0].reason}")
    return WrittenShards(
        out / INDEX, len(shards), len(rows["shard"]), sum(shard.size for shard in shards), tuple(left_out)
    )


def _name(number: int) -> str:
    return f"shard-{number:06d}.tar"


@contextmanager
def _work_folder(out: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """The folder of drafts inside `out`, held by this process, with the notes of an earlier run that had the same settings."""
    out.mkdir(parents=True, exist_ok=True)
    work = out / _WORK
    shutil.rmtree(out / _DONE, ignore_errors=True)  # of a run that was killed with all done; a link is left alone
    if (out / INDEX).exists() and not (work / _SETTINGS).exists():
        raise ConfigError(f"{out} already holds shards and their index: give another folder")
    if not work.exists() and any(out.glob("shard-*.tar")):
        raise ConfigError(f"{out} already holds shards of something else: give another folder")
    if work.is_symlink():
        raise ConfigError(f"{work} is a link, and nothing is written outside of {out}: remove it")
    work.mkdir(exist_ok=True)
    try:
        with file_lock(work / "lock", wait=False):
            path = work / _SETTINGS
            if path.exists() and json.loads(path.read_bytes()) != settings:
                raise ConfigError(
                    f"{out} holds the beginning of other shards (another list, classes or settings): go on with those, or give "
                    "another folder"
                )
            with replacing(path) as file:
                file.write(json.dumps(settings).encode())
            yield work
    except BlockingIOError:
        raise ConfigError(
            f"{out}: another process is writing shards there: wait for it, or give another folder"
        ) from None


def _finished(work: Path, out: Path, number: int) -> PackedShard | None:
    """A shard that an earlier run wrote to its end."""
    try:
        record = json.loads((work / f"{_name(number)}.json").read_bytes())
        if (out / _name(number)).stat().st_size != record["size"]:
            return None
    except FileNotFoundError:
        return None
    videos = [PackedVideo(**row) for row in record.pop("videos")]
    left_out = [LeftOut(**row) for row in record.pop("left_out")]
    return PackedShard(**record, videos=videos, left_out=left_out)

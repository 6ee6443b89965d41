"""What goes into which shard: the videos of a list in the order of packing, and one shard after another filled with them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2clip.data.manifest import Manifest
from m2clip.data.places import Place
from m2clip.data.samples import Sample
from m2clip.data.shards.sources import noted, opened, pieces, suffix_of
from m2clip.data.shards.tar_writer import TarWriter, member_space
from m2clip.errors import VideoError


@dataclass(frozen=True)
class LeftOut:
    """A video that could not be packed."""

    path: str
    where: str
    """The place that lists it."""
    reason: str
    """The whole sentence."""


@dataclass(frozen=True)
class PackedVideo:
    """A video in a shard."""

    number: int
    """In the order of packing."""
    member: str
    offset: int
    """Where its bytes begin in the tar file."""
    size: int
    sha256: str
    """Of its bytes."""
    source: str
    """Where it came from, as it is recorded."""


@dataclass(frozen=True)
class PackedShard:
    """A shard that is written, and how far the list is worked off by it."""

    name: str
    size: int
    sha256: str
    end: int
    """Number of the first video behind it."""
    videos: list[PackedVideo]
    left_out: list[LeftOut]


class PackingList:
    """The videos of a manifest in the order of packing, each with the samples that are parts of it."""

    def __init__(self, manifest: Manifest, shuffle_seed: int | None) -> None:
        self._samples, self._names = manifest.samples, manifest.class_names
        order = np.arange(len(manifest.samples))
        if shuffle_seed is not None:
            order = np.random.default_rng(shuffle_seed).permutation(order)
        numbers: dict[Place, int] = {}
        self._number_of: list[tuple[int, int]] = []  # sample, video: in the order of the samples
        self._parts: list[list[int]] = []
        for n in order.tolist():
            number = numbers.setdefault(self._samples[n].path, len(numbers))
            self._number_of.append((n, number))
            if number == len(self._parts):
                self._parts.append([])
            self._parts[number].append(n)

    def __len__(self) -> int:
        return len(self._parts)

    def parts(self, number: int) -> list[Sample]:
        """The samples of a video."""
        return [self._samples[n] for n in self._parts[number]]

    def notes(self, number: int, *, source: str, sha256: str) -> dict[str, bytes]:
        """What stands beside a video in its shard, by the ending of the member."""
        rows = []
        for part in self.parts(number):
            times = {"start_seconds": part.start_seconds, "end_seconds": part.end_seconds}
            told = {key: value for key, value in times.items() if value is not None}
            rows.append({"label": self._names[part.label], "id": part.label, **told})
        record: dict[str, Any] = {"parts": rows} if len(rows) > 1 else rows[0]
        notes = {"json": json.dumps({**record, "source": source, "sha256": sha256}, ensure_ascii=False).encode()}
        return notes if len(rows) > 1 else {"cls": str(rows[0]["id"]).encode(), **notes}

    def rows(self, shards: list[PackedShard]) -> dict[str, list[Any]]:
        """The columns of the index: one row a sample whose video is packed."""
        packed = {video.number: (n, video) for n, shard in enumerate(shards) for video in shard.videos}
        found = [(self._samples[n], *packed[number]) for n, number in self._number_of if number in packed]
        return {
            "shard": [shard for _, shard, _ in found],
            "member": [video.member for *_, video in found],
            "offset": [video.offset for *_, video in found],
            "size": [video.size for *_, video in found],
            "label": [sample.label for sample, *_ in found],
            "start_seconds": [sample.start_seconds for sample, *_ in found],
            "end_seconds": [sample.end_seconds for sample, *_ in found],
            "source": [video.source for *_, video in found],
            "sha256": [video.sha256 for *_, video in found],
        }


def fill(
    tar: TarWriter,
    name: str,
    videos: PackingList,
    start: int,
    *,
    base: Path,
    scratch: Path,
    most_bytes: int,
    most_videos: int | None,
    judge: Callable[[LeftOut], None],
    progress: Callable[[int, int], None],
) -> PackedShard:
    """Write the shard that begins with video `start`; it gets one video at least."""
    packed: list[PackedVideo] = []
    left_out: list[LeftOut] = []
    number = start
    while number < len(videos) and (most_videos is None or len(packed) < most_videos):
        sample = videos.parts(number)[0]
        mark = tar.mark()
        try:
            with opened(sample.path, scratch=scratch) as (file, size):
                if packed and tar.size + member_space(size) + 2 * member_space(1) > most_bytes:
                    break
                key, source = f"{number:08d}", noted(sample.path, base)
                member = f"{key}.{suffix_of(sample.path)}"
                written = tar.add(member, size, pieces(file, sample.path, size=size))
            for suffix, content in videos.notes(number, source=source, sha256=written.sha256).items():
                tar.add(f"{key}.{suffix}", len(content), [content])
            packed.append(PackedVideo(number, member, written.offset, written.size, written.sha256, source))
        except VideoError as error:
            tar.undo(mark)
            left_out.append(LeftOut(noted(sample.path, base), sample.where, str(error)))
            judge(left_out[-1])
        number += 1
        progress(number, len(videos))
    sha256 = tar.finish()
    return PackedShard(name, tar.size, sha256, number, packed, left_out)

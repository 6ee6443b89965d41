"""What a user names to be embedded (folders, lists, shards, single videos) -> the videos, and by what each is found again."""

import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from m2clip.data.dataset import BadFile
from m2clip.data.image_folder import IMAGE_SUFFIXES
from m2clip.data.lists.class_folders import videos_below
from m2clip.data.manifest import VIDEO_SUFFIXES, Sample, read_manifest
from m2clip.data.places import Place, ShardMember, WebAddress
from m2clip.data.shards.reading import names_shards
from m2clip.data.web import is_web_address
from m2clip.errors import ManifestError, VideoError
from m2clip.provenance import as_text

Key = tuple[str, float | None, float | None]
"""A video or a part of one: its lasting path, and where the part begins and ends."""
State = tuple[int | None, int | None]
"""Size in bytes and time of the last change; both None for what lies on the web."""


class WantedVideos(Sequence[Sample]):
    """The videos of some sources, each once. A `Sample` is made when it is asked for, and not kept."""

    def __init__(self) -> None:
        self.positions: dict[Key, int] = {}
        """The place of each in their order, by what it is found again."""
        self.folders: tuple[str, ...] = ()
        """The folders that were looked through, as absolute paths that end with a separator."""
        self.bad: tuple[BadFile, ...] = ()
        """Files whose names no table can hold."""
        self._sources: list[Sequence[Sample]] = []
        self._first: list[int] = []  # of each source, its first position
        self._rows = array("q")  # in its source

    def add(self, source: Sequence[Sample]) -> None:
        """Put the videos of a source behind the others, but for those that are there."""
        self._sources.append(source)
        self._first.append(len(self.positions))
        for row, sample in enumerate(source):
            path = lasting_path(sample.path)
            try:
                path.encode()
            except UnicodeEncodeError:
                shown = as_text(path)
                reason = f"{shown} has a name that is not UTF-8, which no table can hold: rename it"
                self.bad += (BadFile(Path(shown), shown, reason, index=-1),)
                continue
            position = len(self.positions)
            if self.positions.setdefault((path, sample.start_seconds, sample.end_seconds), position) == position:
                self._rows.append(row)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[n] for n in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(f"video {position} of {len(self)}")
        return self._sources[bisect_right(self._first, position) - 1][self._rows[position]]

    @cached_property
    def paths(self) -> frozenset[str]:
        """The lasting paths of all."""
        return frozenset(path for path, _, _ in self.positions)

    def has_gone(self, path: str) -> bool:
        """Whether a path lies in a folder that was looked through, and was not found there."""
        return path not in self.paths and any(path.startswith(folder) for folder in self.folders)


def wanted_videos(
    sources: Sequence[str], *, classes: str | Path | None = None, root: str | Path | None = None
) -> WantedVideos:
    """The videos of folders (of any depth), lists and shards (`read_manifest`, which gets `classes` and `root`), and single ones.

    Raises ManifestError for a folder or list that cannot be read.
    """
    wanted = WantedVideos()
    for source in sources:
        path = Path(source)
        if source == "-":
            raise VideoError(
                "- is standard input, which cannot be found again by a search: write the video to a file first"
            )
        if names_shards(source) or (not is_web_address(source) and path.is_file() and _is_list(path)):
            wanted.add(read_manifest(source, classes=classes, root=root).samples)
        elif is_web_address(source):
            wanted.add([Sample(WebAddress(source), 0, where=source)])
        elif path.is_dir() and not _is_one_video(path):
            wanted.folders += (os.path.join(os.path.abspath(path), ""),)
            wanted.add(_Found(path))
        else:
            wanted.add([Sample(Path(os.path.abspath(path)), 0, where=source)])
    return wanted


class _Found(Sequence[Sample]):
    """The videos in a folder."""

    def __init__(self, folder: Path) -> None:
        self._base = os.path.join(os.getcwd(), "")  # from where their names lead to them
        self._names = [str(video) for video in videos_below(folder)]
        if not self._names:
            raise ManifestError(
                f"{folder} holds no video: give a folder with files such as .mp4 or .avi, a list, or a video"
            )

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[n] for n in range(*row.indices(len(self)))]
        return Sample(Path(os.path.normpath(os.path.join(self._base, self._names[row]))), 0, where=self._names[row])


def _is_list(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.endswith((".csv", ".tsv", ".txt", ".list", ".json", ".parquet"))


def _is_one_video(folder: Path) -> bool:
    """Whether a folder is a video itself: images, and neither videos nor folders."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None
    if any(entry.is_dir() or Path(entry.name).suffix.lower() in VIDEO_SUFFIXES for entry in entries):
        return False
    return any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)


def lasting_path(place: Place) -> str:
    """By what a user, and `Video`, finds a video again, from whatever folder."""
    if isinstance(place, WebAddress):
        return str(place)
    if isinstance(place, ShardMember):
        return str(place) if is_web_address(place.shard) else f"{os.path.abspath(place.shard)}/{place.name}"
    return os.path.abspath(place)


def state_of(place: Place) -> State | None:
    """What tells that a file has changed; None where it cannot be looked at. Of a folder of images all of them count."""
    if isinstance(place, WebAddress) or (isinstance(place, ShardMember) and is_web_address(place.shard)):
        return (None, None)
    try:
        if isinstance(place, ShardMember):
            return (place.size, os.stat(place.shard).st_mtime_ns)
        if os.path.isdir(place):
            facts = [entry.stat() for entry in os.scandir(place)]
            newest = max([os.stat(place).st_mtime_ns, *(fact.st_mtime_ns for fact in facts)])
            return (sum(fact.st_size for fact in facts), newest)
        fact = os.stat(place)
    except (OSError, ValueError):  # a name that no system allows
        return None
    return (fact.st_size, fact.st_mtime_ns)

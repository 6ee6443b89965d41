"""What is to be checked: the lists of a data set, or a folder whose videos have no classes, and the files behind them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2clip.data.manifest import VIDEO_SUFFIXES, ClassTable, Samples, read_classes, read_manifest
from m2clip.data.places import Place
from m2clip.errors import ManifestError


@dataclass(frozen=True)
class Listing:
    """The samples of one list."""

    name: str
    """data, val or test."""
    source: str
    sha256: str
    """As of `Manifest`; empty for files without classes."""
    samples: Samples
    class_names: tuple[str, ...]
    """Empty: the files have no classes, and labels mean nothing."""


def read_listings(
    data: str | Path,
    *,
    classes: Path | None = None,
    root: Path | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
) -> list[Listing]:
    """The list to train on and those to test on, all read with the same classes. Raises ManifestError.

    A folder that is not one folder a class (see `lies_loose`) is taken as files without classes, where no class table and no other
    list is given.
    """
    if classes is None and root is None and val is None and test is None and lies_loose(Path(data)):
        files = videos_below(Path(data))
        return [Listing("data", str(data), "", Samples(files, np.zeros(len(files), dtype=np.int64)), ())]
    table: ClassTable | None = None if classes is None else read_classes(classes)
    first = read_manifest(data, classes=table, root=root)
    listings = [Listing("data", first.source, first.sha256, first.samples, first.class_names)]
    for name, source in (("val", val), ("test", test)):
        if source is not None:
            other = read_manifest(source, classes=table or ClassTable(first.class_names), root=root)
            listings.append(Listing(name, other.source, other.sha256, other.samples, other.class_names))
    return listings


def lies_loose(folder: Path) -> bool:
    """Whether a folder's videos lie otherwise than one folder a class: beside the folders, or in folders of a folder only."""
    if not folder.is_dir():
        return False
    children = _visible(folder)
    if any(_is_video(child) for child in children):
        return True
    with_videos = [child for child in children if child.is_dir() and next(_walk(child), None) is not None]
    return not all(any(_is_video(file) for file in _visible(child)) for child in with_videos)


def videos_below(folder: Path) -> list[Path]:
    """All files in a folder and its folders that are called like a video, in the order of their names."""
    return sorted(_walk(folder))


def unique_files(listings: Sequence[Listing]) -> tuple[list[Place], list[np.ndarray]]:
    """The different videos behind the samples, and for each listing the video of each sample, int64 [N].

    Two paths that lead to one file, by whatever links, are one video.
    """
    numbers: dict[object, int] = {}
    places: list[Place] = []
    files = []
    for listing in listings:
        column = np.empty(len(listing.samples), dtype=np.int64)
        for row, place in enumerate(listing.samples.places):
            key = _identity(place)
            if key not in numbers:
                numbers[key] = len(places)
                places.append(place)
            column[row] = numbers[key]
        files.append(column)
    return places, files


def _identity(place: Place) -> object:
    if isinstance(place, Path):
        try:
            found = os.stat(place)
        except OSError:
            return os.path.abspath(place)
        return found.st_dev, found.st_ino
    return place


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _walk(folder: Path) -> Iterator[Path]:
    for child in _visible(folder):
        if child.is_dir() and not child.is_symlink():
            yield from _walk(child)
        elif _is_video(child):
            yield child

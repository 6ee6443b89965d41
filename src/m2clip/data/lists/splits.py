"""What two lists of one data set, or the lines of one list, have in common that they should not."""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m2clip.data.lists.listed_places import ListedPlaces, place_of
from m2clip.data.manifest import Manifest
from m2clip.data.places import Place
from m2clip.data.samples import Samples
from m2clip.data.shards.members import ShardPlaces
from m2clip.errors import ManifestError

_TOGETHER = 1 << 18  # places resolved at a time
_ODD = "[^ -~]|[\\\\:]|(^|/)[.]{0,2}$"  # what `place_of` looks at twice, and names that are none


def check_splits(train: Manifest, val: Manifest) -> list[str]:
    """Return warnings, a sentence each: videos in both splits (parts of one file only where they overlap), and those of
    `check_classes`. Raises ManifestError if the splits number their classes differently.
    """
    if train.class_names != val.class_names:
        raise ManifestError(
            f"{val.source} and {train.source} number their classes differently: read both with the same class table"
        )
    warnings = []
    shared = _overlaps(train.samples, val.samples)
    if shared:
        count, one, other = shared
        first, trained = val.samples[other], train.samples[one]
        warnings.append(
            f"{count} of {len(val.samples)} samples of {val.source} are also in {train.source}, so its scores say little: "
            f"first {first.path} ({first.where}, {trained.where})"
        )
    return warnings + check_classes(train)


def check_classes(train: Manifest) -> list[str]:
    """Return warnings, a sentence each: classes without a training sample, and samples that are all of one class."""
    counts = train.samples.counts(len(train.class_names))
    absent = [name for name, count in zip(train.class_names, counts, strict=True) if not count]
    there = [name for name, count in zip(train.class_names, counts, strict=True) if count]
    warnings = []
    if absent:
        some = ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
        warnings.append(f"{len(absent)} of {len(train.class_names)} classes have no sample in {train.source}: {some}")
    if len(there) == 1:
        warnings.append(f"all samples of {train.source} are of one class, {there[0]!r}: there is nothing to tell apart")
    return warnings


def check_repeats(manifest: Manifest) -> list[str]:
    """Return warnings, a sentence each: videos that the list has twice with different labels, and twice with the same.

    Parts of one file count only where they begin and end alike.
    """
    samples = manifest.samples
    start, end = samples.bounds()
    numbers = _numbers(samples)
    order = np.lexsort((end, start, numbers))  # stable: of equal ones, the first of the list comes first
    before, after = order[:-1], order[1:]
    again = (numbers[before] == numbers[after]) & (start[before] == start[after]) & (end[before] == end[after])
    before, after = before[again], after[again]
    differ = samples.labels[before] != samples.labels[after]
    warnings = []
    for chosen, sentence in (
        (differ, "another under a different label, of which at most one is right"),
        (~differ, "another, which then counts double"),
    ):
        if chosen.any():
            at = int(np.flatnonzero(chosen)[np.argmin(after[chosen])])
            first, second = samples[int(before[at])], samples[int(after[at])]
            count = int(chosen.sum())
            repeats = f"sample of {manifest.source} repeats" if count == 1 else f"samples of {manifest.source} repeat"
            warnings.append(f"{count} {repeats} {sentence}: first {first.path} ({first.where}, {second.where})")
    return warnings


def _overlaps(train: Samples, val: Samples) -> tuple[int, int, int] | None:
    """How many of `val` overlap one of `train`, and the first such pair: (count, index in train, index in val)."""
    trained, tested = _numbers(train), _numbers(val)
    of_val = np.flatnonzero(_among(tested, trained))
    of_train = np.flatnonzero(_among(trained, tested[of_val]))
    (train_start, train_end), (val_start, val_end) = (
        (start[rows], end[rows]) for (start, end), rows in ((train.bounds(), of_train), (val.bounds(), of_val))
    )
    if all(column is None for one in (train, val) for column in (one.start_seconds, one.end_seconds)):
        meets = np.ones(len(of_val), bool)
    else:
        meets = _meet(trained[of_train], train_start, train_end, numbers=tested[of_val], starts=val_start, ends=val_end)
    if not meets.any():
        return None
    first = int(np.argmax(meets))
    near = (
        (trained[of_train] == tested[of_val[first]]) & (train_start < val_end[first]) & (train_end > val_start[first])
    )
    return int(meets.sum()), int(of_train[np.argmax(near)]), int(of_val[first])


def _among(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """bool [N]: which of the numbers are others, too; looked up in rising order, several times as fast as `np.isin` for millions."""
    found = np.zeros(len(numbers), bool)
    if len(others):
        others, order = np.sort(others), np.argsort(numbers)
        sought = numbers[order]
        found[order] = others[np.minimum(np.searchsorted(others, sought), len(others) - 1)] == sought
    return found


def _meet(
    train_numbers: np.ndarray,
    train_starts: np.ndarray,
    train_ends: np.ndarray,
    *,
    numbers: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
) -> np.ndarray:
    """bool [N]: whether a part overlaps a training part of the same number.

    It does if, of those that start before its end, one ends behind its start: video by video, in the order of these times, the
    latest end so far is kept. One pass for all, since a list can hold a million parts of one film.
    """
    count = len(numbers)
    _, codes = np.unique(np.concatenate([numbers, train_numbers]), return_inverse=True)
    moments = np.concatenate([ends, train_starts])
    is_train = np.arange(len(codes)) >= count
    order = np.lexsort((is_train, moments, codes))  # what starts just at a part's end comes behind it
    times, latest = np.unique(np.concatenate([np.full(count, -np.inf), train_ends]), return_inverse=True)
    # Whole numbers, in which those of a later video are all larger, so that no end is carried over to the next video.
    latest = np.maximum.accumulate((codes * len(times) + latest)[order])
    found = np.empty(len(codes))
    found[order] = times[latest - codes[order] * len(times)]
    return found[:count] > starts


def _numbers(samples: Samples) -> np.ndarray:
    """int64 [N]: a number for the place of each sample, equal where the places are.

    Of 10 million places, 80 MB of numbers are kept, not a GB of text; two of them share a number once in 400,000 lists.
    """
    numbers = np.empty(len(samples), np.int64)
    filled = 0
    for places in _real_places(samples):
        numbers[filled : filled + len(places)] = [hash(place) for place in places.to_pylist()]
        filled += len(places)
    return numbers


def _real_places(samples: Samples) -> Iterator[pa.StringArray]:
    """The places as text, some at a time; links are followed as `os.path.realpath` does, but each folder is read once."""
    folder_at = lru_cache(maxsize=None)(_Folder)
    places = samples.places
    if isinstance(places, ListedPlaces) and places.plain:
        for chunk in places.texts.chunks:
            found = _real_at_once(str(places.base), chunk, folder_at)
            if found is None:
                found = pa.array(
                    [_real(place_of(places.base, text), folder_at) for text in chunk.to_pylist()], pa.string()
                )
            yield found
        return
    for start in range(0, len(places), _TOGETHER):
        if isinstance(places, ShardPlaces):
            yield places.real_texts(start, min(start + _TOGETHER, len(places)))
            continue
        some = [_real(places[n], folder_at) for n in range(start, min(start + _TOGETHER, len(places)))]
        yield pa.array(some, pa.string())


def _real_at_once(base: str, texts: pa.StringArray, folder_at: Callable[[str], "_Folder"]) -> pa.StringArray | None:
    """The same for plain names in folders without links; None where a text is anything else."""
    if pc.any(pc.match_substring_regex(texts, _ODD)).as_py():
        return None
    cells = pc.split_pattern(texts, "/", max_splits=1, reverse=True)
    if not pc.all(pc.equal(pc.list_value_length(cells), 2)).as_py():
        return None
    flat = pc.list_flatten(cells)
    of_folder = flat.take(pa.array(np.arange(0, len(flat), 2))).dictionary_encode()
    names = flat.take(pa.array(np.arange(1, len(flat), 2)))
    folders = [folder_at(os.path.join(base, head or "/")) for head in of_folder.dictionary.to_pylist()]
    if any(folder.links or folder.path == "/" for folder in folders):
        return None
    paths = pa.array([folder.path for folder in folders], pa.string())
    return pc.binary_join_element_wise(paths.take(of_folder.indices), names, "/")


def _real(place: Place, folder_at: Callable[[str], "_Folder"]) -> str:
    return folder_at(str(place.parent)).real(place.name) if isinstance(place, Path) else str(place)


class _Folder:
    """A folder whose links are known."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        try:
            with os.scandir(self.path) as entries:
                self.links = {entry.name for entry in entries if entry.is_symlink()}
        except OSError:  # it is not there, or keeps its names to itself
            self.links = set()

    def real(self, name: str) -> str:
        """The real path of what is called so in it."""
        inside = os.path.join(self.path, name)
        return os.path.realpath(inside) if name in self.links or name in ("", ".", "..") else inside

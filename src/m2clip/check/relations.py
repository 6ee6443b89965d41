"""Samples that show the same pictures: listed twice, under two labels, or in training and in a test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_Key = tuple[str, int, int]
"""A code word, and what tells two findings of it in one group apart."""


@dataclass(frozen=True)
class Rows:
    """The samples of all lists, one below the other."""

    listings: np.ndarray
    """int64 [N]: which list, 0 for the one to train on."""
    files: np.ndarray
    """int64 [N]: which video."""
    labels: np.ndarray
    """int64 [N]; equal where there are no classes."""
    starts: np.ndarray
    """float64 [N]: seconds where the part begins, 0 for the video's start."""
    ends: np.ndarray
    """float64 [N]: seconds where it ends, infinity for the video's end."""


def relations(rows: Rows, contents: Sequence[str], bytes_of: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield (code word, rows in rising order): each time all rows of one content between which the code word holds.

    `contents` tells of each video what its pictures are, `bytes_of` what its bytes are; empty where that is not known, and then the
    video is like itself only. Parts of one content are related where they overlap.
    """
    for group in _groups(rows, contents):
        whole = (rows.starts[group] == 0).all() and np.isinf(rows.ends[group]).all()
        found = _of_whole_videos(rows, group, bytes_of) if whole else _of_parts(rows, group, bytes_of)
        for (code, *_), members in found.items():
            yield code, sorted(members)


def _groups(rows: Rows, contents: Sequence[str]) -> Iterator[np.ndarray]:
    """The rows of each content that more than one row shows, int64 [n], in the order of their first rows."""
    numbers: dict[str, int] = {}
    content = np.array(
        [numbers.setdefault(text, len(numbers)) if text else -1 - file for file, text in enumerate(contents)],
        dtype=np.int64,
    )
    of_row = content[rows.files] if len(content) else np.empty(0, dtype=np.int64)
    order = np.argsort(of_row, kind="stable")
    borders = np.flatnonzero(np.diff(of_row[order])) + 1
    groups = [group for group in np.split(order, borders) if len(group) > 1]
    yield from sorted(groups, key=lambda group: int(group[0]))


def _of_whole_videos(rows: Rows, group: np.ndarray, bytes_of: Sequence[str]) -> dict[_Key, set[int]]:
    """Every row is related to every other: in linear time, for a group can hold thousands of copies of one black picture."""
    found: dict[_Key, set[int]] = {}
    listings = rows.listings[group]
    if len(np.unique(rows.labels[group])) > 1:
        found["two-labels", 0, 0] = set(group.tolist())
    if (listings == 0).any() and (listings > 0).any():
        found["train-test", 0, 0] = set(group.tolist())
    if len(np.unique(listings[listings > 0])) > 1:
        found["val-test", 0, 0] = set(group[listings > 0].tolist())
    alike: dict[tuple[int, int], dict[int, list[int]]] = {}
    for row in group.tolist():
        of_class = alike.setdefault((int(rows.listings[row]), int(rows.labels[row])), {})
        of_class.setdefault(int(rows.files[row]), []).append(row)
    for (listing, label), files in alike.items():
        for file, members in files.items():
            if len(members) > 1:
                found["listed-twice", listing, file] = set(members)
        if len(files) > 1:
            code = _copies([bytes_of[file] for file in files])
            found[code, listing, label] = {members[0] for members in files.values()}
    return found


def _of_parts(rows: Rows, group: np.ndarray, bytes_of: Sequence[str]) -> dict[_Key, set[int]]:
    """Rows are related where their parts overlap."""
    found: dict[_Key, set[int]] = {}
    for one, other in _overlapping(rows, group):
        for key in _between(rows, bytes_of, one, other):
            found.setdefault(key, set()).update((one, other))
    return found


def _overlapping(rows: Rows, group: np.ndarray) -> Iterator[tuple[int, int]]:
    active: list[int] = []
    for row in group[np.lexsort([group, rows.starts[group]])].tolist():
        active = [other for other in active if rows.ends[other] > rows.starts[row]]
        yield from ((other, row) for other in active)
        active.append(row)


def _between(rows: Rows, bytes_of: Sequence[str], one: int, other: int) -> Iterator[_Key]:
    """The code words that hold between two rows."""
    listing, second = sorted((int(rows.listings[one]), int(rows.listings[other])))
    same_label = rows.labels[one] == rows.labels[other]
    if not same_label:
        yield "two-labels", 0, 0
    if listing != second:
        yield ("train-test" if listing == 0 else "val-test"), 0, 0
    elif same_label:
        file, copy = int(rows.files[one]), int(rows.files[other])
        if file == copy:
            yield "listed-twice", listing, file
        else:
            yield _copies([bytes_of[file], bytes_of[copy]]), listing, int(rows.labels[one])


def _copies(contents: Sequence[str]) -> str:
    """The code word of different files with the same pictures."""
    return "same-bytes" if contents[0] and len(set(contents)) == 1 else "same-pictures"

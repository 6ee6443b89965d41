"""Which samples show the same pictures, and what that means, worked out by hand."""

import numpy as np
import pytest

from m2clip.check.relations import Rows, relations

INFINITY = float("inf")


def rows(*listed: tuple[int, int, int] | tuple[int, int, int, float, float]) -> Rows:
    """Rows of (list, file, label) or (list, file, label, start, end)."""
    full = [(*row, 0.0, INFINITY)[:5] for row in listed]
    listings, files, labels, starts, ends = zip(*full, strict=True)
    return Rows(np.array(listings), np.array(files), np.array(labels), np.array(starts), np.array(ends))


def test_one_file_under_two_labels_and_in_two_lists() -> None:
    table = rows((0, 0, 1), (0, 1, 1), (0, 0, 2), (1, 1, 1), (2, 1, 1))
    assert list(relations(table, ["p", "q"], ["x", "y"])) == [
        ("two-labels", [0, 2]),
        ("train-test", [1, 3, 4]),
        ("val-test", [3, 4]),
    ]


def test_copies_are_told_by_bytes_and_by_pictures() -> None:
    table = rows((0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 3, 0), (0, 4, 0), (0, 5, 0))
    found = list(relations(table, ["a", "a", "b", "b", "", ""], ["1", "1", "2", "3", "", ""]))
    assert found == [("same-bytes", [0, 1]), ("listed-twice", [3, 4]), ("same-pictures", [2, 3])]


def test_what_could_not_be_read_is_like_itself_only() -> None:
    table = rows((0, 0, 0), (0, 1, 1), (0, 1, 0))
    assert list(relations(table, ["", ""], ["same", "same"])) == [("two-labels", [1, 2])]


def test_parts_are_related_where_they_overlap() -> None:
    table = rows((0, 0, 0, 0, 5), (0, 0, 1, 5, 9), (0, 0, 0, 4, 6), (1, 0, 0, 20, INFINITY), (1, 0, 0, 8.5, 21))
    assert list(relations(table, ["p"], ["x"])) == [
        ("listed-twice", [0, 2]),
        ("two-labels", [1, 2, 4]),  # 1 and 2 from 5 to 6, 1 and 4 from 8.5 to 9
        ("train-test", [1, 4]),
        ("listed-twice", [3, 4]),
    ]


@pytest.mark.parametrize("part", [(), (1.0, INFINITY)])
def test_both_ways_agree(part: tuple[float, ...]) -> None:
    """Whole videos are grouped in linear time; the same rows as parts that all overlap are compared in pairs."""
    rng = np.random.default_rng(0)
    listed = [(int(rng.integers(3)), int(rng.integers(6)), int(rng.integers(2)), *part) for _ in range(14)]
    found = {(code, tuple(members)) for code, members in relations(rows(*listed), list("aaabbc"), list("112345"))}
    whole = [row[:3] for row in listed]
    expected = {(code, tuple(members)) for code, members in relations(rows(*whole), list("aaabbc"), list("112345"))}
    simple = {"two-labels", "train-test", "val-test", "listed-twice"}
    assert {one for one in found if one[0] in simple} == {one for one in expected if one[0] in simple}
    assert {one[0] for one in found} == {one[0] for one in expected}


def test_a_hundred_thousand_copies_of_one_picture() -> None:
    """Comparing pairs would take hours."""
    count = 100_000
    table = Rows(
        np.zeros(count, np.int64), np.arange(count), np.arange(count) % 2, np.zeros(count), np.full(count, INFINITY)
    )
    found = list(relations(table, ["black"] * count, [str(i) for i in range(count)]))
    assert [(code, len(members)) for code, members in found] == [
        ("two-labels", count),
        ("same-pictures", count // 2),
        ("same-pictures", count // 2),
    ]

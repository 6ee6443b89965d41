"""Samples as columns."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m2clip.data.classes import ClassTable
from m2clip.data.lists.listed_places import ListedPlaces
from m2clip.data.manifest import read_manifest
from m2clip.data.places import WebAddress
from m2clip.data.samples import ListedLines, Sample, Samples

ROWS = (
    Sample(Path("a.mp4"), 1, None, 2.5, "list.csv:2"),
    Sample(WebAddress("https://example.org/b.mp4"), 0, 0.0, None, "list.csv:4"),
    Sample(Path("c.mp4"), 1, None, None, "list.csv:5"),
)


def test_what_goes_in_comes_out() -> None:
    samples = Samples.of(ROWS)
    assert list(samples) == list(ROWS)
    assert samples == ROWS
    assert samples != ROWS[:2]
    assert samples[-1] == ROWS[2]
    assert samples[1:] == ROWS[1:]
    assert samples[::-1] == ROWS[::-1]
    assert samples.take(np.array([2, 0])) == (ROWS[2], ROWS[0])
    assert samples.take(np.array([2, 0]))[1:].take(np.array([0])) == (ROWS[0],)
    assert (samples.labels.dtype, samples.labels.tolist()) == (np.int64, [1, 0, 1])
    assert samples.counts(3).tolist() == [1, 2, 0]
    assert Samples.of(()) == ()
    for outside in (3, -4):
        with pytest.raises(IndexError):
            samples[outside]


def test_parts_without_bounds_are_the_whole_video() -> None:
    start, end = Samples.of(ROWS).bounds()
    assert start.tolist() == [0, 0, 0]
    assert end.tolist() == [2.5, np.inf, np.inf]
    assert [bound.tolist() for bound in Samples.of(ROWS[2:]).bounds()] == [[0], [np.inf]]


def test_samples_travel_to_another_process() -> None:
    texts = pa.chunked_array([["a.mp4"], ["sub/é.mp4", "c.mp4"]])
    labels = np.array([2, 0, 1])
    listed = Samples(ListedPlaces(Path("/videos"), texts, labels), labels, wheres=ListedLines("l.txt", np.arange(1, 4)))
    for samples in (listed, listed.take(np.array([2, 1])), Samples.of(ROWS)):
        assert pickle.loads(pickle.dumps(samples)) == samples
    assert listed[1] == Sample(Path("/videos/sub/é.mp4"), 0, None, None, "l.txt:2")


@pytest.mark.parametrize("form", ["list", "csv"])
def test_200_000_rows_make_no_object_each(tmp_path: Path, form: str) -> None:
    """The smallest object of Python takes 16 bytes or more and a pointer to it 8: 24 bytes a row beside the columns."""
    count = 200_000
    sign, head = (" ", "") if form == "list" else (",", "path,label\n")
    path = tmp_path / f"long.{'txt' if form == 'list' else 'csv'}"
    path.write_text(head + "".join(f"v/{n:06d}.mp4{sign}{n % 2}\n" for n in range(count)))
    tracemalloc.start()
    try:
        manifest = read_manifest(path, classes=ClassTable(("a", "b")))
        held, _ = tracemalloc.get_traced_memory()  # NumPy's columns count, those of Arrow do not
    finally:
        tracemalloc.stop()
    assert manifest.samples.labels.sum() == count // 2
    assert held < count * (8 + 4) + 1_000_000  # a label and a line number
    assert manifest.samples.places.texts.nbytes < count * (12 + 4) + 1_000_000  # text and where it begins
    assert manifest.samples[199_999] == Sample(
        tmp_path / "v/199999.mp4", 1, None, None, f"{path}:{count + (form == 'csv')}"
    )

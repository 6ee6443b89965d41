"""Tables of samples in Parquet."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.lists import parquet_rows
from m2clip.data.manifest import read_manifest
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import CLASSES, refused


def write(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "list.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_table_is_what_the_same_csv_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType) -> None:
    monkeypatch.setattr(parquet_rows, "_TOGETHER", 2)
    columns = {
        "split": ["x"] * 5,
        "Path": pa.array(["v/a b.mp4", "é, 1.mp4", " c.mp4", "v/a b.mp4", "d.mp4"]).cast(kind),
        "label": pa.array(["None", "a, b", "jump ", "a,_b", "jump"]).cast(kind),
        "start_seconds": [None, 1.5, float("nan"), 0.0, None],
        "end_seconds": pa.array([None, 2, None, None, 3], pa.int32()),
    }
    table = write(tmp_path, columns, row_group_size=3)
    listed = tmp_path / "list.csv"
    listed.write_text(
        "path,label,start_seconds,end_seconds\n"
        'v/a b.mp4,None,,\n"é, 1.mp4","a, b",1.5,2\n c.mp4,jump ,,\nv/a b.mp4,"a,_b",0,\nd.mp4,jump,,3\n'
    )
    one, other = (read_manifest(path, classes=CLASSES).samples for path in (table, listed))
    assert [(s.path, s.label, s.start_seconds, s.end_seconds) for s in one] == [
        (s.path, s.label, s.start_seconds, s.end_seconds) for s in other
    ]
    assert [s.where for s in one] == [f"{table}:{row}" for row in range(1, 6)]
    assert "list.parquet:4: the class 'a,_b' stands as 'a, b' at" in refused(table, None)
    assert read_manifest(table, classes=CLASSES).sha256 == hashlib.sha256(table.read_bytes()).hexdigest()


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    path = write(tmp_path, {"path": ["a.mp4", "b.mp4"], "label": [2, 0]})
    assert read_manifest(path, classes=CLASSES).samples.labels.tolist() == [2, 0]
    with pytest.raises(ManifestError, match=r"list\.parquet:1: the labels are ids \('2'\)"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"path": ["a"], "class": ["x"]}, ["lacks label"]),
        ({"path": ["a"], "label": [1.0]}, ["the column label has the type double", "whole numbers"]),
        ({"path": [b"a"], "label": ["x"]}, ["the column path has the type binary", "text"]),
        ({"path": ["a"], "label": ["jump"], "end_seconds": ["5"]}, ["end_seconds has the type string", "numbers"]),
        ({"path": ["a"], "label": ["jump"], "end": [5.0]}, ["unknown column 'end'", "'end_seconds'"]),
        ({"path": ["a", None], "label": ["jump", "jump"]}, ["list.parquet:2", "the path is empty"]),
        ({"path": ["a", "b"], "label": [0, None]}, ["list.parquet:2", "the label is empty"]),
        ({"path": ["a", "b\nc"], "label": [0, 0]}, ["list.parquet:2", "goes over lines"]),
        ({"path": ["a", "b\0"], "label": [0, 0]}, ["list.parquet:2"]),
        ({"path": ["a", "b"], "label": [0, 3]}, ["list.parquet:2", "label 3 is out of range 0..2"]),
        ({"path": ["a"], "label": [0], "start_seconds": [-1.0]}, ["list.parquet:1", "start_seconds is -1.0"]),
        ({"path": ["a"], "label": [0], "end_seconds": [float("inf")]}, ["list.parquet:1", "end_seconds is inf"]),
        ({"path": ["a"], "label": [0], "start_seconds": [2.0], "end_seconds": [2.0]}, ["list.parquet:1", "end later"]),
        ({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}, ["lists no video"]),
    ],
)
def test_bad_tables_name_the_row_and_the_remedy(tmp_path: Path, columns: dict[str, Any], words: list[str]) -> None:
    message = refused(write(tmp_path, columns))
    for word in words:
        assert word in message


def test_one_cell_that_stands_for_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_SMALL", 1 << 20)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["a" * 50_000])
    assert "holds over" in refused(write(tmp_path, {"path": long, "label": [0] * 10_000}))  # 500 MB from 1 kB
    many = pa.array(["a"] * 5_000_000).dictionary_encode()
    assert "holds over" in refused(write(tmp_path, {"path": many, "label": pa.array([0] * 5_000_000)}))


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    assert "does not exist" in refused(path)
    path.mkdir()
    with pytest.raises(ManifestError, match="holds no video"):
        read_manifest(path)


@settings(max_examples=100)
@given(st.data())
def test_any_damage_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = write(tmp_path_factory.mktemp("t"), {"path": ["a.mp4", "b.mp4"] * 20, "label": [0, 2] * 20})
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    sentence = str(path)
    try:
        assert list(read_manifest(path, classes=CLASSES).samples)
    except ManifestError as error:
        sentence = str(error)
    assert str(path) in sentence
    assert "\n" not in sentence

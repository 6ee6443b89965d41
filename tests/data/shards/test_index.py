"""The index of shards: it says what was packed, and a broken or hostile one is refused in one sentence."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2clip.data.classes import ClassTable
from m2clip.data.places import ShardMember
from m2clip.data.samples import Sample
from m2clip.data.shards import index as shard_index
from m2clip.data.shards.index import INDEX, read_index, write_index
from m2clip.data.shards.reading import read_shards
from m2clip.errors import ManifestError

SHARDS = [{"name": "a.tar", "size": 10240, "sha256": "a" * 64}, {"name": "b.tar", "size": 20480, "sha256": "b" * 64}]
CLASSES = ClassTable(("None", "007"), (("nothing",), ()))


def columns(**changed: list[Any]) -> dict[str, list[Any]]:
    rows = {
        "shard": [0, 1, 1], "member": ["0.mp4", "1.avi", "1.avi"], "offset": [512, 512, 512], "size": [100, 200, 200],
        "label": [0, 1, 0], "start_seconds": [None, 0.5, 2.0], "end_seconds": [None, 2.0, None],
        "source": ["x/0.mp4", "x/1.avi", "x/1.avi"], "sha256": ["0" * 64] * 3,
    }  # fmt: skip
    return {**rows, **changed}


def write(
    folder: Path, *, rows: dict[str, list[Any]] | None = None, shards: Any = SHARDS, classes: Any = CLASSES
) -> Path:
    path = folder / INDEX
    with open(path, "wb") as file:
        write_index(file, rows or columns(), shards, classes)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    found = read_index(str(path))
    a, b = (
        ShardMember(f"{tmp_path}/{n}.tar", name, 512, size, n * 64)
        for n, name, size in (("a", "0.mp4", 100), ("b", "1.avi", 200))
    )
    assert found.samples == [
        Sample(a, 0, None, None, f"{path}:1"), Sample(b, 1, 0.5, 2.0, f"{path}:2"), Sample(b, 0, 2.0, None, f"{path}:3"),
    ]  # fmt: skip
    assert found.classes == CLASSES
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    again = io.BytesIO()
    write_index(again, columns(), SHARDS, CLASSES)
    assert again.getvalue() == path.read_bytes()


def test_samples_without_parts_have_no_columns_of_times(tmp_path: Path) -> None:
    nothing = [None] * 3
    samples = read_index(str(write(tmp_path, rows=columns(start_seconds=nothing, end_seconds=nothing)))).samples
    assert samples.start_seconds is None
    assert samples.end_seconds is None


def test_classes_by_their_names(tmp_path: Path) -> None:
    """An index counts its own classes; the splits of one data set must count alike."""
    write(tmp_path)
    found = read_shards(tmp_path, classes=ClassTable(("other", "007", "none")))
    assert found.samples.labels.tolist() == [2, 1, 2]
    assert found.classes.names == ("other", "007", "none")
    with pytest.raises(ManifestError, match=r"shards\.parquet: unknown class 'None': the 2 classes are 'other', '007'"):
        read_shards(tmp_path, classes=ClassTable(("other", "007")))
    write(tmp_path, rows=columns(label=[1, 1, 1]))  # a class that no sample has need not be known
    assert read_shards(tmp_path, classes=ClassTable(("other", "007"))).samples.labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"shard": [0, 1, 2]}, "row 3 names a shard that the index lacks"),
        ({"shard": [0, -1, 1]}, "row 2 names a shard that the index lacks"),
        ({"label": [0, 2, 0]}, "row 2 has a label that names no class"),
        ({"label": [-1, 0, 0]}, "row 1 has a label that names no class"),
        ({"label": [None, 0, 0]}, "a row lacks its label or its place"),
        ({"member": [None, "a", "a"]}, "a row lacks the name of its member"),
        ({"offset": [10239, 512, 512], "size": [2, 1, 1]}, "row 1 lies outside of its shard"),
        ({"offset": [2**63 - 1, 512, 512]}, "row 1 lies outside of its shard"),
        ({"offset": [-1, 512, 512]}, "row 1 lies outside of its shard"),
        ({"size": [100, -200, 200]}, "row 2 lies outside of its shard"),
        ({"start_seconds": [None, 2.0, 2.0]}, "row 2 has a part that ends before it starts"),
        ({"start_seconds": [-1.0, 0.5, 2.0]}, "row 1 has a part that ends before it starts"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, changed: dict[str, list[Any]], sentence: str) -> None:
    path = write(tmp_path, rows=columns(**changed))
    with pytest.raises(ManifestError, match=sentence) as caught:
        read_index(str(path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "name",
    [
        "../a.tar",
        "/etc/passwd",
        "",
        ".",
        "..",
        "a/b.tar",
        "a\\b.tar",
        "https://host.example/a.tar",
        "a.tar?x",
        7,
        None,
        "a\nb.tar",
        "\x1b[2J.tar",
        "x" * 252 + ".tar",
    ],
)
def test_an_index_points_at_nothing_but_its_neighbours(tmp_path: Path, name: Any) -> None:
    path = write(tmp_path, shards=[{**SHARDS[0], "name": name}, SHARDS[1]])
    with pytest.raises(ManifestError, match="is no name of a shard beside the index"):
        read_index(str(path))


def with_head(path: Path, head: bytes) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"m2clip": head}), path)


def test_the_name_of_a_shard_is_text(tmp_path: Path) -> None:
    path = write(tmp_path)
    with_head(path, pq.read_schema(path).metadata[b"m2clip"].replace(b'"a.tar"', b'"\\ud800.tar"'))
    with pytest.raises(ManifestError, match="is no name of a shard beside the index"):
        read_index(str(path))


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (b"{", "is no index of shards"),
        (b"[]", "is an index of the form"),
        (b'{"format": 1' + b"0" * 400 + b"}", r"is an index of the form '10{79}'\.\.\., and this"),
        (b'{"format": 99}', "is an index of the form '99', and this version reads form 1"),
        (b'{"format": 1}', "its list of shards is broken"),
        (b'{"format": 1, "shards": [5]}', "its list of shards is broken"),
        (b'{"format": 1, "shards": [], "classes": []}', "its classes cannot be used"),
        (b'{"format": 1, "shards": [], "classes": ["\\ud800"], "texts": []}', "holds half of a character"),
        (b'{"format": 1, "shards": [], "classes": ["a"], "texts": [["\\ud800"]]}', "holds half of a character"),
        (b'{"format": 1, "shards": [], "classes": [], "texts": []}', "its classes cannot be used"),
        (b'{"format": 1, "shards": [], "classes": [5], "texts": []}', "its classes cannot be used"),
        (b'{"format": 1, "shards": [], "classes": ["a", "b"], "texts": []}', "row 1 names a shard"),
    ],
)
def test_heads_that_cannot_be(tmp_path: Path, head: bytes, sentence: str) -> None:
    path = write(tmp_path)
    with_head(path, head)
    with pytest.raises(ManifestError, match=sentence) as caught:
        read_index(str(path))
    assert "\n" not in str(caught.value)


def test_other_parquet_files_are_none(tmp_path: Path) -> None:
    path = tmp_path / INDEX
    pq.write_table(pa.table({"path": ["a.mp4"], "label": [0]}), path)
    with pytest.raises(ManifestError, match="is a Parquet file but no index of shards"):
        read_index(str(path))
    write(tmp_path)
    pq.write_table(pq.read_table(path).drop_columns(["offset"]), path)
    with pytest.raises(ManifestError, match="is no index of shards"):
        read_index(str(path))
    path.unlink()
    with pytest.raises(ManifestError, match="does not exist: check the path"):
        read_index(str(path))


def test_broken_files_end_in_our_sentence(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    read = 0
    for trial in range(150):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=1 + trial % 9):
            data[place] = rng.integers(256)
        if trial % 3 == 0:
            data = data[: rng.integers(len(data))]
        path.write_bytes(data)
        try:
            read_index(str(path))
            read += 1
        except ManifestError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert read < 100


def test_few_bytes_cannot_promise_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_index, "_MOST_ROWS", 2)
    with pytest.raises(ManifestError, match="has more than 2 rows"):
        read_index(str(write(tmp_path)))


@pytest.mark.parametrize("size", [-1, 2**63, 10**400, 2.5, None])
def test_sizes_of_shards_that_cannot_be(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ManifestError, match=r"'a\.tar' is no name of a shard beside the index"):
        read_index(str(write(tmp_path, shards=[{**SHARDS[0], "size": size}, SHARDS[1]])))


def test_few_bytes_do_not_stand_for_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are all the same take no room in a Parquet file, and one long name that stands in all of them neither."""
    monkeypatch.setattr(shard_index, "_SMALL", 1 << 20)

    def same(count: int, name: str) -> Path:
        row = {key: [column[0]] * count for key, column in columns(member=[name] * 3).items()}
        return write(tmp_path, rows=row)

    assert len(read_index(str(same(1000, "0.mp4"))).samples) == 1000
    many = same(200_000, "0.mp4")
    assert many.stat().st_size < 20_000
    with pytest.raises(ManifestError, match="stands for over 1 MiB in so small a file"):
        read_index(str(many))
    with pytest.raises(ManifestError, match="stands for over 1 MiB in so small a file"):
        read_index(str(same(1000, "x" * 10_000)))


def test_a_million_rows_are_columns(tmp_path: Path) -> None:
    count = 10**6
    n = np.arange(count)
    rows: dict[str, Any] = {
        "shard": n // 500_000, "member": pa.array(n).cast(pa.string()), "offset": np.full(count, 512), "size": np.full(count, 9),
        "label": n % 2, "start_seconds": None, "end_seconds": None, "source": None, "sha256": None,
    }  # fmt: skip
    rows |= {name: pa.nulls(count) for name, column in rows.items() if column is None}
    found = read_index(str(write(tmp_path, rows=rows))).samples
    assert len(found) == count
    assert found[999_999].path == ShardMember(f"{tmp_path}/b.tar", "999999", 512, 9, "b" * 64)
    head = json.loads(pq.read_schema(tmp_path / INDEX).metadata[b"m2clip"])
    assert head["shards"] == SHARDS

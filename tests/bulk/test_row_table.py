"""Tables of bulk work from strangers: what stands for more than the file can hold is refused before it is written out."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2clip.bulk import row_table
from m2clip.bulk.row_table import FILE_FIELDS, RowTable
from m2clip.errors import ConfigError

SCHEMA = pa.schema(list(FILE_FIELDS), metadata={b"m2clip": b"x"})


def written(path: Path, paths: list[str]) -> Path:
    columns = {field.name: [None] * len(paths) for field in SCHEMA}
    columns |= {"path": paths, "duration_seconds": [1.5] * len(paths), "lost_frames": [0] * len(paths)}
    pq.write_table(pa.table(columns, schema=SCHEMA), path)
    return path


def test_rows_come_as_they_were_written(tmp_path: Path) -> None:
    paths = ["a.mp4", "é.mp4", "", "a.mp4"]
    with RowTable(written(tmp_path / "x.parquet", paths), command="embed") as table:
        table.need_columns(SCHEMA)
        (batch,) = table.batches()
        assert batch.schema.equals(SCHEMA, check_metadata=True)
        assert batch.column("path").to_pylist() == paths
        (some,) = table.batches(["duration_seconds", "path"])
        assert set(some.schema.names) == {"path", "duration_seconds"}


def test_one_long_text_in_all_rows_is_not_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_table, "_MOST_TEXT", 1 << 20)
    path = written(tmp_path / "x.parquet", ["x" * 10_000] * 1000)
    assert path.stat().st_size < 20_000
    with (
        RowTable(path, command="embed") as table,
        pytest.raises(ConfigError, match="holds texts that no table has, over 1 MiB in a few rows; make it again"),
    ):
        list(table.batches())

"""The Parquet files of bulk work: which columns they have, what they say of what made them, and how they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m2clip.errors import ConfigError, first_line

FILE_FIELDS = (
    pa.field("path", pa.string(), nullable=False),
    pa.field("start_seconds", pa.float64()),
    pa.field("end_seconds", pa.float64()),
    pa.field("size_bytes", pa.int64()),
    pa.field("mtime_ns", pa.int64()),
    pa.field("duration_seconds", pa.float64()),
    pa.field("lost_frames", pa.int64()),
)
"""The first columns of each table: what a row is of."""
KEY_COLUMNS = ("path", "start_seconds", "end_seconds", "size_bytes", "mtime_ns")
ROWS_AT_A_TIME = 8192
_MOST_TEXT = 256 << 20  # bytes of a column in as many rows: 32 kB a path, the longest that any system has


@dataclass(frozen=True)
class FileRow:
    """The video, or the part of one, that a row is of."""

    path: str
    start_seconds: float | None
    end_seconds: float | None
    size_bytes: int | None
    """Of the file when it was read; None for what lies on the web."""
    mtime_ns: int | None
    """When the file was written last, as it said when it was read."""
    duration_seconds: float
    lost_frames: int


def file_columns(rows: Sequence[FileRow]) -> dict[str, list[Any]]:
    """The first columns of a table of these rows, by name."""
    return {field.name: [getattr(row, field.name) for row in rows] for field in FILE_FIELDS}


class TableForm(Protocol):
    """What the tables of one kind of work, by one model, have in common."""

    @property
    def schema(self) -> pa.Schema:
        """The columns: FILE_FIELDS, then others; its metadata tell what made the rows."""

    @property
    def repeated(self) -> Sequence[str]:
        """Columns of text that have few different values."""

    @property
    def by_path(self) -> bool:
        """Whether all rows of a path belong together; else its rows are told apart by their times."""

    def check(self, table: "RowTable", *, parts: Path) -> None:
        """Raise ConfigError where a table is of other columns, work or model; `parts` is the folder of its unfinished rows."""


class RowTable:
    """A table on disk, read a few thousand rows at a time. ConfigError where it is none, or is broken.

    `command` is the one that makes such tables, for what is said where there is none.
    """

    def __init__(self, path: Path, *, command: str) -> None:
        self.path, self.command = path, command
        try:
            with pq.ParquetFile(path) as file:
                self.schema: pa.Schema = file.schema_arrow
            texts = [field.name for field in self.schema if pa.types.is_string(field.type)]
            self._file = pq.ParquetFile(path, read_dictionary=texts)
        except FileNotFoundError:
            raise ConfigError(f"{path} is not there: make it with m2clip {command} SOURCE --out {path}") from None
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(
                f"{path} is no Parquet file that can be read ({first_line(error)[:200]}); make it again"
            ) from None

    def need_columns(self, schema: pa.Schema) -> None:
        """Raise ConfigError where the columns are others."""
        if not self.schema.equals(schema):
            raise ConfigError(
                f"{self.path} is no table of m2clip {self.command}: its columns are others; make it again"
            )

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows in order, at most ROWS_AT_A_TIME at once."""
        try:
            for batch in self._file.iter_batches(ROWS_AT_A_TIME, columns=columns):
                yield self._written_out(batch)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{self.path} is damaged ({first_line(error)[:200]}); make it again") from None

    def _written_out(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """With text in place of dictionaries, which let one long text stand in all rows of a small file."""
        batch.validate(full=True)
        plain = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_dictionary(column.type):
                lengths = pc.binary_length(column.dictionary).take(column.indices).cast(pa.int64())
                if (pc.sum(lengths).as_py() or 0) > _MOST_TEXT:
                    raise ConfigError(
                        f"{self.path} holds texts that no table has, over {_MOST_TEXT >> 20} MiB in a few rows; make it again"
                    )
                column = column.cast(self.schema.field(name).type)
            plain.append(column)
        return pa.RecordBatch.from_arrays(
            plain, schema=pa.schema([self.schema.field(name) for name in batch.schema.names], self.schema.metadata)
        )

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The Parquet file of embeddings: its columns, what it says of their model, and what identifies a row."""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m2clip.bulk.source_model import METADATA_KEY, SourceModel
from m2clip.errors import ConfigError

KEY_COLUMNS = ("path", "start_seconds", "end_seconds", "size_bytes", "mtime_ns")
ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class VectorRow:
    """One embedding, and what it is of."""

    path: str
    start_seconds: float | None
    end_seconds: float | None
    size_bytes: int | None
    """Of the file when it was read; None for what lies on the web."""
    mtime_ns: int | None
    """When the file was written last, as it said when it was read."""
    duration_seconds: float
    lost_frames: int
    vector: NDArray[np.float32]


def table_schema(source: SourceModel) -> pa.Schema:
    """The columns of a table of embeddings of dimension D = `source.dim`; its metadata hold the record of the model."""
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("start_seconds", pa.float64()),
            pa.field("end_seconds", pa.float64()),
            pa.field("size_bytes", pa.int64()),
            pa.field("mtime_ns", pa.int64()),
            pa.field("duration_seconds", pa.float64()),
            pa.field("lost_frames", pa.int64()),
            pa.field("model_id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), source.dim), nullable=False),
        ],
        metadata={METADATA_KEY: source.model_dump_json().encode()},
    )


def table_of(rows: Sequence[VectorRow], source: SourceModel) -> pa.Table:
    """These rows as a table."""
    vectors = np.stack([row.vector for row in rows]) if rows else np.zeros((0, source.dim), np.float32)
    plain = ("path", "start_seconds", "end_seconds", "size_bytes", "mtime_ns", "duration_seconds", "lost_frames")
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in plain}
    columns["model_id"] = [source.model_id] * len(rows)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), source.dim)
    return pa.table(columns, schema=table_schema(source))


class VectorTable:
    """A table of embeddings on disk, read a few thousand rows at a time. ConfigError where it is none, or is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise ConfigError(f"{path} is not there: make it with m2clip embed SOURCE --out {path}") from None
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{path} is no Parquet file that can be read ({_reason(error)}); make it again") from None
        schema = self._file.schema_arrow
        self.source = SourceModel.from_json((schema.metadata or {}).get(METADATA_KEY), where=str(path))
        if not schema.equals(table_schema(self.source)):
            raise ConfigError(f"{path} is no table of m2clip embed: its columns are others; make it again")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows in order, at most ROWS_AT_A_TIME at once."""
        try:
            yield from self._file.iter_batches(ROWS_AT_A_TIME, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{self.path} is damaged ({_reason(error)}); make it again") from None

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def row_ids(batch: pa.RecordBatch) -> list[str]:
    """What names each row of a batch: a hash of path, start and end, 32 hex digits."""
    columns = [batch.column(name).to_pylist() for name in ("path", "start_seconds", "end_seconds")]
    return [_row_id(*cells) for cells in zip(*columns, strict=True)]


def _row_id(path: str, start_seconds: float | None, end_seconds: float | None) -> str:
    nan = float("nan")
    times = struct.pack(
        "<dd", nan if start_seconds is None else start_seconds, nan if end_seconds is None else end_seconds
    )
    return hashlib.sha256(times + path.encode()).hexdigest()[:32]


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]

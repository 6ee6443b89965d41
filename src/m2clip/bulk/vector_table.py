"""The Parquet file of embeddings: its columns, what it says of their model, and what identifies a row."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m2clip.bulk.row_table import FILE_FIELDS, FileRow, RowTable, file_columns
from m2clip.bulk.source_model import METADATA_KEY, SourceModel
from m2clip.errors import ConfigError


@dataclass(frozen=True)
class VectorRow(FileRow):
    """One embedding, and what it is of."""

    vector: NDArray[np.float32]


def table_schema(source: SourceModel) -> pa.Schema:
    """The columns of a table of embeddings of dimension D = `source.dim`; its metadata hold the record of the model."""
    return pa.schema(
        [
            *FILE_FIELDS,
            pa.field("model_id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), source.dim), nullable=False),
        ],
        metadata={METADATA_KEY: source.model_dump_json().encode()},
    )


def table_of(rows: Sequence[VectorRow], source: SourceModel) -> pa.Table:
    """These rows as a table."""
    vectors = np.stack([row.vector for row in rows]) if rows else np.zeros((0, source.dim), np.float32)
    columns: dict[str, Any] = file_columns(rows)
    columns["model_id"] = [source.model_id] * len(rows)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), source.dim)
    return pa.table(columns, schema=table_schema(source))


class VectorTable(RowTable):
    """A table of embeddings on disk. ConfigError where it is none, or is broken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, command="embed")
        self.source = source_of_table(self)


def source_of_table(table: RowTable) -> SourceModel:
    """The model behind a table of embeddings. ConfigError where it is none."""
    source = SourceModel.from_json((table.schema.metadata or {}).get(METADATA_KEY), where=str(table.path))
    table.need_columns(table_schema(source))
    return source


@dataclass(frozen=True)
class VectorForm:
    """Tables of embeddings by one model."""

    source: SourceModel
    repeated = ("model_id",)

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return table_schema(self.source)

    @property
    def by_path(self) -> bool:
        """Stretches of a video belong together."""
        return self.source.every_seconds is not None

    def check(self, table: RowTable, *, parts: Path) -> None:
        """Raise ConfigError where a table is of another model or of stretches of another length."""
        found, own = source_of_table(table), self.source
        if found.model_id != own.model_id:
            raise ConfigError(
                f"{table.path} holds embeddings of another model ({found.checkpoint}, strength {found.strength:g}, "
                f"{found.precision}) or of other clips: give another file, or delete it and {parts}"
            )
        if found.every_seconds != own.every_seconds:
            was = "whole videos" if found.every_seconds is None else f"stretches of {found.every_seconds:g} s"
            raise ConfigError(f"{table.path} holds embeddings of {was}: ask for the same, or give another file")


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

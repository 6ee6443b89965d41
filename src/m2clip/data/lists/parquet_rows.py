"""A Parquet table of samples -> rows `path label`."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m2clip.data.lists.listed_rows import PATH_LABEL, TIMES, Rows, check_row
from m2clip.data.lists.text_files import check_columns
from m2clip.errors import ManifestError

PARQUET = ".parquet"
_TOGETHER = 1 << 18  # rows
# What a table may take in memory, in bytes for each one of the file and beside that: a few kB can stand for gigabytes.
_UNPACKED, _SMALL = 50, 256 << 20
_ROW = 16  # bytes beside the text: a label and where things begin


class ParquetTable:
    """A table with the columns path and label, and maybe start_seconds and end_seconds; other columns are not read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def rows(self) -> Iterator[Rows]:
        """Yield the rows, which count from 1 as lines do. Raises ManifestError."""
        try:
            yield from self._rows()
        except FileNotFoundError:
            raise ManifestError(f"{self.path} does not exist: check the path") from None
        except PermissionError as error:
            raise ManifestError(f"{self.path} cannot be read ({error.strerror}): check its permissions") from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(f"{self.path} is no whole Parquet file ({reason}): write it anew") from None

    def _rows(self) -> Iterator[Rows]:
        if self.path.exists() and not self.path.is_file():
            raise ManifestError(f"{self.path} is no regular file: give a file that can be read twice")
        with pq.ParquetFile(self.path) as file:
            column_of = {name.lower(): name for name in file.schema_arrow.names}
            check_columns(str(self.path), [name.lower() for name in file.schema_arrow.names], PATH_LABEL, TIMES)
            types = {name: file.schema_arrow.field(column_of[name]).type for name in column_of}
            self._check_types(types)
        limit = _SMALL + _UNPACKED * self.path.stat().st_size
        names = [name for name in (*PATH_LABEL, *TIMES) if name in column_of]
        texts = [column_of[name] for name in PATH_LABEL if not pa.types.is_integer(types[name])]
        first = 1
        # Text comes as a dictionary: one long cell that stands in all rows is then measured before it is written out.
        with pq.ParquetFile(self.path, read_dictionary=texts) as file:
            held = _ROW * file.metadata.num_rows
            self._check_size(held, limit)
            columns = [column_of[name] for name in names]
            for batch in file.iter_batches(_TOGETHER, columns=columns, use_threads=False):
                batch.validate(full=True)  # what follows takes UTF-8, and a dictionary's indices, on trust
                cells = {name: batch.column(column_of[name]) for name in names}
                held += sum(map(_text_bytes, cells.values()))
                self._check_size(held, limit)
                if batch.num_rows:
                    yield self._checked(cells, first + np.arange(batch.num_rows))
                first += batch.num_rows

    def _check_size(self, size: int, limit: int) -> None:
        if size > limit:
            raise ManifestError(f"{self.path} holds over {limit >> 20} MiB of text in so small a file: split the list")

    def _check_types(self, types: dict[str, pa.DataType]) -> None:
        for name, allowed, wish in (
            ("path", (_is_text,), "text"),
            ("label", (_is_text, pa.types.is_integer), "text or whole numbers"),
            *((time, (pa.types.is_floating, pa.types.is_integer, pa.types.is_null), "numbers") for time in TIMES),
        ):
            if name in types and not any(fits(types[name]) for fits in allowed):
                raise ManifestError(f"{self.path}: the column {name} has the type {types[name]}: write {wish}")

    def _checked(self, cells: dict[str, pa.Array], rows: np.ndarray) -> Rows:
        path, label = (pc.utf8_trim_whitespace(_text(cells[name])) for name in PATH_LABEL)
        start, end = (_seconds(cells[name]) if name in cells else None for name in TIMES)
        doubtful = np.zeros(len(rows), bool)
        for text in (path, label):
            doubtful |= _mask(pc.or_(pc.equal(text, ""), pc.match_substring_regex(text, "[\\n\\r\\x00]")))
        for column in (start, end):
            if column is not None:
                doubtful |= ~(np.isnan(column) | (np.isfinite(column) & (column >= 0)))
        if end is not None:
            doubtful |= end <= (0.0 if start is None else np.nan_to_num(start, nan=0.0))
        for row in np.flatnonzero(doubtful)[:1].tolist():
            where = f"{self.path}:{rows[row]}"
            times: list[Any] = []
            for name, column in zip(TIMES, (start, end), strict=True):
                value = None if column is None or np.isnan(column[row]) else float(column[row])
                if value is not None and not 0 <= value < np.inf:
                    raise ManifestError(f"{where}: {name} is {value}: give seconds from 0 on, or leave the cell empty")
                times.append(value)
            check_row(where, path[row].as_py(), label[row].as_py(), *times)
        return Rows(path, label, rows, start, end)


def _is_text(kind: pa.DataType) -> bool:
    of = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(of) or pa.types.is_large_string(of)


def _text_bytes(cells: pa.Array) -> int:
    if not pa.types.is_dictionary(cells.type):
        return cells.nbytes
    return pc.sum(pc.binary_length(cells.dictionary).take(cells.indices).cast(pa.int64())).as_py() or 0


def _text(cells: pa.Array) -> pa.StringArray:
    text = cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
    return pc.fill_null(text.cast(pa.string()), "")


def _seconds(cells: pa.Array) -> np.ndarray | None:
    if cells.null_count == len(cells):
        return None
    column = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return None if np.isnan(column).all() else column


def _mask(cells: pa.BooleanArray) -> np.ndarray:
    return cells.to_numpy(zero_copy_only=False)

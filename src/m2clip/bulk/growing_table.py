"""A table of embeddings that grows while videos are read, and that a kill at any moment leaves whole.

New rows go into numbered parts in a folder beside the table, each written under another name first. At the end the table and its
parts become the new table in one step. Whatever ends a run before that, the next one finds the parts and goes on.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.vector_table import KEY_COLUMNS, VectorRow, VectorTable, table_of, table_schema
from m2clip.bulk.wanted_videos import Key, State
from m2clip.data.shards.file_lock import file_lock
from m2clip.errors import ConfigError
from m2clip.report.files import results_file, results_folder

PART_SECONDS = 30.0
"""How long rows wait in memory before they are written: what a kill costs."""
_PART_ROWS = 4096


class GrowingTable:
    """The table at `out` and the parts that are to go into it; for one process at a time.

    Raises ConfigError where the table is of another model or of stretches of another length, or is none.
    """

    def __init__(self, out: Path, source: SourceModel) -> None:
        self._out, self._source = out, source
        self._folder = results_file(out, ending=".parquet").with_name(out.name + ".parts")
        self._pending: list[VectorRow] = []
        self._last_write = time.monotonic()
        self._lock = ExitStack()
        results_folder(self._folder)
        try:
            self._lock.enter_context(file_lock(self._folder / "lock", wait=False))
        except BlockingIOError:
            raise ConfigError(f"{out} is being written by another process: wait until it has ended") from None
        try:
            self._read_keys()
        except BaseException:
            self._leave()
            raise

    def _read_keys(self) -> None:
        self._files = [self._out] if self._out.exists() else []
        self._files += sorted(self._folder.glob("*.parquet"))
        self._next_number = 1 + max([int(file.stem) for file in self._files if file != self._out], default=0)
        self._latest: dict[Key, tuple[int, State]] = {}
        for number, file in enumerate(self._files):
            with VectorTable(file) as table:
                self._need_same(table, file)
                for batch in table.batches(KEY_COLUMNS):
                    columns = (batch.column(name).to_pylist() for name in KEY_COLUMNS)
                    for path, start, end, size, mtime in zip(*columns, strict=True):
                        self._latest[self._key(path, start, end)] = (number, (size, mtime))

    def _need_same(self, table: VectorTable, file: Path) -> None:
        found, own = table.source, self._source
        if found.model_id != own.model_id:
            raise ConfigError(
                f"{file} holds embeddings of another model ({found.checkpoint}, strength {found.strength:g}, "
                f"{found.precision}) or of other clips: give another file, or delete it and {self._folder}"
            )
        if found.every_seconds != own.every_seconds:
            was = "whole videos" if found.every_seconds is None else f"stretches of {found.every_seconds:g} s"
            raise ConfigError(f"{file} holds embeddings of {was}: ask for the same, or give another file")

    def _key(self, path: str, start: float | None, end: float | None) -> Key:
        """Of a row: the stretches of a video belong together."""
        return (path, start, end) if self._source.every_seconds is None else (path, None, None)

    def has(self, key: Key, state: State | None) -> bool:
        """Whether a video is there, and was in this state when it was read."""
        return state is not None and key in self._latest and self._latest[key][1] == state

    def add(self, rows: Sequence[VectorRow]) -> None:
        """Take all rows of one video."""
        self._pending += rows
        if len(self._pending) >= _PART_ROWS or time.monotonic() - self._last_write >= PART_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what is in memory."""
        if self._pending:
            file = self._folder / f"{self._next_number:06d}.parquet"
            with _whole(file) as draft:
                pq.write_table(table_of(self._pending, self._source), draft, use_dictionary=["model_id"])
            for row in self._pending:
                key = self._key(row.path, row.start_seconds, row.end_seconds)
                self._latest[key] = (len(self._files), (row.size_bytes, row.mtime_ns))
            self._files.append(file)
            self._next_number += 1
            self._pending = []
        self._last_write = time.monotonic()

    def finish(self, is_wanted: Callable[[Key], bool]) -> tuple[int, int]:
        """Make the table out of all rows whose key `is_wanted`; returns how many it has, and how many videos were left out."""
        self.save()
        left_out = sum(not is_wanted(key) for key in self._latest)
        parts = [file for file in self._files if file != self._out]
        unchanged = self._files and not parts and not left_out
        count = self._count() if unchanged else self._write_table(is_wanted)
        for file in parts:
            file.unlink()
        return count, left_out

    def _count(self) -> int:
        with VectorTable(self._out) as table:
            return len(table)

    def _write_table(self, is_wanted: Callable[[Key], bool]) -> int:
        count = 0
        with (
            _whole(self._out) as draft,
            pq.ParquetWriter(draft, table_schema(self._source), use_dictionary=["model_id"]) as writer,
        ):
            for number, file in enumerate(self._files):
                with VectorTable(file) as table:
                    for batch in table.batches():
                        columns = (batch.column(name).to_pylist() for name in ("path", "start_seconds", "end_seconds"))
                        keys = [self._key(*cells) for cells in zip(*columns, strict=True)]
                        kept = [self._latest[key][0] == number and is_wanted(key) for key in keys]
                        rows = pa.Table.from_batches([batch]).filter(pa.array(kept, pa.bool_()))
                        writer.write_table(rows.replace_schema_metadata(writer.schema.metadata))
                        count += len(rows)
        return count

    def close(self) -> None:
        """Write what is in memory, let others in, and take the folder away if nothing is left in it."""
        try:
            self.save()
        finally:
            self._leave()

    def _leave(self) -> None:
        if not any(self._folder.glob("*.parquet*")):
            (self._folder / "lock").unlink(missing_ok=True)
            self._folder.rmdir()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _whole:
    """A file to write beside `path`, which takes its place when all of it is on the disk; after an error it is gone."""

    def __init__(self, path: Path) -> None:
        self._path, self._draft = path, path.with_name(path.name + ".draft")

    def __enter__(self) -> Path:
        return self._draft

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._draft.unlink(missing_ok=True)
            return
        with self._draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self._draft, self._path)

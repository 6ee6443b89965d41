"""A table that grows while videos are read, and that a kill at any moment leaves whole.

New rows go into numbered parts in a folder beside the table, each written under another name first. At the end the table and its
parts become the new table in one step. Whatever ends a run before that, the next one finds the parts and goes on. The keys of the rows
are the ledger: a video that comes twice counts once.
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2clip.bulk.row_table import KEY_COLUMNS, ROWS_AT_A_TIME, RowTable, TableForm
from m2clip.bulk.wanted_videos import Key, State, WantedVideos
from m2clip.data.shards.file_lock import file_lock
from m2clip.drafts import DRAFT, replacing
from m2clip.errors import ConfigError
from m2clip.report.files import results_file, results_folder

PART_SECONDS = 30.0
"""How long rows wait in memory before they are written: what a kill costs."""
_PART_ROWS = 4096


class GrowingTable:
    """The table at `out` and the parts that are to go into it; for one process at a time.

    Raises ConfigError where the table is of other work (`TableForm.check`), or is none. `command` makes such tables.
    """

    def __init__(self, out: Path, form: TableForm, *, command: str) -> None:
        self._out, self._form, self._command = out, form, command
        self._folder = results_file(out, ending=".parquet").with_name(out.name + ".parts")
        self._pending: list[pa.Table] = []
        self._last_write = time.monotonic()
        self._lock = ExitStack()
        try:
            self._take_lock()
        except BlockingIOError:
            raise ConfigError(f"{out} is being written by another process: wait until it has ended") from None
        try:
            self._read_keys()
        except BaseException:
            self._leave()
            raise

    def _take_lock(self) -> None:
        """Hold the lock file that lies in the folder, and not one that its last holder has just taken away."""
        lock = self._folder / "lock"
        while True:
            results_folder(self._folder)
            with suppress(FileNotFoundError):
                held = self._lock.enter_context(file_lock(lock, wait=False))
                if os.path.samestat(os.fstat(held), os.stat(lock)):
                    return
            self._lock.close()

    def _read_keys(self) -> None:
        for left in (*self._folder.glob(f"*{DRAFT}"), self._out.with_name(self._out.name + DRAFT)):
            left.unlink(missing_ok=True)  # of a run that was killed while it wrote
        self._files = [self._out] if self._out.exists() else []
        self._files += sorted(self._folder.glob("*.parquet"), key=_number)
        self._next_number = 1 + max([_number(file) for file in self._files if file != self._out], default=0)
        self._latest: dict[Key, tuple[int, int | None, int | None]] = {}  # number of the file, and the state
        for number, file in enumerate(self._files):
            with self._opened(file) as table:
                self._form.check(table, parts=self._folder)
                for batch in table.batches(KEY_COLUMNS):
                    self._note(batch, number)

    def _opened(self, file: Path) -> RowTable:
        return RowTable(file, command=self._command)

    def _note(self, rows: pa.RecordBatch | pa.Table, number: int) -> None:
        """Enter rows of the file of this number; what stands in a file before it, in the same state, counts there."""
        columns = (rows.column(name).to_pylist() for name in KEY_COLUMNS)
        for path, start, end, size, mtime in zip(*columns, strict=True):
            key = self._key(path, start, end)
            before = self._latest.get(key)
            if before is None or before[1:] != (size, mtime):
                self._latest[key] = (number, size, mtime)

    def _key(self, path: str, start: float | None, end: float | None) -> Key:
        return (path, None, None) if self._form.by_path else (path, start, end)

    def has(self, key: Key, state: State | None) -> bool:
        """Whether a video is there, and was in this state when it was read."""
        return state is not None and key in self._latest and self._latest[key][1:] == state

    def add(self, rows: pa.Table) -> None:
        """Take rows of the form's columns; all rows of a video at once."""
        self._pending.append(rows)
        if sum(map(len, self._pending)) >= _PART_ROWS or time.monotonic() - self._last_write >= PART_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what is in memory. ConfigError where that cannot be."""
        if any(map(len, self._pending)):
            file = self._folder / f"{self._next_number:06d}.parquet"
            rows = pa.concat_tables(self._pending)
            with _whole(file, kept=self._folder) as new:
                pq.write_table(rows, new, use_dictionary=list(self._form.repeated))
            self._note(rows, len(self._files))
            self._files.append(file)
            self._next_number += 1
        self._pending = []
        self._last_write = time.monotonic()

    def finish(self, wanted: WantedVideos, *, failed: set[Key]) -> tuple[int, int]:
        """Make the table out of all rows; returns how many it has, and how many videos were left out.

        Left out are videos that have `failed`, that have gone from their folder, or of which other parts are wanted now. The table's
        rows stay in their order, and new ones follow in the order of `wanted`, whenever they came.
        """
        self.save()

        def stays(key: Key) -> bool:
            if key in wanted.positions:
                return key not in failed
            return key[0] not in wanted.paths and not wanted.has_gone(key[0])

        dropped = {key for key in self._latest if not stays(key)}
        parts = [file for file in self._files if file != self._out]
        unchanged = self._files and not parts and not dropped
        count = self._count() if unchanged else self._write_table(dropped, wanted.positions)
        for file in parts:
            file.unlink()
        return count, len(dropped)

    def _count(self) -> int:
        with self._opened(self._out) as table:
            return len(table)

    def _write_table(self, dropped: Collection[Key], positions: Mapping[Key, int]) -> int:
        """Rows are grouped by their number alone, so that the file does not tell at which moments parts were written."""
        count, waiting = 0, self._form.schema.empty_table()
        with (
            _whole(self._out, kept=self._folder) as new,
            pq.ParquetWriter(new, self._form.schema, use_dictionary=list(self._form.repeated)) as writer,
        ):
            for rows in self._in_order(dropped, positions):
                waiting = pa.concat_tables([waiting, rows])
                while len(waiting) >= ROWS_AT_A_TIME:
                    writer.write_table(waiting[:ROWS_AT_A_TIME].combine_chunks())
                    waiting = waiting[ROWS_AT_A_TIME:].combine_chunks()
                count += len(rows)
            if len(waiting) or not count:
                writer.write_table(waiting.combine_chunks())
        return count

    def _in_order(self, dropped: Collection[Key], positions: Mapping[Key, int]) -> Iterator[pa.Table]:
        """The rows that stay: those of the table as they stand there, then those of the parts by their positions."""
        first_part = int(self._out in self._files)
        if first_part:
            with self._opened(self._out) as table:
                for batch in table.batches():
                    yield self._chosen(batch, 0, dropped, positions)[0]
        starts = [self._first_position(number, dropped, positions) for number in range(first_part, len(self._files))]
        order = np.argsort(starts, kind="stable")
        pool, places = self._form.schema.empty_table(), np.zeros(0, np.int64)
        for turn, part in enumerate(order):
            with self._opened(self._files[first_part + part]) as table:
                found = [self._chosen(batch, first_part + int(part), dropped, positions) for batch in table.batches()]
            pool = pa.concat_tables([pool, *(rows for rows, _ in found)])
            places = np.concatenate([places, *(places for _, places in found)])
            by_place = np.argsort(places, kind="stable")
            ready = by_place  # after the last part all are
            if turn + 1 < len(order):
                ready = by_place[places[by_place] < starts[order[turn + 1]]]
            yield pool.take(ready)
            rest = by_place[len(ready) :]
            pool, places = pool.take(rest), places[rest]

    def _first_position(self, number: int, dropped: Collection[Key], positions: Mapping[Key, int]) -> int:
        with self._opened(self._files[number]) as table:
            found = [self._chosen(batch, number, dropped, positions)[1] for batch in table.batches(KEY_COLUMNS[:3])]
        places = np.concatenate([np.zeros(0, np.int64), *found])
        return int(places.min()) if len(places) else len(positions)

    def _chosen(
        self, batch: pa.RecordBatch, number: int, dropped: Collection[Key], positions: Mapping[Key, int]
    ) -> tuple[pa.Table, np.ndarray]:
        """The rows of a file that count there and stay, and their positions; -1 for those that this run did not ask for."""
        columns = (batch.column(name).to_pylist() for name in KEY_COLUMNS[:3])
        keys = [self._key(*cells) for cells in zip(*columns, strict=True)]
        chosen = np.array([self._latest[key][0] == number and key not in dropped for key in keys], bool)
        places = np.array([positions.get(key, -1) for key in keys], np.int64)
        rows = pa.Table.from_batches([batch]).filter(pa.array(chosen))
        return rows.replace_schema_metadata(self._form.schema.metadata), places[chosen]

    def close(self) -> None:
        """Write what is in memory, let others in, and take the folder away if nothing is left in it."""
        try:
            self.save()
        finally:
            self._leave()

    def _leave(self) -> None:
        if not any(self._folder.glob("*.parquet*")):
            (self._folder / "lock").unlink(missing_ok=True)
            with suppress(OSError):  # the next process has put its own lock into it
                self._folder.rmdir()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _number(part: Path) -> int:
    return int(part.stem) if part.stem.isdigit() else 0


@contextmanager
def _whole(path: Path, *, kept: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` as `replacing` does.

    ConfigError where it cannot be written; it says that what was done before is `kept` there.
    """
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}): make room or give another place, and run the command again; "
            f"what was done before is kept in {kept}"
        ) from None

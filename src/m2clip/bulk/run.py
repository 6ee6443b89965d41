"""A table of embeddings or labels is brought up to date with the videos that are asked for; what is done already is left alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from m2clip.bulk.batches import Asked, AskedVideos, BatchResult, Reading, batches_of, results
from m2clip.bulk.growing_table import GrowingTable
from m2clip.bulk.wanted_videos import WantedVideos, state_of
from m2clip.bulk.work import Work
from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.errors import ConfigError
from m2clip.report.bad_files import BAD_FILES, DAMAGED_FILES, FileReport, write_file_tables


class Engine(Protocol):
    """Where videos are read and encoded."""

    @property
    def reading(self) -> Reading:
        """How."""

    def results(self, work: Work, asked: Sequence[Asked], batches: Sequence[range]) -> Iterator[BatchResult]:
        """What comes of each batch of numbers of `asked`, in any order, and maybe twice."""


@dataclass(frozen=True)
class LocalEngine:
    """This machine: processes that decode, and this one, which encodes."""

    reading: Reading

    def results(self, work: Work, asked: Sequence[Asked], batches: Sequence[range]) -> Iterator[BatchResult]:
        """See `Engine`; in order."""
        return results(work, asked, batches, self.reading)


@dataclass(frozen=True)
class Done:
    """What a call did."""

    rows: int
    """That the table holds now."""
    videos: int
    """Videos (or parts that a list names) that were read."""
    done_before: int
    """That were there already, unchanged."""
    dropped: int
    """That were in the table and have gone, or cannot be read any more."""
    bad: tuple[BadFile, ...]
    damaged: tuple[DamagedFile, ...]
    tables: tuple[str, ...]
    """The names of the tables of bad and damaged files that were written beside."""


def bring_up_to_date(
    work: Work,
    wanted: WantedVideos,
    out: Path,
    engine: Engine,
    *,
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Done:
    """Bring the table at `out` up to date with these videos.

    A video that is there with the same size, time of last change and times is not read again. A video that was looked for and is
    gone, or cannot be read, has no row afterwards; rows of other videos stay. A kill costs at most what was read in the last
    PART_SECONDS and, of long videos in stretches, those under way. The table is the same whatever the engine, and wherever runs were
    broken off. Raises ConfigError where the table is of another model or other work.
    """
    if work.every_seconds is not None:
        for path, start, end in wanted.positions:
            if start is not None or end is not None:
                raise ConfigError(f"{path} is listed with times: leave out every_seconds, or list whole videos")
    report = FileReport(policy="skip", tell=tell)
    report.note(wanted.bad, ())
    with GrowingTable(out, work.form, command=work.command) as table:
        asked = AskedVideos(wanted)
        for key, position in wanted.positions.items():
            state = state_of(wanted[position].path)
            if not table.has(key, state):
                asked.add(position, state)
        batches = batches_of(asked.positions, engine.reading.batch_size)
        done, count = np.zeros(len(asked), bool), 0
        bad: dict[int, BadFile] = {}
        damaged: dict[int, DamagedFile] = {}
        for result in engine.results(work, asked, batches) if len(asked) else ():
            numbers = list(result.numbers)
            if done[numbers].all():  # it came before
                continue
            table.add(result.rows)
            count += int((~done[numbers]).sum())
            done[numbers] = True
            for file in result.bad:
                bad[file.index] = file
            for part in result.damaged:
                damaged[part.index] = part
            report.note(result.bad, result.damaged)
            progress(count, len(asked))
        _need_all(done, asked)
        failed = {asked[number].key for number in bad}
        rows, dropped = table.finish(wanted, failed=failed)
    bad_files = (*wanted.bad, *(bad[number] for number in sorted(bad)))
    damaged_files = tuple(damaged[number] for number in sorted(damaged))
    return Done(
        rows, len(asked) - len(bad), len(wanted) - len(asked), dropped, bad_files, damaged_files,
        _write_file_tables(out, bad_files, damaged_files),
    )  # fmt: skip


def _need_all(done: np.ndarray, asked: Sequence[Asked]) -> None:
    """Nothing may be lost in silence."""
    lost = np.flatnonzero(~done)
    if len(lost):
        raise RuntimeError(f"the engine lost {len(lost)} of {len(asked)} videos, the first {asked[int(lost[0])].path}")


def _write_file_tables(out: Path, bad: Sequence[BadFile], damaged: Sequence[DamagedFile]) -> tuple[str, ...]:
    """Tables of this call beside the table of rows; those of a call before are of no use any more."""
    prefix = out.stem + "."
    for name in (BAD_FILES, DAMAGED_FILES):
        (out.parent / (prefix + name)).unlink(missing_ok=True)
    return tuple(write_file_tables(out.parent, bad, damaged, prefix=prefix))

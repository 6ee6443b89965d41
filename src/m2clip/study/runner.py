"""Work on the cells of a study until all are finished; a study that was killed goes on where it was."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from m2clip.errors import ConfigError
from m2clip.report.files import results_folder
from m2clip.study.cell import RESULT, finished, note_failure, outdated, read_result, remove
from m2clip.study.lanes import Lane, ready
from m2clip.study.plan import Cell


@dataclass(frozen=True)
class Outcome:
    """How the cells of a study stand."""

    ran: tuple[str, ...]
    """Cells that were finished in this call."""
    kept: tuple[str, ...]
    """Cells that had been finished before."""
    failed: Mapping[str, str]
    """Cells without a result, and why."""


def run_cells(
    cells: Sequence[Cell],
    *,
    out: Path,
    lanes: int,
    threads: int | None = None,
    redo: bool = False,
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Run all cells that are not finished, `lanes` of them at a time, each with `threads` threads (None: a share of the cores).

    `tell` gets a sentence for each cell that ends, `progress` (cells done, all cells). A cell that fails is noted in its folder and
    tried again in the next call. `redo`: cells whose settings changed are made anew; else they are a ConfigError.
    """
    results_folder(out)
    with _alone(out):
        need_same_settings(cells, redo=redo, tell=tell)
        kept = [cell for cell in cells if finished(cell)]
        waiting = deque(cell for cell in cells if not finished(cell))
        clock = _Clock(kept, lanes)
        ran: list[str] = []
        failed: dict[str, str] = {}
        progress(len(kept), len(cells))
        if kept and waiting:
            tell(f"{len(kept)} of {len(cells)} cells are finished already")
        with _lanes(min(lanes, len(waiting)), threads or max((os.cpu_count() or 1) // lanes, 1)) as free:
            busy: list[Lane] = []
            while waiting or busy:
                while waiting and free:
                    lane = free.pop()
                    clock.begin(waiting[0])
                    lane.begin(waiting.popleft())
                    busy.append(lane)
                for lane in ready(busy):
                    cell, answer = lane.end()
                    busy.remove(lane)
                    free.append(lane)
                    if isinstance(answer, str):
                        failed[cell.name] = answer
                        note_failure(cell, answer)
                        news = f"failed: {answer}"
                    else:
                        ran.append(cell.name)
                        news = _accuracies(answer)
                    done = len(kept) + len(ran) + len(failed)
                    seconds = clock.end(cell)
                    left = clock.left([*waiting, *(other.cell for other in busy if other.cell)])
                    progress(done, len(cells))
                    tell(f"{done}/{len(cells)} {cell.name}: {news} ({duration(seconds)}; {duration(left)} left)")
        return Outcome(tuple(ran), tuple(cell.name for cell in kept), failed)


def need_same_settings(
    cells: Sequence[Cell], *, redo: bool = False, tell: Callable[[str], None] = lambda sentence: None
) -> None:
    """ConfigError where a cell was made with other settings than those of now; with `redo` what changed is removed."""
    stale = {path: (cell, phrases) for cell in cells for path, phrases in outdated(cell).items()}
    for path, (_, phrases) in stale.items():
        if not redo:
            more = f" (and {len(stale) - 1} more like this)" if len(stale) > 1 else ""
            raise ConfigError(
                f"{path} was made with other settings: {'; '.join(phrases[:3])}{more}; take the old ones, give another folder with "
                "out=FOLDER, or make what changed anew with --redo"
            )
    for path, (cell, phrases) in stale.items():
        tell(f"{cell.name} is made anew: {'; '.join(phrases[:3])}")
        remove(path)


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Clock:
    """How long cells take, and how long those that are left will."""

    def __init__(self, kept: Sequence[Cell], lanes: int) -> None:
        self._lanes = lanes
        self._begun: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = {}  # by data set: a cell's time is mostly that of its videos
        for cell in kept:
            training = read_result(cell.folder / RESULT)["training"]
            if training is not None:
                self._seconds.setdefault(cell.data, []).append(training["seconds"])

    def begin(self, cell: Cell) -> None:
        self._begun[cell.name] = perf_counter()

    def end(self, cell: Cell) -> float:
        seconds = perf_counter() - self._begun[cell.name]
        self._seconds.setdefault(cell.data, []).append(seconds)
        return seconds

    def left(self, cells: Sequence[Cell]) -> float:
        """An estimate: cells that run now count by what is left of a usual one."""
        every = [seconds for known in self._seconds.values() for seconds in known]
        total = 0.0
        for cell in cells:
            known = self._seconds.get(cell.data, every)
            spent = perf_counter() - self._begun[cell.name] if cell.name in self._begun else 0.0
            total += max(sum(known) / len(known) - spent, 0.0)
        return total / self._lanes


@contextmanager
def _lanes(count: int, threads: int) -> Iterator[list[Lane]]:
    """Lanes to work with; they end with the block, however it ends."""
    every = [Lane(threads=threads) for _ in range(count)]
    try:
        yield list(every)
    finally:
        for lane in every:
            lane.close()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """ConfigError where another process works in the same folder. The lock ends with its process, however that ends."""
    import fcntl

    with (out / "study.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{out}: another study is at work in this folder; wait for it, or give another with out=FOLDER"
            ) from None
        yield


def _accuracies(result: Mapping[str, Any]) -> str:
    from m2clip.study.results import chosen_reading

    method = result["settings"]["run"]["model.method"]
    parts = result["report"]["parts"]
    found = []
    for name, part in parts.items():
        reading = chosen_reading(method, part["protocol"]["name"], part["metrics"])
        found.append(f"{name} {100 * part['metrics'][reading]['top1']:.1f} %")
    return ", ".join(found)

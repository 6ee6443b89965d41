"""Processes that work on cells: each takes one cell at a time, and a crash costs no more than that cell.

The processes are fresh ones (spawn), so that nothing of the parent is shared, and die with the parent, even where it is killed.
"""

import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from m2clip.errors import M2CLIPError
from m2clip.freed_memory import keep_freed_memory
from m2clip.study.plan import Cell

_SPAWN = get_context("spawn")


class Lane:
    """A process and the cell that it works on."""

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._start()
        self.cell: Cell | None = None

    def _start(self) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        # Not a daemon in Python's sense, for these may have no children, and data loaders are children.
        self._process = _SPAWN.Process(target=_work, args=(theirs, self._threads))
        self._process.start()
        theirs.close()

    def begin(self, cell: Cell) -> None:
        """Give the process a cell."""
        self.cell = cell
        with suppress(OSError):  # of a process that has died: `end` tells
            self.connection.send(cell)

    def end(self) -> tuple[Cell, dict[str, Any] | str]:
        """The cell that is done and its result, or the sentence that says why there is none. Waits for it."""
        cell, self.cell = self.cell, None
        assert cell is not None
        try:
            return cell, self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            self._start()
            return cell, f"the process of the cell {how}, perhaps for want of memory; run the study again"

    def close(self) -> None:
        """End the process, in the middle of a cell if need be: the cell goes on where it was when the study is run again."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def ready(lanes: list[Lane]) -> list[Lane]:
    """Wait until at least one of these busy lanes has something to say, and return those that do."""
    speaking = wait([lane.connection for lane in lanes])
    return [lane for lane in lanes if lane.connection in speaking]


def _work(connection: Connection, threads: int) -> None:
    """The life of a process: cells come in, results or sentences go out."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's affair
    keep_freed_memory()
    # Before torch is loaded: OpenMP reads it once. Data loaders inherit it.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from m2clip.study.cell import LOG, run_cell

    torch.set_num_threads(threads)
    while True:
        try:
            cell: Cell = connection.recv()
        except EOFError:
            return
        cell.folder.mkdir(parents=True, exist_ok=True)
        _speak_into(cell.folder / LOG)
        answer: dict[str, Any] | str
        try:
            answer = run_cell(cell)
        except (M2CLIPError, OSError) as error:
            answer = str(error)
        except Exception as error:
            traceback.print_exc()
            answer = f"{type(error).__name__}: {error} (see {cell.folder / LOG})"
        connection.send(answer)


def _speak_into(path: Path) -> None:
    """Send what is printed from now on, by Python and by libraries below it, to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

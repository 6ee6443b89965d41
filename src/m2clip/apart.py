"""Work in child processes that may crash, hang or eat memory: that costs the one job a child held, and a new child goes on."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from m2clip.errors import ConfigError

Alive = Callable[[], None]
"""Tells the parent that the work goes on; cheap enough for every frame."""
Work = Callable[[Any, Alive], Any]
"""(job, alive) -> something that JSON can hold. A function of a module: children import it."""

_READY, _ALIVE = b"ready", b"alive"
_START_SECONDS = 120.0
_BEAT_SECONDS = 1.0
_LOOK_SECONDS = 1.0  # between two looks at whether the parent lives

StartMethod = Literal["spawn", "forkserver"]
"""How a child begins; never as a fork of a process that runs threads, whose locks it would share."""


@dataclass(frozen=True)
class Ended:
    """A job whose child process ended before it was done."""

    how: Literal["crashed", "silent"]
    detail: str
    """What is known of the end, such as "ended by SIGSEGV"."""


def run_apart(
    work: Work, jobs: Sequence[Any], *, workers: int, silence_seconds: float, memory_bytes: int
) -> Iterator[tuple[int, Any]]:
    """Yield (number of the job, its result or an Ended) as they come, each job once.

    A child that gives no sign of life for `silence_seconds` is killed. `memory_bytes` bounds what a child may allocate (Linux).
    Results come as JSON, never as pickles: a child has read files of strangers. ConfigError where children cannot be started.
    """
    waiting = iter(enumerate(jobs))
    coming = next(waiting, None)
    children: dict[Connection, _JobChild] = {}
    try:
        while True:
            while coming is not None and len(children) < min(workers, len(jobs)):
                child = _JobChild(work, memory_bytes, silence_seconds)
                children[child.connection] = child
            for child in children.values():
                if coming is not None and child.is_free:
                    child.take(*coming)
                    coming = next(waiting, None)
            awaited = [child for child in children.values() if not child.is_free]
            if coming is None and all(child.number is None for child in awaited):
                return
            patience = min(child.deadline for child in awaited) - time.monotonic()
            heard = wait(list(children), timeout=max(patience, 0.0))
            for connection, child in list(children.items()):
                number = child.number
                if connection in heard:
                    news = child.hear()
                elif time.monotonic() > child.deadline:
                    news = Ended("silent", f"gave no sign of life for {child.patience_seconds:g} s")
                else:
                    continue
                if isinstance(news, Ended):
                    del children[connection]
                    child.end()
                    if not child.is_ready:
                        raise ConfigError(
                            f"a process that reads files {news.detail} at its start; free some memory, or take fewer workers"
                        )
                if news is not None and number is not None:
                    yield number, news if isinstance(news, Ended) else json.loads(news)
    finally:
        for child in children.values():
            child.end()


class Child:
    """A process apart, and the pipe to it. `serve` is a function of a module; it gets the pipe's other end and `arguments`."""

    def __init__(self, serve: Callable[..., None], *arguments: Any, start: StartMethod = "spawn") -> None:
        context = multiprocessing.get_context(start)
        self.connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, *arguments), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        other.close()  # else the end of the child would not show

    @property
    def pid(self) -> int | None:
        """The number that the system gave the process."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def ending(self) -> str:
        """How a process that has closed its pipe came to its end, such as "ended by SIGSEGV"."""
        self._process.join(timeout=10)
        return _ending(self._process.exitcode)

    def kill(self) -> None:
        """Kill the process, whatever it does; its end of the pipe closes with it."""
        self._process.kill()

    def end(self) -> None:
        """Kill it and give back all that belongs to it."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


class _JobChild(Child):
    """A child, the job that it holds, and until when it must give a sign."""

    def __init__(self, work: Work, memory_bytes: int, silence_seconds: float) -> None:
        super().__init__(_serve, work, memory_bytes)
        self._silence_seconds = silence_seconds
        self.number: int | None = None
        self.is_ready = False
        self.deadline = time.monotonic() + _START_SECONDS

    @property
    def patience_seconds(self) -> float:
        """How long a sign is waited for."""
        return self._silence_seconds if self.is_ready else _START_SECONDS

    @property
    def is_free(self) -> bool:
        return self.is_ready and self.number is None

    def take(self, number: int, job: Any) -> None:
        """Start with a job. A child that has ended meanwhile shows when it is heard."""
        self.number, self.deadline = number, time.monotonic() + self._silence_seconds
        with suppress(OSError):
            self.connection.send(job)

    def hear(self) -> bytes | Ended | None:
        """A result, the child's end, or None for a sign of life."""
        try:
            news = self.connection.recv_bytes()
        except (EOFError, OSError):
            return Ended("crashed", self.ending())
        if news in (_READY, _ALIVE):
            self.is_ready = True
            self.deadline = time.monotonic() + (self._silence_seconds if self.number is not None else float("inf"))
            return None
        self.number, self.deadline = None, float("inf")
        return news


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "closed its connection"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended by signal {-exit_code}"


def confine(memory_bytes: int, *, writes_files: bool = True) -> None:
    """In a child: leave Ctrl-C to the parent, print nothing, and (but on Windows) allocate no more than this, and leave no core.

    Without `writes_files` every write to a file fails; pipes stay.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries print there would break the parent's lines
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if not writes_files:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def end_with_parent() -> None:
    """In a child: end when the parent does, even in the middle of a hang."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _serve(connection: Connection, work: Work, memory_bytes: int) -> None:
    """The child: one job after the other, until the parent is gone."""
    confine(memory_bytes)
    end_with_parent()
    said = time.monotonic()

    def alive() -> None:
        nonlocal said
        if time.monotonic() - said > _BEAT_SECONDS:
            said = time.monotonic()
            connection.send_bytes(_ALIVE)

    with suppress(EOFError, OSError):  # the parent is gone
        connection.send_bytes(_READY)
        while True:
            result = work(connection.recv(), alive)
            connection.send_bytes(json.dumps(result).encode())

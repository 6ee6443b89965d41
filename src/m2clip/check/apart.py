"""Work in child processes that may crash, hang or eat memory: that costs the one job a child held, and a new child goes on."""

import json
import multiprocessing
import os
import signal
import sys
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
    children: dict[Connection, _Child] = {}
    try:
        while True:
            while coming is not None and len(children) < min(workers, len(jobs)):
                child = _Child(work, memory_bytes, silence_seconds)
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


class _Child:
    """A child process, the job that it holds, and until when it must give a sign."""

    def __init__(self, work: Work, memory_bytes: int, silence_seconds: float) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share locks of libraries that run threads
        self.connection, other = context.Pipe()
        self._silence_seconds = silence_seconds
        self._process = context.Process(target=_serve, args=(other, work, memory_bytes), daemon=True)
        self._process.start()
        other.close()  # else the end of the child would not show
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
            self._process.join(timeout=10)
            return Ended("crashed", _ending(self._process.exitcode))
        if news in (_READY, _ALIVE):
            self.is_ready = True
            self.deadline = time.monotonic() + (self._silence_seconds if self.number is not None else float("inf"))
            return None
        self.number, self.deadline = None, float("inf")
        return news

    def end(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "closed its connection"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended by signal {-exit_code}"


def _serve(connection: Connection, work: Work, memory_bytes: int) -> None:
    """The child: one job after the other, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries print there would break the parent's lines
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
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

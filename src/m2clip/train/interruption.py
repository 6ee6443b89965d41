"""Signals that ask a run to end: it does so at the next step, when all is kept."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

# Ctrl-C, what schedulers and containers send before they kill, and what SLURM sends ahead of the end of a job (--signal=USR1).
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
# torchrun passes on the Ctrl-C that a terminal has sent to all processes anyhow, so the second one may be no second wish.
_SAME_SECONDS = 1.0


class Interruption:
    """Within it, these signals end nothing: they are noted. A second Ctrl-C ends the program at once, as ever.

    Only the main thread of a program may receive signals; in another one, nothing is noted. A signal that is ignored stays so.
    """

    def __init__(self, *, tells: bool) -> None:
        """`tells`: whether Ctrl-C is answered on standard error; the step may take its time."""
        self.number: int | None = None
        """The signal that came first."""
        self._tells, self._came = tells, 0.0
        self._error: Callable[[], Exception] | None = None
        self._before: dict[int, Any] = {}

    @staticmethod
    def name(number: int | None) -> str:
        """By which signal, in words; None: by one that another process had."""
        return "by a signal to another process" if number is None else f"by {signal.Signals(number).name}"

    @contextmanager
    def at_once(self, error: Callable[[], Exception]) -> Iterator[None]:
        """Within it, a signal raises `error()`, also one that was noted before: for long work that writes nothing and can be done again."""
        self._error = error
        try:
            if self.number is not None:
                raise error()
            yield
        finally:
            self._error = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._came = number, time.monotonic()
            if self._error is not None:
                raise self._error()
            if self._tells and number == signal.SIGINT:  # not by `print`, which the handler may have interrupted
                os.write(2, b"m2clip: ending when the run is kept; Ctrl-C again ends it at once\n")
        elif number == signal.SIGINT and time.monotonic() - self._came > _SAME_SECONDS:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                before = signal.getsignal(number)
                # None: somebody has set it from C, and it could not be put back.
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

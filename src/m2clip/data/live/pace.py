"""Holds pictures that can be read at any speed to the speed at which a player shows them."""

import time
from collections.abc import Callable

from m2clip.data.live.steady_rows import MOST_GAP_SECONDS

_LATE_SECONDS = 0.5  # what is later than this goes on from where it is, and is not shown faster to catch up


class Pace:
    """`wait` takes seconds, as of `threading.Event.wait`."""

    def __init__(self, wait: Callable[[float], object]) -> None:
        self._wait = wait
        self._ahead: float | None = None  # our clock minus the source's
        self._seconds = 0.0

    def until(self, seconds: float) -> float:
        """Wait until the moment of the picture with this time has come: `time.monotonic()` then. A break in time costs no wait."""
        now = time.monotonic()
        if self._ahead is None or not 0 <= seconds - self._seconds <= MOST_GAP_SECONDS:
            self._ahead = now - seconds
        self._seconds = seconds
        late = now - (self._ahead + seconds)
        if late > _LATE_SECONDS:
            self._ahead += late
        elif late < 0:
            self._wait(-late)
            now = time.monotonic()
        return now

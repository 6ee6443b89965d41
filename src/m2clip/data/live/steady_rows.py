"""Pictures as they come -> rows of frames at a steady rate, by the rule by which `SteadyReader` reads a file."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

MOST_GAP_SECONDS = 2.0
"""A longer time between two pictures is a break; so is a clock that goes back by as much."""

Picture = TypeVar("Picture")


@dataclass
class SteadyRows(Generic[Picture]):
    """Frame k of a row is what a player shows at the moment (k + 1/2) / rate_fps from the row's first picture on.

    It is certain only when the next picture comes. Example: pictures at 0, 0.4 and 0.8 s and a rate of 2 (moments 0.25, 0.75,
    1.25): the second picture gives the first one as frame 0, the third gives the second one as frame 1. A row ends at a break,
    and at `anew`.
    """

    rate_fps: float
    row: int = -1
    """The present row's number, counted from 0; -1: there is none yet."""
    _first_seconds: float = 0.0
    _seconds: float = 0.0
    _step_seconds: float = 0.0
    _next: int = 0
    _held: list[Picture] = field(default_factory=list)
    """The last picture."""

    def anew(self) -> None:
        """What comes next begins a new row."""
        self._held.clear()

    def add(self, picture: Picture, seconds: float) -> list[tuple[int, Picture]]:
        """The frames (k, picture) that are certain now. A picture that is a little too old is not used."""
        step = seconds - self._seconds
        if self._held and not -MOST_GAP_SECONDS < step <= MOST_GAP_SECONDS:
            self.anew()
        if not self._held:
            self.row += 1
            self._first_seconds, self._step_seconds, self._next = seconds, 0.0, 0
            self._held, self._seconds = [picture], seconds
            return []
        if step <= 0:
            return []
        frames = self._until(seconds)
        self._held, self._seconds, self._step_seconds = [picture], seconds, step
        return frames

    def finish(self) -> list[tuple[int, Picture]]:
        """The frames of the last picture, which is shown as long as the one before it was; of a single one, one frame."""
        if not self._held:
            return []
        frames = self._until(self._seconds + self._step_seconds)
        return frames or ([(0, self._held[0])] if not self._next else [])

    def _until(self, seconds: float) -> list[tuple[int, Picture]]:
        """The moments before this time that have no frame yet are the last picture's."""
        first = self._next
        while self._first_seconds + (self._next + 0.5) / self.rate_fps < seconds:
            self._next += 1
        return [(k, self._held[0]) for k in range(first, self._next)]

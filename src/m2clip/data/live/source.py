"""A live source, read by a thread of its own: the newest frames at a steady rate, however slowly they are used."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import Self

from av.video.frame import VideoFrame
from torch import Tensor

from m2clip.data.decode.upright import Upright
from m2clip.data.live.addresses import live_address
from m2clip.data.live.connection import Connection, LiveLimits, LivePicture, LostError
from m2clip.data.live.pace import Pace
from m2clip.data.live.steady_rows import SteadyRows
from m2clip.data.transforms import shrunk, test_pixels
from m2clip.errors import ConfigError, VideoError


class LiveState(StrEnum):
    """How things stand with a source."""

    connecting = "connecting"
    live = "live"
    stalled = "stalled"
    """Nothing comes; it is tried again after a wait."""
    lost = "lost"
    """The connection failed or ended; it is tried again after a wait."""
    reconnecting = "reconnecting"
    ended = "ended"


@dataclass(frozen=True)
class LiveFrame:
    """One frame of a source at a steady rate."""

    pixels: Tensor
    """uint8 [3, S, S]: the middle of the picture."""
    row: int
    """Frames of one row follow each other without a break in the source."""
    index: int
    """Its place in the row. Where numbers are missing, frames were dropped."""
    seconds: float
    """The moment that it stands for, in seconds from the source's first picture on."""
    arrived: float
    """`time.monotonic()` when its picture came from the source."""


@dataclass(frozen=True)
class LiveCounts:
    """What has become of what came."""

    received: int = 0
    """Packets."""
    decoded: int = 0
    """Whole pictures."""
    broken: int = 0
    """Packets and pictures that were damaged, and not used."""
    kept: int = 0
    """Frames at the steady rate."""
    dropped: int = 0
    """Of these, those that nobody took in time."""
    reconnects: int = 0
    """Connections after the first that gave a picture."""


class LiveSource:
    """Reads a source (`addresses.live_address`) from now on, until `close`.

    Frames wait in a queue of `queue_frames`; where it is full, the oldest makes room. A source that was live and breaks, stalls
    or ends is connected to again, with growing waits. `tell` hears of each change of state, in a sentence, from the thread that
    reads. Raises VideoError for what cannot be a live source.

    Closing does not wait for the reading thread. It ends within `limits.stall_seconds` (`open_seconds` while it connects),
    unless the system itself hangs in a name look-up or a camera's driver, and never keeps a program from ending.
    """

    def __init__(
        self,
        address: str,
        *,
        rate_fps: float,
        image_size: int,
        queue_frames: int = 64,
        limits: LiveLimits | None = None,
        tell: Callable[[LiveState, str], None] = lambda state, sentence: None,
    ) -> None:
        if not rate_fps > 0 or queue_frames < 1:
            raise ConfigError(f"rate_fps is {rate_fps} and queue_frames {queue_frames}: both must be above 0")
        self.address = live_address(address)
        self.rate_fps, self.image_size = rate_fps, image_size
        self._limits = limits or LiveLimits()
        self._tell = tell
        self._queue: deque[LiveFrame] = deque()
        self._queue_frames = queue_frames
        self._changed = threading.Condition()  # guards the queue, the counts and the state
        self._counts = LiveCounts()
        self._state = LiveState.connecting
        self._failure: BaseException | None = None
        self._closing = threading.Event()
        self._rows: SteadyRows[LivePicture] = SteadyRows(rate_fps)
        self._row_start: tuple[int, float] = (-1, 0.0)  # the row and where it begins, seconds from the first picture on
        self._end_seconds = 0.0  # of the last frame
        self._first_arrival: float | None = None
        self._upright: tuple[tuple[int, int], Upright] | None = None  # for pictures of this size
        self._made: tuple[VideoFrame, Tensor] | None = None  # the last one that was made smaller
        threading.Thread(target=self._read, name="m2clip-live", daemon=True).start()

    @property
    def counts(self) -> LiveCounts:
        """What has come until now."""
        with self._changed:
            return self._counts

    @property
    def state(self) -> LiveState:
        """How things stand now."""
        with self._changed:
            return self._state

    def take(self, timeout_seconds: float) -> list[LiveFrame] | None:
        """All frames that wait, oldest first, after at most this time; None where no more will come.

        Raises VideoError where the source has never been live and was tried often enough.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._state is LiveState.ended, timeout_seconds)
            frames = list(self._queue)
            self._queue.clear()
            if not frames and self._state is LiveState.ended:
                if self._failure is not None:
                    raise self._failure
                return None
            return frames

    def close(self) -> None:
        """Read no more; what waits can still be taken."""
        self._closing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What follows runs in the thread.

    def _read(self) -> None:
        try:
            self._read_again_and_again()
        except BaseException as error:  # whoever takes frames must hear of it
            self._failure = error
        self._set_state(LiveState.ended, f"{self.address.shown} is not read any more")

    def _read_again_and_again(self) -> None:
        shown, limits = self.address.shown, self._limits
        wait, failures, was_live = limits.first_wait_seconds, 0, False
        self._set_state(LiveState.connecting, f"connecting to {shown}")
        while not self._closing.is_set():
            began = time.monotonic()
            decoded_before = self._counts.decoded
            try:
                self._read_once(is_again=was_live)
                if self.address.ends or self._closing.is_set():
                    return
                lost = LostError("its sender ended it")
            except LostError as error:
                lost = error
            gave_pictures = self._counts.decoded > decoded_before
            was_live |= gave_pictures
            failures = 0 if was_live else failures + 1
            if not was_live and (failures >= limits.tries or self.address.ends):
                tried = "" if failures == 1 else f" ({failures} tries)"
                raise VideoError(f"cannot read {shown}: {lost}{tried}; check the address, and that it is sending")
            if self.address.ends:
                raise VideoError(f"cannot read {shown} to its end: {lost}")
            if gave_pictures and time.monotonic() - began > limits.stall_seconds:
                wait = limits.first_wait_seconds
            state = LiveState.stalled if lost.stalled else LiveState.lost
            self._set_state(state, f"{shown}: {lost}; trying again in {wait:g} s")
            if self._closing.wait(wait):
                return
            wait = min(2 * wait, limits.most_wait_seconds)
            self._set_state(LiveState.reconnecting, f"connecting to {shown} again")

    def _read_once(self, *, is_again: bool) -> None:
        """One connection, to its end. Raises LostError."""
        connection = Connection(self.address, self._limits)
        before = self._counts
        pace = Pace(self._closing.wait) if connection.paced else None
        self._rows.anew()
        self._upright = None
        try:
            for picture in connection.pictures():
                if self._closing.is_set():
                    return
                if pace is not None:
                    picture = replace(picture, arrived=pace.until(picture.seconds))
                self._count(connection, before, is_again=is_again)
                if connection.decoded == 1:
                    self._set_state(LiveState.live, f"{self.address.shown} is live")
                for index, shown in self._rows.add(picture, picture.seconds):
                    self._put(index, shown)
                self._note_row(picture)
            if self.address.ends:
                for index, shown in self._rows.finish():
                    self._put(index, shown)
        finally:
            self._count(connection, before, is_again=is_again)
            connection.close()

    def _count(self, connection: Connection, before: LiveCounts, *, is_again: bool) -> None:
        with self._changed:
            self._counts = replace(
                self._counts,
                received=before.received + connection.received,
                decoded=before.decoded + connection.decoded,
                broken=before.broken + connection.broken,
                reconnects=before.reconnects + (is_again and connection.decoded > 0),
            )

    def _note_row(self, picture: LivePicture) -> None:
        """Where a row begins, our own clock says how far it lies behind the first picture of all."""
        if self._rows.row == self._row_start[0]:
            return
        if self._first_arrival is None:
            self._first_arrival = picture.arrived
        # Clocks of different rows need not agree; what comes later never stands for an earlier moment.
        self._row_start = self._rows.row, max(picture.arrived - self._first_arrival, self._end_seconds)

    def _put(self, index: int, picture: LivePicture) -> None:
        row, start = self._row_start
        seconds = start + (index + 0.5) / self.rate_fps
        self._end_seconds = start + (index + 1) / self.rate_fps
        frame = LiveFrame(self._pixels(picture.picture), row, index, seconds, picture.arrived)
        with self._changed:
            is_full = len(self._queue) == self._queue_frames
            if is_full:
                self._queue.popleft()
            self._queue.append(frame)
            self._counts = replace(self._counts, kept=self._counts.kept + 1, dropped=self._counts.dropped + is_full)
            self._changed.notify_all()

    def _pixels(self, picture: VideoFrame) -> Tensor:
        """uint8 [3, S, S]; a picture that is shown for several moments is made once."""
        if self._made is None or self._made[0] is not picture:
            size = picture.width, picture.height
            if self._upright is None or self._upright[0] != size:  # a camera may change its size on the way
                self._upright = size, Upright(picture)
            small = shrunk(self._upright[1](picture)[None], size=self.image_size)
            self._made = picture, test_pixels(small, size=self.image_size)[0, 0]
        return self._made[1]

    def _set_state(self, state: LiveState, sentence: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
        self._tell(state, sentence)

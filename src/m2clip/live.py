"""What a live source shows, window by window, as it happens; always the newest window, however slowly it is recognised.

A window's frames come at a steady rate, as in a timeline (`data.timeline_reader.steady_rate`), and overlapping windows share them:
each frame is encoded once, when it comes (`model.frame_stream`). The last frames of a window have no neighbours yet; they are
read as if the source ended there, which is encoded anew for each window.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from m2clip.data.live import LiveCounts, LiveFrame, LiveLimits, LiveSource, LiveState, live_address
from m2clip.data.timeline_reader import TimelineReader, steady_rate
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import ConfigError
from m2clip.labels import Labels
from m2clip.model.frame_stream import FrameStream
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from m2clip.recognizer import Recognizer
from m2clip.timeline import EncodedWindows, Window
from m2clip.video_scores import Classes

STRIDE_FPS = 25.0
"""A stride counts frames of a video; of a live source, whose rate is known to nobody beforehand, it counts those of this rate."""
MOST_WINDOW_FRAMES = 4096
_WAIT_SECONDS = 0.2  # for frames, before it is looked whether the time is over
_SAME_FRAME = 1e-6  # as of `data.timeline_reader`


@dataclass(frozen=True, kw_only=True)
class LiveWindow(Window):
    """The newest window of a live source. Its times count from the source's first picture, breaks included."""

    arrived_at: float
    """When its newest picture came, in seconds of Unix time."""
    latency_seconds: float
    """From then until these predictions were there."""
    dropped_frames: int
    """Frames that came and were never looked at, for recognition was too slow; since the beginning."""
    reconnects: int
    """How often the source was connected to again; since the beginning."""


class FrameSource(Protocol):
    """What gives frames; a `LiveSource`."""

    @property
    def counts(self) -> LiveCounts:
        """What has come until now."""
        ...

    def take(self, timeout_seconds: float) -> list[LiveFrame] | None:
        """All frames that wait; None where no more will come."""
        ...


def recognize_live(
    recognizer: Recognizer,
    address: str,
    labels: Labels | None = None,
    window_seconds: float = 2.0,
    step_seconds: float = 1.0,
    top: int = 5,
    *,
    for_seconds: float = math.inf,
    limits: LiveLimits | None = None,
    tell: Callable[[LiveState, str], None] = lambda state, sentence: None,
) -> Iterator[LiveWindow]:
    """The windows of a camera, a stream or a file that is played (`data.live.live_address`), as they come.

    One window every `step_seconds` where recognition keeps up; else as soon as the one before is done, of the newest frames. The
    first comes when a window is full; after a break of the source, or where frames were dropped, windows begin anew, so that
    none holds frames from before and after. Labels and scores as in `Recognizer.classify`, of the middle of the picture. It ends
    after `for_seconds`, or with a file. `limits` and `tell` as of `data.live.LiveSource`; the source is connected to when the
    first window is asked for.

    Raises ConfigError for what cannot be asked for, VideoError for a source that cannot be read.
    """
    live_address(address)
    rate_fps, frames = window_frames(recognizer, window_seconds, step_seconds)
    classes = recognizer.prepare(labels)
    live = LiveWindows(recognizer, classes, rate_fps=rate_fps, frames=frames, step_seconds=step_seconds, top=top)

    def windows() -> Iterator[LiveWindow]:
        # A queue of one window: what is older than that would never be part of the newest one.
        with LiveSource(
            address,
            rate_fps=rate_fps,
            image_size=recognizer.model.info.image_size,
            queue_frames=frames,
            limits=limits,
            tell=tell,
        ) as source:
            yield from live.of(source, for_seconds=for_seconds)

    return windows()


def window_frames(recognizer: Recognizer, window_seconds: float, step_seconds: float) -> tuple[float, int]:
    """Frames a second, and frames of a window. ConfigError for lengths that are no numbers above 0, and for several views."""
    if (recognizer.views_temporal, recognizer.views_spatial) != (1, 1):
        raise ConfigError("a live source is looked at in one view; leave views_temporal and views_spatial at 1")
    reader = TimelineReader(recognizer.reader, window_seconds, step_seconds)  # checks the lengths
    rate_fps = steady_rate(reader.clip_reader.sampling, window_seconds, STRIDE_FPS)
    frames = max(1, round(rate_fps * window_seconds))
    if frames > MOST_WINDOW_FRAMES:
        raise ConfigError(
            f"{rate_fps:g} frames a second in a window of {window_seconds:g} s are more than {MOST_WINDOW_FRAMES}; "
            "give a shorter window, or fewer frames a second"
        )
    return rate_fps, frames


class LiveWindows:
    """Turns the frames of a source into windows of `frames` frames, one every `step_seconds`."""

    def __init__(
        self, recognizer: Recognizer, classes: Classes, *, rate_fps: float, frames: int, step_seconds: float, top: int
    ) -> None:
        self._recognizer, self._classes, self._top = recognizer, classes, top
        self._rate_fps, self._frames, self._step_seconds = rate_fps, frames, step_seconds
        self._shares = recognizer.model.frame_adapters() is not None and step_seconds * rate_fps < frames
        self._last: LiveFrame | None = None
        self._held = 0  # frames that follow each other without a break
        self._done = 0  # windows of the present row that have been read or passed over
        self._begin()

    def of(self, source: FrameSource, *, for_seconds: float = math.inf) -> Iterator[LiveWindow]:
        """The windows of a source, until its end or for so long."""
        until = time.monotonic() + for_seconds
        while (left := until - time.monotonic()) > 0:
            frames = source.take(min(_WAIT_SECONDS, left))
            if frames is None:
                return
            if frames and self._push(frames):
                yield self._window(frames[-1], source)

    def _begin(self) -> None:
        model = self._recognizer.model
        self._encoded: _SharedFrames | _OwnFrames
        self._encoded = (
            _SharedFrames(model, self._frames) if self._shares else _OwnFrames(self._recognizer, self._frames)
        )
        self._held = 0

    def _push(self, frames: Sequence[LiveFrame]) -> bool:
        """Take frames; whether a window is due that ends with the last of them."""
        first, last = 0, self._last  # of those that follow each other
        for place, frame in enumerate(frames):
            if last is None or frame.row != last.row:
                self._done = 0
            if last is None or (frame.row, frame.index) != (last.row, last.index + 1):
                first = place
                self._begin()
            last = frame
        self._last = last
        self._encoded.push(torch.stack([frame.pixels for frame in frames[first:]]))
        self._held += len(frames) - first
        complete = self._complete(frames[-1].index)
        is_due = complete > self._done and self._held >= self._frames
        if is_due:
            self._done = complete
        return is_due

    def _complete(self, index: int) -> int:
        """How many windows of a row end with this frame or before: the first with frame `frames` - 1, one more every step."""
        return math.floor((index + 1 - self._frames) / (self._step_seconds * self._rate_fps) + _SAME_FRAME) + 1

    def _window(self, newest: LiveFrame, source: FrameSource) -> LiveWindow:
        features = self._encoded.read()
        end = newest.seconds + 0.5 / self._rate_fps
        span = (max(end - self._frames / self._rate_fps, 0.0), end)
        (window,) = self._recognizer.score_windows(EncodedWindows((span,), features), self._classes, self._top)
        counts, latency = source.counts, time.monotonic() - newest.arrived
        return LiveWindow(
            **vars(window),
            arrived_at=time.time() - latency,
            latency_seconds=latency,
            dropped_frames=counts.dropped,
            reconnects=counts.reconnects,
        )


class _SharedFrames:
    """Frames that are encoded as they come; the last `frames` of them can be read at any time."""

    def __init__(self, model: VideoCLIP, frames: int) -> None:
        self._model, self._stream, self._frames = model, FrameStream(model), frames
        self._statistics = PixelStatistics(model.info.sizes.mean, model.info.sizes.std)
        self._embeddings: Tensor | None = None
        self._class_tokens: Tensor | None = None

    def push(self, pixels: Tensor) -> None:
        """uint8 [n, 3, S, S]."""
        device = next(self._model.parameters()).device
        done = self._stream.push(self._statistics.normalize(pixels.to(device)))
        self._embeddings = _last(self._embeddings, done.embeddings, self._frames)
        self._class_tokens = _last(self._class_tokens, done.class_tokens, self._frames)

    def read(self) -> VideoFeatures:
        """Of the window, B = 1."""
        rest = self._stream.peek()
        embeddings = _last(self._embeddings, rest.embeddings, self._frames)
        class_tokens = _last(self._class_tokens, rest.class_tokens, self._frames)
        with torch.inference_mode():
            return self._model.read_frames(embeddings[None], class_tokens[None])


class _OwnFrames:
    """Frames of windows that are clips of their own: where windows share no frames, or the method encodes whole clips."""

    def __init__(self, recognizer: Recognizer, frames: int) -> None:
        self._recognizer = recognizer
        self._pixels: deque[Tensor] = deque(maxlen=frames)

    def push(self, pixels: Tensor) -> None:
        """uint8 [n, 3, S, S]."""
        self._pixels.extend(pixels)

    def read(self) -> VideoFeatures:
        """Of the window, B = 1."""
        return self._recognizer.encode(torch.stack(list(self._pixels))[None])


def _last(before: Tensor | None, new: Tensor, count: int) -> Tensor:
    """The last rows of both, in memory of their own."""
    together = new if before is None else torch.cat([before, new])
    return together[-count:].clone()

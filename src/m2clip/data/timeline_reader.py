"""A video -> what the windows of its timeline are computed from, in order; knows no model, so it can run in a process of its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import NamedTuple

from m2clip.data.clip_reader import ClipReader, ReadClips
from m2clip.data.parts import shown_part, window_spans
from m2clip.data.sampling import ClipSampling
from m2clip.data.steady_frames import SteadyFrames, SteadyReader
from m2clip.data.video import Video
from m2clip.errors import ConfigError

MOST_WINDOWS = 1_000_000  # eleven days at one a second
MOST_FRAMES = 20_000_000
CLIPS_AT_ONCE = 8
_SAME_FRAME = 1e-6  # a moment this share of a step before a border lies on it


class FrameWindow(NamedTuple):
    """A window of a sequence of steady frames."""

    start_seconds: float
    end_seconds: float
    first: int
    """Its first frame, counted in the sequence."""
    stop: int
    """One past its last frame."""


@dataclass(frozen=True)
class WindowedFrames:
    """The next frames of a video, and the windows that begin in them."""

    frames: SteadyFrames
    windows: tuple[FrameWindow, ...]


@dataclass(frozen=True)
class WindowClips:
    """The next windows of a video, each as a clip of its own."""

    spans: tuple[tuple[float, float], ...]
    """Start and end of each, seconds."""
    clips: ReadClips
    """R parts, one for each window."""


@dataclass(frozen=True)
class TimelineReader:
    """Reads a video once, from start to end, for windows of `window_seconds`, one every `step_seconds` (`parts.window_spans`).

    Windows that overlap share their frames, which come at a steady rate: so many that a window has the frames of a clip, or at the
    gap between frames that the sampling names. Windows that do not overlap, one that holds the whole video, and with `alone` all,
    are read as clips instead.

    Raises ConfigError for lengths that are no numbers of seconds above 0.
    """

    clip_reader: ClipReader
    window_seconds: float
    step_seconds: float
    alone: bool = False

    def __post_init__(self) -> None:
        for name in ("window_seconds", "step_seconds"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 < float(value) < math.inf):
                raise ConfigError(f"{name} is {value!r}: it must be a number of seconds above 0")

    def shares_frames(self, duration_seconds: float) -> bool:
        """Whether the windows of a video of this length are computed from shared frames."""
        return not self.alone and self.step_seconds < self.window_seconds < duration_seconds

    def read(self, video: Video) -> Iterator[WindowedFrames | WindowClips]:
        """What the windows need, a few seconds at a time. Raises VideoError, and ConfigError for too many windows or frames."""
        duration = video.info.duration_seconds
        if duration / self.step_seconds > MOST_WINDOWS:
            raise ConfigError(
                f"step_seconds is {self.step_seconds:g}: in {duration:.0f} s that makes more than {MOST_WINDOWS:,} windows; "
                "give a longer step"
            )
        if self.shares_frames(duration):
            yield from self._frames(video, duration)
        else:
            yield from self._clips(video, duration)

    def _clips(self, video: Video, duration: float) -> Iterator[WindowClips]:
        times = video.info.pts_seconds
        spans = window_spans(duration, self.window_seconds, self.step_seconds)
        while some := tuple(islice(spans, CLIPS_AT_ONCE)):
            yield WindowClips(some, self.clip_reader.read(video, [shown_part(times, duration, *span) for span in some]))

    def _frames(self, video: Video, duration: float) -> Iterator[WindowedFrames]:
        rate = steady_rate(self.clip_reader.sampling, self.window_seconds, video.info.fps)
        if duration * rate > MOST_FRAMES:
            raise ConfigError(
                f"{rate:g} frames a second make more than {MOST_FRAMES:,} frames in {duration:.0f} s; give a longer window, or fewer "
                "frames a second"
            )
        reader = SteadyReader(rate, self.clip_reader.image_size)
        windows = frame_windows(duration, self.window_seconds, self.step_seconds, rate=rate)
        following = next(windows, None)
        read = 0
        for frames in reader.read(video):
            read += len(frames.pixels)
            begun = []
            while following is not None and following.first < read:
                begun.append(following)
                following = next(windows, None)
            yield WindowedFrames(frames, tuple(begun))


def steady_rate(sampling: ClipSampling, window_seconds: float, video_fps: float) -> float:
    """Frames a second, so that neighbours lie as far apart as in a clip of the sampling; uniform segments fill a window."""
    if sampling.gap_seconds is not None:
        return 1 / sampling.gap_seconds
    if sampling.stride_frames:
        return video_fps / sampling.stride_frames
    return sampling.frames / window_seconds


def frame_windows(
    duration_seconds: float, window_seconds: float, step_seconds: float, *, rate: float
) -> Iterator[FrameWindow]:
    """The windows of a video, and which of its frames at (k + 1/2) / rate lie in them; one at least, the nearest.

    Example: 5 s in windows of 2 s every 1 s, 2 frames a second: frames 0-3, 2-5, 4-7, 6-9.
    """
    count = SteadyReader.frame_count(duration_seconds, rate)
    for start, end in window_spans(duration_seconds, window_seconds, step_seconds):
        # Frame k lies at or behind `start` where k >= start * rate - 1/2.
        first = math.ceil(start * rate - 0.5 - _SAME_FRAME)
        stop = min(math.ceil(end * rate - 0.5 - _SAME_FRAME), count)
        if stop <= first:
            first = min(int((start + end) / 2 * rate), count - 1)
            stop = first + 1
        yield FrameWindow(start, end, max(first, 0), stop)

"""Stretches of a video in seconds -> the frames on the screen in them: parts that a list names, and windows of a timeline."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from m2clip.data.sampling import ClipSampling
from m2clip.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """A stretch of a video that clips are taken from: its frames, and when each is on the screen."""

    first: int
    """Its first frame, counted in the video."""
    pts_seconds: np.ndarray
    """float64 [n], in the video's time: from when on each of its frames is shown, the first from where the stretch begins."""
    end_seconds: float
    """Where it ends."""

    @property
    def stop(self) -> int:
        """One past its last frame, counted in the video."""
        return self.first + len(self.pts_seconds)

    def test_indices(self, sampling: ClipSampling, views: int) -> np.ndarray:
        """Frames of the video, int64 [V, T]."""
        return self.first + sampling.test_indices(self.pts_seconds, views, end_seconds=self.end_seconds)

    def train_indices(self, sampling: ClipSampling, rng: np.random.Generator) -> np.ndarray:
        """Frames of the video, int64 [T]."""
        return self.first + sampling.train_indices(self.pts_seconds, rng, end_seconds=self.end_seconds)


def part_between(
    pts_seconds: np.ndarray, duration_seconds: float, *, start_seconds: float | None, end_seconds: float | None
) -> Part:
    """The stretch from start to end; None means the video's own. ConfigError as of `frames_between`."""
    first, stop = frames_between(pts_seconds, start_seconds=start_seconds, end_seconds=end_seconds)
    times = pts_seconds[first:stop].copy()
    if start_seconds is not None:
        times[0] = max(times[0], start_seconds)
    return Part(first, times, duration_seconds if end_seconds is None else min(end_seconds, duration_seconds))


def shown_part(pts_seconds: np.ndarray, duration_seconds: float, start_seconds: float, end_seconds: float) -> Part:
    """What is on screen from start to end; the last picture stays there until the video's end."""
    start = min(start_seconds, float(pts_seconds[-1]))
    return part_between(pts_seconds, duration_seconds, start_seconds=start, end_seconds=end_seconds)


def frames_between(
    pts_seconds: np.ndarray, *, start_seconds: float | None, end_seconds: float | None
) -> tuple[int, int]:
    """The frames (first, stop) that are on the screen at some moment from start to end; None means the video's own start or end.

    ConfigError where the part is empty or begins after the video's end.
    """
    count = len(pts_seconds)
    start = 0.0 if start_seconds is None else start_seconds
    gap = pts_seconds[-1] / (count - 1) if count > 1 else np.inf
    if not 0 <= start <= pts_seconds[-1] + gap or not (end_seconds is None or end_seconds > start):  # NaN fits nowhere
        ending = "its end" if end_seconds is None else f"{end_seconds:g} s"
        raise ConfigError(
            f"the part from {start:g} s to {ending} is not in the video, whose last frame is at "
            f"{pts_seconds[-1]:.2f} s; mend the times"
        )
    first = max(int(np.searchsorted(pts_seconds, start + _SAME_TIME_SECONDS, side="right")) - 1, 0)
    if end_seconds is None:
        return first, count
    return first, max(int(np.searchsorted(pts_seconds, end_seconds - _SAME_TIME_SECONDS, side="left")), first + 1)


def window_spans(duration_seconds: float, window_seconds: float, step_seconds: float) -> Iterator[tuple[float, float]]:
    """Starts and ends of the windows of a video.

    Example: 5 s in windows of 2 s every 1.5 s gives 0-2, 1.5-3.5 and 3-5.
    """
    index = 0
    while True:
        start = index * step_seconds
        yield start, min(start + window_seconds, duration_seconds)
        index += 1
        # The rest of the video is covered, or (steps longer than windows) no window starts in it. Durations are sums of
        # frame times: without the tolerance one that is a hair too long would bring one more window.
        covered = max(start + window_seconds, index * step_seconds if step_seconds > window_seconds else 0.0)
        if covered >= duration_seconds - _SAME_TIME_SECONDS:
            return


_SAME_TIME_SECONDS = 1e-6  # 0.04 in a list and 0.040000000000000036 from a time base are one time

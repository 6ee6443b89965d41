"""Which frames a clip takes: frame count -> frame indices, picture size -> crop corners. Pure functions; no video, no torch.

Two ways to sample in time (SPEC.md, "Recipes"):

- *uniform* (`stride_frames=0`): the video is cut into `frames` equal segments and each gives one frame;
- *dense* (`stride_frames>0`): a window of (frames - 1) * stride + 1 neighbouring frames gives every stride-th one.

One padding rule everywhere: a video that is too short is continued by repeating its last frame. So every function
gives `frames` valid indices for every frame count from 1 on, in increasing order (with repeats where frames are few).
"""

from collections.abc import Iterator

import numpy as np

from m2clip.errors import ConfigError


def test_indices(frame_count: int, *, frames: int, stride_frames: int = 0, views: int = 1) -> np.ndarray:  # noqa: PT028
    """The indices of each temporal view at test time, int64 [V, T].

    Uniform: one view takes the middle of each segment, V views the middles of V equal parts of each segment. Dense: V
    windows spread evenly from the first possible start to the last; one view takes the middle window. Views all differ
    where the video is long enough (uniform: a segment needs V frames).
    """
    _check(frame_count, frames, stride_frames)
    if views < 1:
        raise ConfigError(f"views must be 1 or more, not {views}")
    if stride_frames == 0:
        starts, ends = _segments(frame_count, frames)
        view = np.arange(views, dtype=np.int64)[:, None]
        # starts + (ends - starts) * (2 view + 1) / (2 V), halves rounded down: a segment from 10 to 13 gives one view 11
        # (11.5), and three views 10, 11, 12 (10.5, 11.5, 12.5). Integer division of the negative keeps it exact.
        return starts + -((views - (ends - starts) * (2 * view + 1)) // (2 * views))
    slack = _slack(frame_count, frames, stride_frames)
    first = np.rint(np.arange(views) * (slack / (views - 1))) if views > 1 else np.array([slack // 2])
    return _window(first.astype(np.int64)[:, None], frame_count, frames, stride_frames)


def train_indices(frame_count: int, *, frames: int, stride_frames: int = 0, rng: np.random.Generator) -> np.ndarray:
    """The indices of one training clip, int64 [T]. Uniform: a random frame of each segment. Dense: a window at a random start."""
    _check(frame_count, frames, stride_frames)
    if stride_frames == 0:
        starts, ends = _segments(frame_count, frames)
        # A segment's end is the next one's start: only the last segment may draw it, so that no frame is drawn twice without need.
        stops = np.maximum(ends, starts + 1)
        stops[-1] = ends[-1] + 1
        return rng.integers(starts, stops)
    slack = _slack(frame_count, frames, stride_frames)
    return _window(int(rng.integers(0, slack + 1)), frame_count, frames, stride_frames)


def frames_between(
    pts_seconds: np.ndarray, *, start_seconds: float | None, end_seconds: float | None
) -> tuple[int, int]:
    """The frames (first, stop) that are on the screen at some moment from start to end; None means the video's own start or end.

    To sample inside them: `first + test_indices(stop - first, ...)`. ConfigError where the part is empty or begins after the video's end.
    """
    count = len(pts_seconds)
    start = 0.0 if start_seconds is None else start_seconds
    gap = pts_seconds[-1] / (count - 1) if count > 1 else np.inf
    if start < 0 or start > pts_seconds[-1] + gap or (end_seconds is not None and end_seconds <= start):
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


def shown_frames(pts_seconds: np.ndarray, start_seconds: float, end_seconds: float) -> tuple[int, int]:
    """First frame and one past the last on screen from start to end; the last picture stays there until the video's end."""
    start = min(start_seconds, float(pts_seconds[-1]))
    return frames_between(pts_seconds, start_seconds=start, end_seconds=end_seconds)


def spatial_corners(height: int, width: int, *, size: int, crops: int) -> list[tuple[int, int]]:
    """(top, left) of square crops spread evenly along the longer side, from one end to the other; one crop is the middle one."""
    if min(height, width) < size:
        raise ConfigError(f"a crop of {size} does not fit into {height}x{width}; resize the short side to {size} first")
    if crops < 1:
        raise ConfigError(f"crops must be 1 or more, not {crops}")
    down, right = height - size, width - size
    if crops == 1:
        return [(down // 2, right // 2)]
    if width >= height:
        return [(down // 2, right * k // (crops - 1)) for k in range(crops)]
    return [(down * k // (crops - 1), right // 2) for k in range(crops)]


_SAME_TIME_SECONDS = 1e-6  # 0.04 in a list and 0.040000000000000036 from a time base are one time


def _check(frame_count: int, frames: int, stride_frames: int) -> None:
    if frame_count < 1:
        raise ConfigError(f"cannot sample from {frame_count} frames; the video must have at least 1")
    if frames < 1:
        raise ConfigError(f"frames must be 1 or more, not {frames}")
    if stride_frames < 0:
        raise ConfigError(f"stride_frames must be 0 (uniform segments) or more, not {stride_frames}")


def _segments(frame_count: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last frame of each of the equal segments of (frame_count - 1) / frames; neighbours share a border, halves go to even."""
    borders = np.rint(np.arange(frames + 1) * ((frame_count - 1) / frames)).astype(np.int64)
    return borders[:-1], borders[1:]


def _slack(frame_count: int, frames: int, stride_frames: int) -> int:
    """How far a window can move: T frames at a stride span (T - 1) * stride + 1 frames, not T * stride."""
    return max(frame_count - ((frames - 1) * stride_frames + 1), 0)


def _window(first: np.ndarray | int, frame_count: int, frames: int, stride_frames: int) -> np.ndarray:
    return np.minimum(first + np.arange(frames, dtype=np.int64) * stride_frames, frame_count - 1)

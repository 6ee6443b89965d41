"""Which frames a clip takes, and where its pictures are cropped. Pure functions; no video, no torch.

Ways to sample in time (SPEC.md, "Recipes"), of which a `ClipSampling` names one:

- *uniform* (the default): the video is cut into `frames` segments of equally many frames and each gives one frame;
- *dense* (`stride_frames`): a window of (frames - 1) * stride + 1 neighbouring frames gives every stride-th one;
- *timed* (`fps` or `clip_seconds`): the frames that a player shows at moments that lie equally far apart, whatever the rate
  of the video is and however it varies.

One padding rule everywhere: a video that is too short is continued by repeating its last frame. So every function
gives `frames` valid indices for every frame count from 1 on, in increasing order (with repeats where frames are few).
"""

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from m2clip.errors import ConfigError, VideoError

SETTINGS = ("frames", "stride_frames", "fps", "clip_seconds")
"""The names under which settings, records and reports hold a ClipSampling."""


@dataclass(frozen=True)
class ClipSampling:
    """How the T frames of a clip are chosen. At most one of the last three is set; with none, segments are uniform."""

    frames: int = 8
    """T."""
    stride_frames: int = 0
    """Gap between neighbouring frames of the clip, in frames of the video; 0: not dense."""
    fps: float | None = None
    """Frames that the clip takes of each second: it spans (T - 1) / fps seconds."""
    clip_seconds: float | None = None
    """Seconds from the clip's first frame to its last, whatever T is (with T = 1 there is nothing to span)."""

    def __post_init__(self) -> None:
        for name, value in self.document().items():
            kind, what = (Integral, "a whole number") if name in ("frames", "stride_frames") else (Real, "a number")
            if value is not None and not isinstance(value, kind):
                raise ConfigError(f"{name} must be {what}, not {value!r}")
        if self.frames < 1:
            raise ConfigError(f"frames must be 1 or more, not {self.frames}")
        if self.stride_frames < 0:
            raise ConfigError(f"stride_frames must be 0 (uniform segments) or more, not {self.stride_frames}")
        for name in ("fps", "clip_seconds"):
            value = getattr(self, name)
            if value is not None and not 1e-6 <= value <= 1e6:
                raise ConfigError(f"{name} must be a number from 0.000001 to 1000000, not {value:g}")
        chosen = self._chosen()
        if len(chosen) > 1:
            both = " and ".join(f"{name} is {value:g}" for name, value in chosen.items())
            raise ConfigError(
                f"{both}, but only one of stride_frames, fps and clip_seconds may be set; leave out the rest"
            )

    @property
    def way(self) -> str:
        """How frames are taken, without their number, as in "at 4 a second"."""
        if self.stride_frames:
            return f"at a stride of {self.stride_frames}"
        if self.fps is not None:
            return f"at {self.fps:g} a second"
        return "in uniform segments" if self.clip_seconds is None else f"over {self.clip_seconds:g} seconds"

    @property
    def gap_seconds(self) -> float | None:
        """Seconds from a frame of the clip to the next; None where frames are counted."""
        if self.fps is not None:
            return 1 / self.fps
        return None if self.clip_seconds is None else self.clip_seconds / max(self.frames - 1, 1)

    def span_seconds(self, video_fps: float) -> float:
        """Seconds from the clip's first frame to its last in a video of this rate; 0 for uniform segments, which fit anywhere."""
        return (self.frames - 1) * (self.stride_frames / video_fps if self.gap_seconds is None else self.gap_seconds)

    def document(self) -> dict[str, Any]:
        """The four settings, for a report."""
        return {name: getattr(self, name) for name in SETTINGS}

    def changed(
        self,
        *,
        frames: int | None = None,
        stride_frames: int | None = None,
        fps: float | None = None,
        clip_seconds: float | None = None,
    ) -> "ClipSampling":
        """The same with what is given. One of the last three takes the place of all three, so stride_frames=0 is uniform."""
        number = self.frames if frames is None else frames
        if stride_frames is None and fps is None and clip_seconds is None:
            return replace(self, frames=number)
        return ClipSampling(number, stride_frames or 0, fps, clip_seconds)

    def departures(self, trained: "ClipSampling") -> list[str]:
        """What is not as a model was trained, a sentence each."""
        told = []
        if self.frames != trained.frames:
            told.append(f"{self.frames} frames a clip are used, the model was trained with {trained.frames}")
        if self.way != trained.way:
            told.append(f"frames are taken {self.way}, in training they were taken {trained.way}")
        return told

    def test_indices(self, pts_seconds: np.ndarray, views: int = 1, *, end_seconds: float | None = None) -> np.ndarray:
        """The indices of each temporal view at test time, int64 [V, T].

        `pts_seconds`, float64 [n], says from when on each frame is shown; times that decrease are a VideoError. `end_seconds`:
        until when the last is shown; None: as long as the others on average. Timed: V windows spread evenly from the first moment
        that a window can start at to the last; one view takes the middle. Counted: see the function `test_indices`.
        """
        if self.gap_seconds is None:
            return test_indices(len(pts_seconds), frames=self.frames, stride_frames=self.stride_frames, views=views)
        if views < 1:
            raise ConfigError(f"views must be 1 or more, not {views}")
        slack, tolerance = self._room(pts_seconds, end_seconds)
        starts = slack * (np.arange(views) / (views - 1) if views > 1 else np.array([0.5]))
        return self._shown(pts_seconds, starts[:, None], tolerance)

    def train_indices(
        self, pts_seconds: np.ndarray, rng: np.random.Generator, *, end_seconds: float | None = None
    ) -> np.ndarray:
        """The indices of one training clip, int64 [T]: timed, a window that starts at a random moment; counted, see `train_indices`."""
        if self.gap_seconds is None:
            return train_indices(len(pts_seconds), frames=self.frames, stride_frames=self.stride_frames, rng=rng)
        slack, tolerance = self._room(pts_seconds, end_seconds)
        return self._shown(pts_seconds, np.array(rng.uniform(0, slack)), tolerance)

    def _chosen(self) -> dict[str, float]:
        return {name: value for name, value in self.document().items() if name != "frames" and value}

    def _room(self, pts_seconds: np.ndarray, end_seconds: float | None) -> tuple[float, float]:
        """How far a window can move, and how much earlier than its time a frame counts as shown; in seconds."""
        count = len(pts_seconds)
        _check(count, self.frames, 0)
        if not np.isfinite(pts_seconds).all() or (np.diff(pts_seconds) < 0).any():
            raise VideoError(
                "the times of its frames are no numbers, or decrease; sample such a video by stride_frames"
            )
        mean_gap = float(pts_seconds[-1] - pts_seconds[0]) / (count - 1) if count > 1 else 0.0
        end = pts_seconds[-1] + mean_gap if end_seconds is None else max(end_seconds, float(pts_seconds[-1]))
        assert self.gap_seconds is not None
        span = (self.frames - 1) * self.gap_seconds
        # The gaps of a constant rate differ by the tick that a container rounds times to. (The first may be cut by a part's start.)
        tick = float(np.ptp(np.diff(pts_seconds[1:]))) if count > 2 else 0.0
        return max(float(end - pts_seconds[0]) - span, 0.0), min(max(tick, 1e-6), _ROUNDED_SECONDS, mean_gap / 4)

    def _shown(self, pts_seconds: np.ndarray, start: np.ndarray, tolerance: float) -> np.ndarray:
        """The frames on the screen from `start` (seconds after the first frame) on, int64 [..., T]."""
        assert self.gap_seconds is not None
        # A hair earlier: a window that began at the last possible moment would end when the last frame does, one frame too late.
        start = np.maximum(start - 2.5 * tolerance, 0)
        wanted = pts_seconds[0] + start + np.arange(self.frames) * self.gap_seconds + tolerance
        return np.maximum(np.searchsorted(pts_seconds, wanted, side="right") - 1, 0).astype(np.int64)


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


_ROUNDED_SECONDS = 2e-3  # Matroska, WebM and FLV round times to milliseconds, QuickTime often to 1/600 s


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

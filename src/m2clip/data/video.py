"""A video from any source -> its facts and its frames; knows no sampling and no model."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from m2clip.data.decode.portions import Each
from m2clip.data.sources import frames_of
from m2clip.data.web import DEFAULT_LIMITS, WebLimits
from m2clip.errors import VideoError


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, as its frames are given out: upright, counted by what can be decoded."""

    frame_count: int
    width: int  # pixels, after rotation
    height: int  # pixels, after rotation
    fps: float  # average frames a second
    duration_seconds: float  # from the first frame to the end of the last
    rotation_degrees: int  # by how much stored pictures are turned clockwise to be upright
    codec: str  # "raw" for an array
    pts_seconds: np.ndarray  # float64 [frame_count], not decreasing; the first frame is at 0
    lost_frames: int = 0  # frames that the file promises and that its damage has taken

    @property
    def lost_share(self) -> float:
        """How much of the video its damage has taken, 0..1."""
        return self.lost_frames / (self.frame_count + self.lost_frames)

    def __post_init__(self) -> None:
        if self.pts_seconds.shape != (self.frame_count,):
            raise AssertionError(f"{self.frame_count} frames but times of shape {self.pts_seconds.shape}")


class Video:
    """One video, from a path, a web address, open or whole files, or pictures in memory (docs/data/sources.md).

    A path leads to a video file, a folder of images or an .npy file; an address begins with http:// or https:// and is
    fetched within the limits `web` (None: refused). A file that is open for reading is read whole, from its start where it
    can go back; it stays open, and where it stood. In memory: uint8 array [T, H, W, 3], uint8 tensor [T, 3, H, W], list of
    images.

    Opening reads the packets and decodes the first frame; later only the asked-for frames and those they build on are
    decoded, and one is held at a time. Not for several threads at once. Raises VideoError, one sentence with the video's
    name, where no frame can be had.
    """

    def __init__(self, source: Any, *, web: WebLimits | None = DEFAULT_LIMITS) -> None:
        self._held = ExitStack()
        self._is_closed = False
        try:
            self.name, self._frames = frames_of(source, web=web, held=self._held)
        except BaseException:
            self._held.close()
            raise

    @property
    def info(self) -> VideoInfo:
        """The facts; `frame_count` and `lost_frames` change where reading frames meets damage that the packets did not show."""
        width, height = self._frames.size
        pts_seconds, fps, duration_seconds = self._frames.times()
        return VideoInfo(
            frame_count=self._frames.frame_count,
            width=width,
            height=height,
            fps=fps,
            duration_seconds=duration_seconds,
            rotation_degrees=self._frames.rotation_degrees,
            codec=self._frames.codec,
            pts_seconds=pts_seconds,
            lost_frames=self._frames.lost_frames,
        )

    def frames(self, indices: Sequence[int] | np.ndarray, each: Each | None = None) -> np.ndarray:
        """The frames of these indices, uint8 RGB [T, H, W, 3], upright; index i is the i-th frame of a decoding from start to end.

        Indices may repeat and come in any order. Frames of another size than the first are resized to it. With `each`, a
        function of some frames uint8 [n, H, W, 3] that gives [n, ...], what it makes of them, [T, ...]: it gets a few
        megabytes of frames at a time, so that large ones are never held together.
        """
        if self._is_closed:
            raise VideoError(f"{self.name} was closed, and its frames with it; open it again")
        wanted = np.asarray(indices)
        if wanted.size == 0:
            wanted = wanted.astype(np.int64)
        if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
            raise VideoError(f"frame indices of {self.name} must be a flat list of whole numbers, not {indices!r}")
        count = self._frames.frame_count
        outside = wanted[(wanted < 0) | (wanted >= count)]
        if outside.size:
            raise VideoError(f"{self.name} has no frame {outside[0]}: it has {count}, counted from 0")
        if not len(wanted):
            width, height = self._frames.size
            none = np.empty((1, height, width, 3), dtype=np.uint8)
            return (none if each is None else each(none))[:0]
        return self._frames.read(wanted.astype(np.int64), each)

    def close(self) -> None:
        """Give the file back, and take away what was fetched; the facts stay, frames cannot be read any more."""
        self._is_closed = True
        self._frames.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

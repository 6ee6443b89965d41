"""A video -> its frames at a steady rate, a few at a time: what a long video is read as."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from m2clip.data.transforms import shrunk, test_pixels
from m2clip.data.video import Video

_SAME_TIME_SECONDS = 1e-6  # (k + 1/2) / rate and a frame's time are rounded, each in its own way


@dataclass(frozen=True)
class SteadyFrames:
    """n neighbours in a sequence of frames that lie equally far apart."""

    pixels: Tensor
    """uint8 [n, 3, H, W]."""
    seconds: NDArray[np.float64]
    """[n]: the moments that they stand for, from the video's first frame."""


@dataclass(frozen=True)
class SteadyReader:
    """Reads what a player shows at the moments (k + 1/2) / rate_fps, k = 0, 1, ..., to the end of the video; one at least."""

    rate_fps: float
    image_size: int
    """Side of the square picture, pixels: the middle of the frame."""
    chunk_frames: int = 32

    @staticmethod
    def frame_count(duration_seconds: float, rate_fps: float) -> int:
        """How many of the moments lie in a video of this length."""
        return max(1, math.ceil(duration_seconds * rate_fps - 0.5))

    def read(self, video: Video) -> Iterator[SteadyFrames]:
        """The frames of an open video in chunks; no more than one chunk is held. Raises VideoError."""
        info = video.info
        count = self.frame_count(info.duration_seconds, self.rate_fps)
        for first in range(0, count, self.chunk_frames):
            seconds = (np.arange(first, min(first + self.chunk_frames, count), dtype=np.float64) + 0.5) / self.rate_fps
            times = video.info.pts_seconds  # damage that is met on the way takes frames away
            indices = np.maximum(np.searchsorted(times, seconds + _SAME_TIME_SECONDS, side="right") - 1, 0)
            pictures = video.frames(indices, each=partial(shrunk, size=self.image_size))
            yield SteadyFrames(test_pixels(pictures, size=self.image_size)[0], seconds)

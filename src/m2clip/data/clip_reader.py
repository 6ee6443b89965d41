"""A video -> the pixels of its clips, as a model takes them; knows no model, so it can run in a process of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from m2clip.data.parts import Part, part_between
from m2clip.data.sampling import ClipSampling
from m2clip.data.transforms import shrunk, test_pixels
from m2clip.data.video import Video


@dataclass(frozen=True)
class ReadClips:
    """R parts of one video, each as V clips: temporal views, and of each its crops."""

    pixels: Tensor
    """uint8 [R, V, T, 3, H, W]."""
    frame_indices: NDArray[np.int64]
    """[R, temporal views, T]: the frames of the video that were read."""
    frame_seconds: NDArray[np.float64]
    """[R, temporal views, T]: their times from the video's first frame."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 6 or self.frame_indices.shape != self.frame_seconds.shape:
            raise ValueError(f"clips [R, V, T, 3, H, W] are needed, not {tuple(self.pixels.shape)}")


@dataclass(frozen=True)
class ClipReader:
    """Reads the test clips of a video: which frames, at which size, in how many views."""

    sampling: ClipSampling
    image_size: int
    """Side of the square picture, pixels."""
    views_temporal: int = 1
    views_spatial: int = 1

    def read(self, video: Video, parts: Sequence[Part] | None = None) -> ReadClips:
        """The clips of these parts of an open video; None: of the whole. Raises VideoError."""
        info = video.info
        if parts is None:
            parts = [part_between(info.pts_seconds, info.duration_seconds, start_seconds=None, end_seconds=None)]
        indices = np.stack([part.test_indices(self.sampling, self.views_temporal) for part in parts])
        # One call: a frame that parts or views share is decoded and resized once.
        pictures = video.frames(indices.flatten(), each=partial(shrunk, size=self.image_size))
        clips = len(pictures) // self.sampling.frames
        pixels = test_pixels(pictures, size=self.image_size, crops=self.views_spatial, clips=clips)
        # Reading may have met damage, which takes frames away.
        seconds = video.info.pts_seconds[np.minimum(indices, video.info.frame_count - 1)]
        return ReadClips(pixels.unflatten(0, (len(parts), -1)), indices, seconds)

"""A video from any source -> its facts and its frames; knows no sampling and no model."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from m2clip.data.decoding import FileFrames
from m2clip.data.portions import Each, in_portions
from m2clip.errors import VideoError

ARRAY_FPS = 25.0  # arrays carry no times
_ACCEPTED = (
    "a path, the bytes of a video file, a uint8 array [T, H, W, 3], a uint8 tensor [T, 3, H, W] "
    "or a list of equally large PIL images"
)


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

    def __post_init__(self) -> None:
        if self.pts_seconds.shape != (self.frame_count,):
            raise AssertionError(f"{self.frame_count} frames but times of shape {self.pts_seconds.shape}")


class Video:
    """One video, from a path, the bytes of a file, or pictures in memory.

    In memory: uint8 array [T, H, W, 3], uint8 tensor [T, 3, H, W], list of PIL images. Opening reads the packets and
    decodes the first frame; later only the asked-for frames and those they build on are decoded, and one is held at a
    time. Not for several threads at once. Raises VideoError, one sentence with the file's name, where no frame can be had.
    """

    def __init__(self, source: Any) -> None:
        self._frames: FileFrames | _ArrayFrames
        if isinstance(source, str | os.PathLike):
            self.name = os.fspath(source)
            self._frames = FileFrames(Path(source), name=self.name)
        elif isinstance(source, bytes | bytearray | memoryview):
            self.name = f"the video of {len(source)} bytes"
            self._frames = FileFrames(bytes(source), name=self.name)
        else:
            self._frames = _ArrayFrames(_as_array(source))
            self.name = f"the array of {self._frames.frame_count} frames"

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
        """Give the file back."""
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _ArrayFrames:
    """The same face as FileFrames for pictures that are already in memory."""

    rotation_degrees = 0
    codec = "raw"
    lost_frames = 0

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures = pictures
        self.frame_count, height, width, _ = pictures.shape
        self.size = width, height

    def times(self) -> tuple[np.ndarray, float, float]:
        """As of FileFrames, at ARRAY_FPS."""
        return np.arange(self.frame_count) / ARRAY_FPS, ARRAY_FPS, self.frame_count / ARRAY_FPS

    def read(self, ranks: np.ndarray, each: Each | None = None) -> np.ndarray:
        """As of FileFrames: a copy of the frames of these ranks, or what `each` makes of them."""
        wanted, places = np.unique(ranks, return_inverse=True)
        return in_portions((self._pictures[rank] for rank in wanted), len(wanted), each)[places]

    def close(self) -> None:
        """Nothing to give back: the array is the caller's."""


def _as_array(source: Any) -> np.ndarray:
    """Pictures in memory as uint8 [T, H, W, 3]."""
    if isinstance(source, list | tuple) and source and all(hasattr(image, "convert") for image in source):
        if len({image.size for image in source}) > 1:
            raise VideoError("the images of the list have different sizes; resize them to one")
        source = np.stack([np.asarray(image.convert("RGB")) for image in source])
    elif hasattr(source, "detach") and hasattr(source, "permute"):  # a torch tensor, without importing torch here
        if source.ndim == 4 and source.shape[1] == 3:
            source = source.permute(0, 2, 3, 1)
        source = source.detach().cpu().numpy()
    elif not isinstance(source, np.ndarray):
        raise VideoError(f"a video cannot be made from {type(source).__name__}; pass {_ACCEPTED}")
    source = np.asarray(source)  # a memory map is slow to index
    if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3 or 0 in source.shape:
        shape = list(source.shape)
        raise VideoError(f"an array of type {source.dtype} and shape {shape} is no video; pass {_ACCEPTED}")
    return source

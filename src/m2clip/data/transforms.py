"""Frames -> clip tensor: resize, crop and augment as uint8, normalise where the clip is used.

Frames come as uint8 [T, H, W, 3], any size from 1x1 on.
Resizing is bicubic and antialiased, as for the pictures that CLIP was trained on. All frames of a clip are treated alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from m2clip.data.sampling import spatial_corners
from m2clip.errors import ConfigError

_KINETICS_SCALE = 1.15  # the short side is resized to 1 to 1.15 times the crop (SPEC.md, "Recipes")
_CROP_AREA = 0.08, 1.0  # of the random resized crop, as a share of the picture
_CROP_ASPECT = 3 / 4, 4 / 3
_CROP_TRIES = 10


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and standard deviation of the channels in 0..1, as a model was trained with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [..., 3, H, W] -> float32 (value / 255 - mean) / std, contiguous, on the same device."""
        # Made on the CPU and sent along: a tensor made on a GPU from numbers waits until the GPU has nothing else to do.
        mean, std = (
            torch.tensor(values).view(3, 1, 1).to(pixels.device, non_blocking=True) for values in (self.mean, self.std)
        )
        return pixels.contiguous().to(torch.float32).div_(255).sub_(mean).div_(std)


def test_pixels(frames: np.ndarray, *, size: int, crops: int = 1, clips: int = 1) -> torch.Tensor:  # noqa: PT028
    """Frames of V clips one after another, uint8 [V * T, H, W, 3] -> pixels, uint8 [V * S, T, 3, size, size], a clip's crops together.

    The short side becomes `size`, and S crops lie along the long side. Frames that `shrunk` made are taken as they are.
    """
    pixels = _as_planes(_resize_short_side(_as_clip(frames), size))
    height, width = pixels.shape[-2:]
    corners = spatial_corners(height, width, size=size, crops=crops)
    views = [
        clip[..., top : top + size, left : left + size]
        for clip in pixels.unflatten(0, (clips, -1))
        for top, left in corners
    ]
    return torch.stack(views)


def shrunk(frames: np.ndarray, *, size: int) -> np.ndarray:
    """Frames uint8 [n, H, W, 3] with their short side brought to `size`; they are the same one by one as together."""
    return _as_frames(_resize_short_side(_as_clip(frames), size))


class TrainTransform:
    """Random training clips by the recipe of a data set (SPEC.md, "Recipes").

    - "kinetics": the short side becomes 1 to 1.15 times `size`, then a random crop;
    - "something": a random resized crop (8 to 100 % of the area, 3:4 to 4:3), then RandAugment (`randaugment.py`).

    With `flip`, half of the clips are mirrored: never where labels have directions ("moving left to right"). `mean` in 0..1
    fills what RandAugment leaves empty.
    """

    def __init__(
        self, *, size: int, recipe: Literal["kinetics", "something"], flip: bool, mean: Sequence[float]
    ) -> None:
        if recipe not in ("kinetics", "something"):
            raise ConfigError(f"recipe must be kinetics or something, not {recipe!r}")
        self.size, self.recipe, self.flip, self.mean = size, recipe, flip, tuple(mean)

    def draw(self, height: int, width: int, *, seed: int) -> "DrawnTransform":
        """What is done to a clip of frames of this size. The same seed gives the same; global random state is not touched."""
        rng = np.random.default_rng(seed)
        if self.recipe == "kinetics":
            resized = _short_side(height, width, round(self.size * rng.uniform(1, _KINETICS_SCALE)))
            top, left = (int(rng.integers(0, side - self.size + 1)) for side in resized)
            return DrawnTransform(self, (0, 0, height, width), resized, (top, left), rng)
        area = _random_area(height, width, rng=rng)
        return DrawnTransform(self, area, (self.size, self.size), (0, 0), rng)


class DrawnTransform:
    """One draw of a TrainTransform, for the frames of one clip: first `cut` for some at a time, then `finish` for all."""

    def __init__(
        self,
        transform: TrainTransform,
        area: tuple[int, int, int, int],
        resized: tuple[int, int],
        corner: tuple[int, int],
        rng: np.random.Generator,
    ) -> None:
        self._transform, self._area, self._resized, self._corner, self._rng = transform, area, resized, corner, rng

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Some frames uint8 [n, H, W, 3] -> their part of the clip, uint8 [n, size, size, 3]."""
        (top, left, height, width), size = self._area, self._transform.size
        clip = _resize(_as_clip(frames)[..., top : top + height, left : left + width], *self._resized)
        top, left = self._corner
        return _as_frames(clip[..., top : top + size, left : left + size])

    def finish(self, frames: np.ndarray) -> torch.Tensor:
        """The cut frames uint8 [T, size, size, 3] -> the clip, uint8 [T, 3, size, size]."""
        transform, clip = self._transform, _as_clip(frames)
        if transform.recipe == "something":
            # torchvision, which this loads, takes longer than a video to classify.
            from m2clip.data.randaugment import rand_augment

            clip = rand_augment(clip, rng=self._rng, fill=[255 * value for value in transform.mean])
        if transform.flip and self._rng.random() < 0.5:
            clip = clip.flip(-1)
        return _as_planes(clip)


def _as_clip(frames: np.ndarray) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> the same memory seen as [T, 3, H, W] (channels last, the layout that resizes fastest)."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ConfigError(f"frames must be uint8 [T, H, W, 3] and not empty, not {frames.dtype} {list(frames.shape)}")
    # A copy where torch cannot share the memory: it neither reads backwards nor takes what is marked read-only.
    if not frames.flags.c_contiguous or not frames.flags.writeable:
        frames = frames.copy()
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _as_frames(clip: torch.Tensor) -> np.ndarray:
    """uint8 [n, 3, H, W] -> the same memory seen as [n, H, W, 3]."""
    return clip.permute(0, 2, 3, 1).numpy()


def _as_planes(clip: torch.Tensor) -> torch.Tensor:
    """The same values with one channel after another in memory; NumPy needs half of the time that torch needs."""
    return torch.from_numpy(np.ascontiguousarray(clip.numpy()))


def _short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of a picture after its short side has become `size`."""
    if height <= width:
        return size, round(size * width / height)
    return round(size * height / width), size


def _resize_short_side(clip: torch.Tensor, size: int) -> torch.Tensor:
    height, width = clip.shape[-2:]
    return _resize(clip, *_short_side(height, width, size))


def _resize(clip: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if clip.shape[-2:] == (height, width):
        return clip
    return F.interpolate(clip, size=(height, width), mode="bicubic", align_corners=False, antialias=True)


def _random_area(height: int, width: int, *, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random resized crop; the largest middle area of an allowed shape where ten draws do not fit."""
    for _ in range(_CROP_TRIES):
        area = height * width * rng.uniform(*_CROP_AREA)
        aspect = math.exp(rng.uniform(math.log(_CROP_ASPECT[0]), math.log(_CROP_ASPECT[1])))
        crop_height, crop_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top = int(rng.integers(0, height - crop_height + 1))
            left = int(rng.integers(0, width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_height = min(height, max(1, round(width / _CROP_ASPECT[0])))
    crop_width = min(width, max(1, round(height * _CROP_ASPECT[1])))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width

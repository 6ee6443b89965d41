"""Frames -> clip tensor: resize, crop, augment on uint8, then normalise. Frames come as uint8 [T, H, W, 3], any size from 1x1 on.

Resizing is bicubic and antialiased, as for the pictures that CLIP was trained on. All frames of a clip are treated alike.
"""

import math
from collections.abc import Sequence
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


def test_clip(
    frames: np.ndarray,
    *,
    size: int,
    crops: int = 1,  # noqa: PT028
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """Frames uint8 [T, H, W, 3] -> float32 [S, T, 3, size, size]: short side to `size`, S crops along the long side."""
    clip = _resize_short_side(_as_clip(frames), size)
    height, width = clip.shape[-2:]
    corners = spatial_corners(height, width, size=size, crops=crops)
    views = [clip[..., top : top + size, left : left + size] for top, left in corners]
    return _normalize(torch.stack(views), mean, std)


class TrainTransform:
    """A training clip by the recipe of a data set (SPEC.md, "Recipes"), float32 [T, 3, size, size].

    - "kinetics": the short side becomes 1 to 1.15 times `size`, then a random crop;
    - "something": a random resized crop (8 to 100 % of the area, 3:4 to 4:3), then RandAugment (`randaugment.py`).

    With `flip`, half of the clips are mirrored: never where labels have directions ("moving left to right").
    """

    def __init__(
        self,
        *,
        size: int,
        recipe: Literal["kinetics", "something"],
        flip: bool,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        if recipe not in ("kinetics", "something"):
            raise ConfigError(f"recipe must be kinetics or something, not {recipe!r}")
        self.size, self.recipe, self.flip = size, recipe, flip
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, frames: np.ndarray, *, seed: int) -> torch.Tensor:
        """Frames uint8 [T, H, W, 3] -> a random clip. The same seed gives the same clip; global random state is not touched."""
        rng = np.random.default_rng(seed)
        clip = _as_clip(frames)
        if self.recipe == "kinetics":
            clip = _resize_short_side(clip, round(self.size * rng.uniform(1, _KINETICS_SCALE)))
            height, width = clip.shape[-2:]
            top, left = int(rng.integers(0, height - self.size + 1)), int(rng.integers(0, width - self.size + 1))
            clip = clip[..., top : top + self.size, left : left + self.size]
        else:
            top, left, height, width = _random_area(*clip.shape[-2:], rng=rng)
            clip = _resize(clip[..., top : top + height, left : left + width], self.size, self.size)
            # torchvision, which this loads, takes longer than a video to classify.
            from m2clip.data.randaugment import rand_augment

            clip = rand_augment(clip, rng=rng, fill=[255 * value for value in self.mean])
        if self.flip and rng.random() < 0.5:
            clip = clip.flip(-1)
        return _normalize(clip, self.mean, self.std)


def _as_clip(frames: np.ndarray) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> the same memory seen as [T, 3, H, W] (channels last, the layout that resizes fastest)."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ConfigError(f"frames must be uint8 [T, H, W, 3] and not empty, not {frames.dtype} {list(frames.shape)}")
    # A copy where torch cannot share the memory: it neither reads backwards nor takes what is marked read-only.
    if not frames.flags.c_contiguous or not frames.flags.writeable:
        frames = frames.copy()
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def _resize_short_side(clip: torch.Tensor, size: int) -> torch.Tensor:
    height, width = clip.shape[-2:]
    if height <= width:
        return _resize(clip, size, round(size * width / height))
    return _resize(clip, round(size * height / width), size)


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


def _normalize(clip: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """uint8 [..., 3, H, W] -> float32 (value / 255 - mean) / std, contiguous."""
    shape = (3, 1, 1)
    values = clip.contiguous().to(torch.float32).div_(255)
    return values.sub_(torch.tensor(mean).view(shape)).div_(torch.tensor(std).view(shape))

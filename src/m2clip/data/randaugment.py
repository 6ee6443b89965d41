"""RandAugment for clips: the same random changes to every frame.

The recipe written "m7, n4, mstd 0.5, inc 1" in the field: four operations are drawn from the fifteen below, with
repeats; each is carried out with probability 1/2, at a strength drawn from a normal distribution (mean 7, deviation
0.5, cut to 0..10), where a greater strength always means a greater change ("inc 1"). Changes with a direction take a
random sign.

| operation | at strength s of 10 |
|---|---|
| autocontrast, equalize, invert | has no strength |
| rotate | s/10 of 30 degrees |
| shear x, shear y | tangent s/10 of 0.3, about the centre |
| translate x, translate y | s/10 of 0.45 of the side |
| color, contrast, brightness, sharpness | factor 1 +- s/10 of 0.9, not under 0.1 |
| posterize | 4 - s/10 of 4 bits kept (rounded up, not under 1) |
| solarize | pixels from 256 - s/10 of 256 on are inverted |
| solarize add | s/10 of 110 is added to pixels under 128 |

Pixels that come in from outside take the `fill` colour. None of the operations mirrors the picture: left stays left.
Autocontrast and equalize look at each frame by itself, as the reference does. Source: Cubuk et al., RandAugment, 2020;
the ranges are those that the field's image models are trained with.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

_MAX_STRENGTH = 10.0
OPERATIONS = (
    *("autocontrast", "equalize", "invert", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("color", "contrast", "brightness", "sharpness", "posterize", "solarize", "solarize_add"),
)


def rand_augment(
    clip: torch.Tensor,
    *,
    rng: np.random.Generator,
    fill: Sequence[float],
    strength: float = 7.0,
    strength_std: float = 0.5,
    count: int = 4,
    probability: float = 0.5,
) -> torch.Tensor:
    """A changed copy of the clip, uint8 [T, 3, H, W]; all randomness comes from `rng`."""
    for name in rng.choice(OPERATIONS, size=count):
        share = float(np.clip(rng.normal(strength, strength_std), 0, _MAX_STRENGTH)) / _MAX_STRENGTH
        sign = 1.0 if rng.random() < 0.5 else -1.0
        if rng.random() < probability:
            clip = apply(str(name), clip, share=share, sign=sign, fill=fill)
    return clip


def apply(name: str, clip: torch.Tensor, *, share: float, sign: float, fill: Sequence[float]) -> torch.Tensor:
    """One operation at a share (0 to 1) of its greatest strength; `sign` is 1 or -1. Clip: uint8 [T, 3, H, W]."""
    height, width = clip.shape[-2:]
    match name:
        case "autocontrast":
            return F.autocontrast(clip)
        case "equalize":
            return F.equalize(clip)
        case "invert":
            return F.invert(clip)
        case "rotate":
            return _affine(clip, fill, angle=sign * share * 30)
        case "shear_x":
            return _affine(clip, fill, shear=(math.degrees(math.atan(sign * share * 0.3)), 0.0))
        case "shear_y":
            return _affine(clip, fill, shear=(0.0, math.degrees(math.atan(sign * share * 0.3))))
        case "translate_x":
            return _affine(clip, fill, translate=(round(sign * share * 0.45 * width), 0))
        case "translate_y":
            return _affine(clip, fill, translate=(0, round(sign * share * 0.45 * height)))
        case "posterize":
            return F.posterize(clip, max(1, 4 - int(share * 4)))
        case "solarize":
            threshold = 256 - int(share * 256)
            return F.solarize(clip, threshold) if threshold <= 255 else clip
        case "solarize_add":
            added = torch.clamp(clip.to(torch.int16) + int(share * 110), max=255).to(torch.uint8)
            return torch.where(clip < 128, added, clip)
    factor = max(0.1, 1 + sign * share * 0.9)
    match name:
        case "color":
            return F.adjust_saturation(clip, factor)
        case "contrast":
            return F.adjust_contrast(clip, factor)
        case "brightness":
            return F.adjust_brightness(clip, factor)
        case "sharpness":
            return F.adjust_sharpness(clip, factor)
    raise AssertionError(f"no operation {name}")


def _affine(
    clip: torch.Tensor,
    fill: Sequence[float],
    *,
    angle: float = 0.0,
    translate: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> torch.Tensor:
    return F.affine(
        clip,
        angle=angle,
        translate=list(translate),
        scale=1.0,
        shear=list(shear),
        interpolation=InterpolationMode.BILINEAR,
        fill=list(fill),
    )

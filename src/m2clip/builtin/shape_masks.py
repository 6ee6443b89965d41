"""Which pixels of a MotionShapes video show the moving object: what maps of a video are measured against."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from m2clip.builtin.scenes import coverage
from m2clip.builtin.shapes import PAIRS, planned_videos, thing_and_motion, trajectory

_THING = 2  # its slot among the objects; those before it are distractors, and it is painted over them


class MaskedVideo(NamedTuple):
    """A generated video and where its object is."""

    path: Path
    label: str
    """The name of its class."""
    cover: Tensor
    """float32 [T, size, size] in 0..1, as of `object_cover`."""


def object_cover(thing: str, motion: str, *, seed: int, frames: int, size: int) -> Tensor:
    """The share of each pixel that the thing covers in the video that `render_motion` makes of these arguments, float32 [frames, size,
    size] in 0..1.

    Where it is, however faint: opacity is left out.
    """
    pair, (forward, _) = next((pair, motions) for pair, motions in PAIRS.items() if motion in motions)
    objects = trajectory(thing, pair, frames, torch.Generator().manual_seed(seed))
    cover = coverage(objects, _THING, size)
    return cover if motion == forward else cover.flip(0)


def masked_videos(folder: Path, subset: str, split: str) -> Iterator[MaskedVideo]:
    """The videos of a split ("base", "test") of a finished folder of `make_shapes`, in the order of its list."""
    settings = json.loads((folder / "shapes.json").read_text())
    for path, name, _, seed in planned_videos(folder, settings):
        if path.parent == folder / subset / split:
            thing, motion = thing_and_motion(name)
            cover = object_cover(thing, motion, seed=seed, frames=settings["frames"], size=settings["size"])
            yield MaskedVideo(path, name, cover)

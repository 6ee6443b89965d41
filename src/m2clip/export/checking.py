"""Whether an exported file gives PyTorch's numbers, on several numbers of clips and frames."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2clip.errors import ConfigError
from m2clip.export.formats import Run
from m2clip.export.graph import VideoGraph

TOLERANCE = 1e-4
"""How far a number may be from PyTorch's: absolutely, or as a share of the largest one of its output where that is above 1."""


def largest_differences(graph: VideoGraph, run: Run, clips: Sequence[Tensor], *, frames: int) -> dict[str, float]:
    """By output, how far `run` is from the module at most; in the unit of `TOLERANCE`.

    `clips` uint8 [V, T, 3, S, S] of real videos go in as they are and in other numbers, and made ones beside them. Raises
    ConfigError where a number is further off than the tolerance, or none.
    """
    found: dict[str, float] = {}
    for pixels in _batches(clips, frames=frames, size=graph.model.info.image_size):
        with torch.no_grad():
            wanted = {name: value.numpy() for name, value in graph(torch.from_numpy(pixels)).items()}
        got = run(pixels)
        for name, value in wanted.items():
            difference = _difference(value, np.asarray(got[name]))
            if not difference <= TOLERANCE:  # NaN is as far off as anything
                raise ConfigError(
                    f"the exported file gives other numbers than PyTorch: {name} of {pixels.shape[0]} clips of {pixels.shape[1]} "
                    f"frames is off by {difference:.1e} and not within {TOLERANCE:.0e}; it is not written, so go on with m2clip"
                )
            found[name] = max(found.get(name, 0.0), difference)
    return found


def _difference(wanted: NDArray, got: NDArray) -> float:
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return float("inf")
    if wanted.dtype == np.bool_:
        return float((wanted != got).mean())
    return float(np.abs(wanted - got).max() / max(1.0, np.abs(wanted).max()))


def _batches(clips: Sequence[Tensor], *, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """uint8 [B, T, S, S, 3]: the clips, then shortened and repeated; then made ones."""
    real = [np.ascontiguousarray(clip.permute(0, 1, 3, 4, 2).numpy()) for clip in clips]
    yield from real
    if real:
        yield np.concatenate([real[0], real[-1][:, ::-1]])[:, : max(1, frames - 1)]
    for batch, length in ((1, frames), (2, 1), (3, 2), (1, frames + 3)):
        yield made_clips(batch, length, size)


def made_clips(batch: int, frames: int, size: int) -> NDArray[np.uint8]:
    """Clips uint8 [B, T, S, S, 3] that look like something: a bright square that wanders over coloured noise."""
    rng = np.random.default_rng(batch * 1000 + frames)
    pixels = rng.integers(0, 120, (batch, frames, size, size, 3), dtype=np.uint8)
    side = max(1, size // 4)
    for clip in range(batch):
        for t in range(frames):
            top, left = (5 * clip + 2 * t) % (size - side + 1), (3 * t) % (size - side + 1)
            pixels[clip, t, top : top + side, left : left + side] = 255
    return pixels

"""Frames handed on a few at a time: together they take less time than one by one, and never much memory."""

from collections.abc import Callable, Iterable

import numpy as np

_PORTION_BYTES = 4 * 2**20  # sixteen frames of 340x256, one of 1280x720 or larger

Each = Callable[[np.ndarray], np.ndarray]
"""A function of some frames, uint8 [n, H, W, 3], that treats each alone: [n, ...]."""


def in_portions(frames: Iterable[np.ndarray], count: int, each: Each | None) -> np.ndarray:
    """What `each` makes of `count` (1 or more) frames, uint8 [H, W, 3] each: [count, ...]. None: the frames."""
    made = np.empty(0, dtype=np.uint8)
    held: list[np.ndarray] = []
    done = 0
    for frame in frames:
        held.append(frame)
        if done + len(held) < count and (len(held) + 1) * frame.nbytes <= _PORTION_BYTES:
            continue
        portion = np.stack(held)
        portion = portion if each is None else each(portion)
        if done == 0:
            made = np.empty((count, *portion.shape[1:]), dtype=portion.dtype)
        made[done : done + len(held)] = portion
        done += len(held)
        held = []
    return made

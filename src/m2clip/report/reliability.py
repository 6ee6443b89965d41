"""Whether probabilities keep their word: of the videos that a model is 80 % sure of, it should be right about 80 %."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The videos whose best probability lies in (low, high]; the means are None where there are none."""

    low: float
    high: float
    videos: int
    confidence: float | None
    """The mean of their best probabilities."""
    accuracy: float | None
    """The share of them whose best class is the true one."""


def reliability(best: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """The best probability [N] of each video and whether that class is the true one [N] -> 15 bins of equal width.

    Example: 0.8 lies in the bin (11/15, 12/15]; 0 would lie in the first.
    """
    numbers = np.clip(np.ceil(best.astype(np.float64) * BINS).astype(int) - 1, 0, BINS - 1)
    found = []
    for n in range(BINS):
        inside = numbers == n
        videos = int(inside.sum())
        confidence = float(best[inside].mean(dtype=np.float64)) if videos else None
        accuracy = float(right[inside].mean()) if videos else None
        found.append(ReliabilityBin(n / BINS, (n + 1) / BINS, videos, confidence, accuracy))
    return tuple(found)


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """The expected calibration error (Guo et al., arXiv 1706.04599, eq. 3): |accuracy - confidence| of a bin, the mean over all videos.

    0 is best. With few videos it is above 0 even where the probabilities are right: a bin's accuracy scatters.
    """
    gaps = [
        one.videos * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    ]
    return sum(gaps) / sum(one.videos for one in bins)

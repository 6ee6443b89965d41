"""Accuracies of a set of videos from their class probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2clip.report.reliability import ReliabilityBin, calibration_error, reliability

NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %: two sides of a 95 % interval


@dataclass(frozen=True)
class ClassAccuracy:
    """How one class fared; `accuracy` is None without a video, `most_confused_with` is None without a mistake."""

    name: str
    videos: int
    correct: int
    accuracy: float | None
    most_confused_with: str | None


@dataclass(frozen=True)
class Metrics:
    """Accuracies are fractions, intervals are 95 % Wilson intervals; `top5` is None with fewer than 5 classes.

    `mean_class` is the mean of the accuracies of those classes that have videos. `confusion` is int64 [K, K]: row = the
    true class, column = the predicted one. `ece` is the expected calibration error over the bins of `reliability`.
    """

    videos: int
    top1: float
    top1_correct: int
    top1_interval: tuple[float, float]
    top5: float | None
    top5_correct: int | None
    top5_interval: tuple[float, float] | None
    mean_class: float
    ece: float
    reliability: tuple[ReliabilityBin, ...]
    classes: tuple[ClassAccuracy, ...]
    confusion: NDArray[np.int64]

    def document(self) -> dict[str, Any]:
        """The same as plain types that JSON knows."""
        return {
            "videos": self.videos,
            "top1": self.top1,
            "top1_correct": self.top1_correct,
            "top1_interval_95": list(self.top1_interval),
            "top5": self.top5,
            "top5_correct": self.top5_correct,
            "top5_interval_95": None if self.top5_interval is None else list(self.top5_interval),
            "mean_class": self.mean_class,
            "ece": self.ece,
            "reliability": [vars(one).copy() for one in self.reliability],
            "per_class": [vars(row).copy() for row in self.classes],
            "confusion": self.confusion.tolist(),
        }


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a fraction. Unlike a bootstrap it does not collapse to a point at 0 and at 1.

    Example: 10 of 10 correct gives (0.722, 1.0), 5 of 10 gives (0.237, 0.763).
    """
    fraction, z2 = correct / total, NORMAL_QUANTILE**2
    centre = (fraction + z2 / (2 * total)) / (1 + z2 / total)
    half = NORMAL_QUANTILE / (1 + z2 / total) * math.sqrt(fraction * (1 - fraction) / total + z2 / (4 * total**2))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high


def measure(probabilities: NDArray[np.floating], labels: NDArray[np.integer], class_names: Sequence[str]) -> Metrics:
    """Probabilities [N, K], true classes [N], K names -> metrics; N >= 1. Equal scores go to the lower class number."""
    videos, count = probabilities.shape
    if videos == 0 or labels.shape != (videos,) or len(class_names) != count:
        raise ValueError(
            f"scores of the shape {probabilities.shape} do not fit {labels.shape} labels and {len(class_names)} names"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("scores must be finite")
    order = np.argsort(-probabilities, axis=1, kind="stable")  # [N, K], best first
    hits = order == labels[:, None]
    top1 = int(hits[:, 0].sum())
    top5 = int(hits[:, :5].sum()) if count >= 5 else None
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    rows = tuple(_class_row(confusion, k, class_names) for k in range(count))
    measured = [row.accuracy for row in rows if row.accuracy is not None]
    bins = reliability(probabilities.max(1), hits[:, 0])
    return Metrics(
        videos=videos,
        top1=top1 / videos,
        top1_correct=top1,
        top1_interval=wilson_interval(top1, videos),
        top5=None if top5 is None else top5 / videos,
        top5_correct=top5,
        top5_interval=None if top5 is None else wilson_interval(top5, videos),
        mean_class=sum(measured) / len(measured),
        ece=calibration_error(bins),
        reliability=bins,
        classes=rows,
        confusion=confusion,
    )


def _class_row(confusion: NDArray[np.int64], k: int, class_names: Sequence[str]) -> ClassAccuracy:
    videos, correct = int(confusion[k].sum()), int(confusion[k, k])
    wrong = confusion[k].copy()
    wrong[k] = 0
    return ClassAccuracy(
        name=class_names[k],
        videos=videos,
        correct=correct,
        accuracy=correct / videos if videos else None,
        most_confused_with=class_names[int(wrong.argmax())] if wrong.any() else None,
    )

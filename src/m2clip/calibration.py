"""Probabilities that keep their word, and an answer for videos of none of the classes: both set on validation videos.

A temperature for each reading makes its negative log-likelihood on them as small as can be (temperature scaling, Guo et al., arXiv
1706.04599); the order of the classes stays as it was. A threshold on the evidence for the best class (`scoring.Scores.evidence`) rejects
a chosen share of them; it needs no video of other classes.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2clip.data.manifest import Manifest
from m2clip.errors import ConfigError
from m2clip.evaluate import evaluate
from m2clip.model.info import Calibration, texts_sha256
from m2clip.model.video_clip import VideoCLIP
from m2clip.report.reliability import calibration_error, reliability
from m2clip.scoring import Reading, calibrated
from m2clip.terminal import aligned

FORMAT_VERSION = 1
FEW_VIDEOS = 50
_LOWEST, _HIGHEST = 1e-3, 1e3  # temperatures between which one is looked for
_STEPS = 60  # halvings: to the last bit of a double


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` found."""

    calibration: Calibration
    """For the model's record: `info.model_copy(update={"calibration": ...})`, or `checkpoint.copy_with`."""
    document: dict[str, Any]
    """What was measured, as plain values."""

    def summary(self) -> str:
        """The readings before and after as a table, and what else was found, a sentence a line."""
        rows = [["reading", "temperature", "ECE before", "after", "NLL before", "after"]]
        for reading, found in self.document["readings"].items():
            ece, nll = found["ece"], found["nll"]
            rows.append(
                [
                    reading,
                    f"{found['temperature']:.3f}",
                    *(f"{100 * ece[when]:.1f} %" for when in ("before", "after")),
                    *(f"{nll[when]:.3f}" for when in ("before", "after")),
                ]
            )
        lines = aligned(rows)
        found = self.document["none_of_these"]
        if found is not None:
            lines.append(
                f"none of these: {found['evidence']} below {found['threshold']:.4g}, "
                f"{found['rejected']} of {found['videos']} validation videos"
            )
        return "\n".join([*lines, *self.document["told"]])


def calibrate(model: VideoCLIP, videos: Manifest, *, reject: float | None = None, **options: Any) -> Calibrated:
    """Set temperatures, and with `reject` a threshold, on validation videos. The model itself stays as it is.

    Where the videos' classes are the model's own, its three readings are calibrated, else the similarity to these labels; the result
    holds for exactly these labels and texts. `reject` in (0, 1): the share of the videos that is to fall below the threshold.
    `options` are those of `evaluate` (texts, views, frames, batch_size, workers, tell, progress ...).

    Raises ConfigError for fewer than two classes, a share that is less than one video, and scores that are no better than chance;
    VideoError where no video can be read; M2CLIPError for scores that are not finite.
    """
    started = time.perf_counter()
    if reject is not None and not 0 < reject < 1:
        raise ConfigError(f"the share to reject is {reject:g}: it must be between 0 and 1, as in 0.05")
    if len(videos.class_names) < 2:
        raise ConfigError(
            f"{videos.source}: it has one class, and with one class every probability is 1; calibrate on all of the labels"
        )
    own = sorted(videos.class_names) == sorted(model.info.class_names)
    before = model.info
    model.info = before.model_copy(update={"calibration": None})  # what is measured is the softmax itself
    try:
        result = evaluate(model, videos, protocol="supervised" if own else "zero-shot", masked_words=False, **options)
    finally:
        model.info = before
    labels = result.samples.labels
    told = []
    if len(labels) < FEW_VIDEOS:
        told.append(f"set on {len(labels)} videos only, so it may be far from right: some hundred are better")
    readings: dict[Reading, dict[str, Any]] = {}
    for reading, table in result.probabilities.items():
        temperature = fit_temperature(table, labels, where=f"{videos.source}, {reading}")
        if temperature is None:
            told.append(
                f"{reading}: every video is right, which says nothing of how sure is too sure; its temperature stays 1"
            )
        readings[reading] = _before_and_after(table, labels, temperature=1.0 if temperature is None else temperature)
    used = result.document["protocol"]
    evidence = "cosine" if "visual" not in readings else "visual logit"
    rejection = None
    if reject is not None:
        threshold = fit_threshold(result.best_evidence, reject=reject, where=str(videos.source))
        rejection = {
            "evidence": evidence,
            "threshold": threshold,
            "rejected": int((result.best_evidence < threshold).sum()),
            "videos": len(labels),
        }
    measured = {
        "data": Path(str(used["data"]["source"])).name,
        "data_sha256": used["data"]["sha256"],
        "videos": len(labels),
        "classes": len(videos.class_names),
        "protocol": used["name"],
        "views": used["views"],
        "readings": readings,
        "none_of_these": rejection,
    }
    calibration = Calibration.model_validate(
        {
            "texts_sha256": texts_sha256(used["texts"]),
            "temperatures": {reading: found["temperature"] for reading, found in readings.items()},
            "threshold": None if rejection is None else rejection["threshold"],
            "evidence": evidence,
            "strength": model.strength,
            "measured": measured,
        }
    )
    document = {
        "format_version": FORMAT_VERSION,
        **measured,
        "told": told,
        "protocol": used,
        "seconds": time.perf_counter() - started,
    }
    return Calibrated(calibration, document)


def fit_temperature(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, where: str = "the videos"
) -> float | None:
    """Probabilities [N, K] and true classes [N] -> the temperature T with the smallest mean of -log softmax(log p / T)[label].

    None where every true class has the highest probability: the smaller T, the better then, without end. ConfigError where no T
    is better than calling all classes equal. The mean is convex in 1 / T, so that its slope has one zero, which is found by halving.
    """
    logarithms = torch.from_numpy(probabilities.astype(np.float64)).clamp_min(1e-45).log()
    true = torch.from_numpy(labels.astype(np.int64))
    of_true = logarithms[torch.arange(len(true)), true]
    if bool(((logarithms >= of_true[:, None]).sum(-1) == 1).all()):
        return None

    def slope(temperature: float) -> float:
        """Of the mean, by 1 / T: what is expected of log p, less what is."""
        expected = ((logarithms / temperature).softmax(-1) * logarithms).sum(-1)
        return float((expected - of_true).mean())

    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    if slope(_HIGHEST) >= 0:
        raise ConfigError(
            f"{where}: the scores say no more of the classes than chance does; look at the labels and the class list"
        )
    if slope(_LOWEST) <= 0:
        return _LOWEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) > 0 else (low, middle)
    return math.exp((low + high) / 2)


def fit_threshold(best_evidence: NDArray[np.floating], *, reject: float, where: str = "the videos") -> float:
    """The evidence of N videos -> the threshold that the share `reject` of them is below (rounded down to whole videos).

    It lies midway between the last video that is rejected and the first that is not. ConfigError where that is not one video.
    Example: of 1, 2, 3 ... 40, `reject=0.05` gives 2.5.
    """
    ordered = np.sort(best_evidence.astype(np.float64))
    count = math.floor(reject * len(ordered) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if not 0 < count < len(ordered):
        raise ConfigError(
            f"{where}: {reject:g} of {len(ordered)} videos is less than one; give a larger share, or {math.ceil(1 / reject)} videos or more"
        )
    return float((ordered[count - 1] + ordered[count]) / 2)


def _before_and_after(table: NDArray[np.float32], labels: NDArray[np.integer], *, temperature: float) -> dict[str, Any]:
    raw = torch.from_numpy(table)
    tables: Mapping[str, Tensor] = {"before": raw, "after": calibrated(raw, temperature)}
    return {
        "temperature": temperature,
        "nll": {when: _nll(values, labels) for when, values in tables.items()},
        "ece": {when: _ece(values.numpy(), labels) for when, values in tables.items()},
    }


def _nll(probabilities: Tensor, labels: NDArray[np.integer]) -> float:
    of_true = probabilities.double()[torch.arange(len(labels)), torch.from_numpy(labels.astype(np.int64))]
    return float(-of_true.clamp_min(1e-45).log().mean())


def _ece(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    return calibration_error(reliability(probabilities.max(1), probabilities.argmax(1) == labels))

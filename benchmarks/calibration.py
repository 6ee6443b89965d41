"""Measure what a calibration does: `python benchmarks/calibration.py DEMO...`; writes docs/results/calibration.json and the page's tables.

Each DEMO is a folder that `m2clip demo --seed N --out DEMO` made. Temperatures and thresholds are set on its base validation videos, and
looked at on its base test videos (known classes) and its novel test videos (classes that no list names). A minute a folder on two cores.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from speed.markdown import put_between
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from m2clip import load
from m2clip.calibration import fit_temperature, fit_threshold
from m2clip.data.dataset import MOST_LOST
from m2clip.data.manifest import Manifest, read_manifest
from m2clip.data.readers import FILE_SECONDS
from m2clip.evaluate import evaluation_dataset, versions
from m2clip.evaluate.scoring_pass import read_batches
from m2clip.model.video_clip import VideoCLIP
from m2clip.report.reliability import BINS, calibration_error, reliability
from m2clip.scoring import Scores, calibrated, class_embeddings, scores
from m2clip.study.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/calibration.json"
PAGE = ROOT / "docs/calibration.md"
BEGIN, END = "<!-- begin calibration -->", "<!-- end calibration -->"
REJECT = 0.05
STRENGTHS = (1.0, 0.8, 0.5)
READINGS = ("similarity", "visual", "ensemble")
DETECTORS = {
    "probability_similarity": "best probability, similarity",
    "probability_ensemble": "best probability, ensemble",
    "probability_visual": "best probability, visual",
    "cosine": "best cosine",
    "energy": "energy of the visual logits",
    "visual_logit": "best visual logit",
}
"""What might tell videos of known classes from others; higher means known."""


@dataclass(frozen=True)
class Part:
    """The scores of N videos against the K trained classes and, by name alone, against the classes of their own list."""

    labels: NDArray[np.int64]
    trained: Scores
    own: Scores
    cosines: Tensor
    """[N, K]."""


def read_part(model: VideoCLIP, videos: Manifest) -> Part:
    """One view of each video, as `m2clip evaluate` reads it."""
    sampling = model.info.sampling
    dataset = evaluation_dataset(
        model.info, videos, views_temporal=1, views_spatial=1, sampling=sampling, most_lost=MOST_LOST
    )
    embeddings, logits, labels = [], [], []
    for batch in read_batches(
        dataset,
        batch_size=16,
        workers=0,
        file_seconds=FILE_SECONDS,
        on_bad_file="stop",
        tell=print,
        progress=lambda done, total: None,
    ):
        with torch.inference_mode():
            features = model.encode_video(batch.view(0, device=torch.device("cpu")))
        embeddings.append(features.embedding)
        logits.append(features.visual_logits)
        labels.append(batch.labels)
    video, visual = torch.cat(embeddings), torch.cat(logits)
    trained = class_embeddings(model, model.info.texts)
    own = class_embeddings(model, [[model.info.template.format(name)] for name in videos.class_names])
    return Part(
        torch.cat(labels).numpy(),
        scores(video, trained, visual),
        scores(video, own),
        scores(video, trained).evidence,
    )


def evidence(part: Part, detector: str) -> Tensor:
    """[N]: what this detector says of each video."""
    if detector.startswith("probability_"):
        return part.trained.readings()[detector.removeprefix("probability_")].amax(-1)
    if detector == "cosine":
        return part.cosines.amax(-1)
    return part.trained.evidence.logsumexp(-1) if detector == "energy" else part.trained.evidence.amax(-1)


def quality(probabilities: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    """Top-1, ECE and NLL."""
    best, chosen = probabilities.max(-1)
    right = chosen.numpy() == labels
    of_true = probabilities.double()[torch.arange(len(labels)), torch.from_numpy(labels)]
    return {
        "top1": float(right.mean()),
        "ece": calibration_error(reliability(best.numpy(), right)),
        "nll": float(-of_true.clamp_min(1e-45).log().mean()),
    }


def measure(demo: Path) -> dict[str, Any]:
    """All figures of one demo."""
    model = load(demo / "run/best.safetensors")
    lists = {
        "val": ("base/val.csv", "base"),
        "known": ("base/test.csv", "base"),
        "unknown": ("novel/test.csv", "novel"),
    }
    manifests = {
        name: read_manifest(demo / "data" / listed, classes=demo / "data" / part / "classes.csv")
        for name, (listed, part) in lists.items()
    }
    found: dict[str, Any] = {"seed": model.info.training.get("seed"), "strengths": {}}
    temperatures: dict[str, float] = {}
    threshold = 0.0
    for strength in STRENGTHS:
        model.set_strength(strength)
        parts = {name: read_part(model, videos) for name, videos in manifests.items()}
        val, known, unknown = parts["val"], parts["known"], parts["unknown"]
        if strength == 1:
            found["videos"] = {name: len(part.labels) for name, part in parts.items()}
            for reading in READINGS:
                fitted = fit_temperature(val.trained.readings()[reading].numpy(), val.labels)
                temperatures[reading] = 1.0 if fitted is None else fitted
            found["readings"] = {
                reading: {
                    "temperature": temperatures[reading],
                    "before": quality(known.trained.readings()[reading], known.labels),
                    "after": quality(
                        calibrated(known.trained.readings()[reading], temperatures[reading]), known.labels
                    ),
                }
                for reading in READINGS
            }
            both = [calibrated(known.trained.readings()[name], temperatures[name]) for name in READINGS[:2]]
            mean = (both[0] + both[1]) / 2
            changed = int((mean.argmax(-1) != known.trained.readings()["ensemble"].argmax(-1)).sum())
            found["mean_of_calibrated"] = {**quality(mean, known.labels), "top1_changed": changed}
            found["other_labels"] = {
                "classes": len(manifests["unknown"].class_names),
                "before": quality(unknown.own.similarity, unknown.labels),
                "after": quality(calibrated(unknown.own.similarity, temperatures["similarity"]), unknown.labels),
            }
            found["detectors"] = {name: detection(val, known, unknown, name) for name in DETECTORS}
            threshold = found["detectors"]["visual_logit"]["threshold"]
        ensemble = known.trained.readings()["ensemble"]
        found["strengths"][f"{strength:g}"] = {
            "before": quality(ensemble, known.labels),
            "after": quality(calibrated(ensemble, temperatures["ensemble"]), known.labels),
            "known_rejected": float((evidence(known, "visual_logit") < threshold).double().mean()),
        }
    return found


def detection(val: Part, known: Part, unknown: Part, detector: str) -> dict[str, float]:
    """How well one number tells known from unknown classes, and what a threshold on it rejects."""
    values = [evidence(part, detector) for part in (val, known, unknown)]
    threshold = fit_threshold(values[0].numpy(), reject=REJECT)
    targets = torch.cat([torch.ones(len(values[1])), torch.zeros(len(values[2]))]).int()
    # torchmetrics takes what lies outside of [0, 1] for logits and rounds it by a sigmoid: ranks say the same, and lie inside
    ranks = torch.cat(values[1:]).unique(return_inverse=True)[1].double()
    return {
        "auroc": float(binary_auroc(ranks / ranks.max().clamp_min(1), targets)),
        "threshold": threshold,
        "known_rejected": float((values[1] < threshold).double().mean()),
        "unknown_rejected": float((values[2] < threshold).double().mean()),
    }


def over(demos: Sequence[Mapping[str, Any]], *path: str) -> float:
    """The mean of one figure over the demos."""
    values = []
    for demo in demos:
        value: Any = demo
        for key in path:
            value = value[key]
        values.append(float(value))
    return fmean(values)


def table(document: Mapping[str, Any]) -> str:
    """The figures as the page has them."""
    demos = document["demos"]
    seeds = ", ".join(str(demo["seed"]) for demo in demos)
    videos = demos[0]["videos"]

    def percent(*path: str) -> str:
        return f"{100 * over(demos, *path):.1f} %"

    demos_used = f"One demo (seed {seeds})" if len(demos) == 1 else f"Mean over {len(demos)} demos (seeds {seeds})"
    rows = [
        f"{demos_used}: set on {videos['val']} validation videos of 56 trained classes, measured on {videos['known']} test videos of "
        f"these classes and {videos['unknown']} of 24 others.",
        "",
        "| reading | temperature | top-1 | ECE before | after | NLL before | after |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for reading in READINGS:
        at = ("readings", reading)
        rows.append(
            f"| {reading} | {over(demos, *at, 'temperature'):.2f} | {percent(*at, 'after', 'top1')} | {percent(*at, 'before', 'ece')} "
            f"| {percent(*at, 'after', 'ece')} | {over(demos, *at, 'before', 'nll'):.3f} | {over(demos, *at, 'after', 'nll'):.3f} |"
        )
    mean = ("mean_of_calibrated",)
    rows.append(
        f"| mean of the calibrated similarity and visual (not used) | | {percent(*mean, 'top1')} | | {percent(*mean, 'ece')} "
        f"| | {over(demos, *mean, 'nll'):.3f} |"
    )
    other = ("other_labels",)
    rows.append(
        f"| similarity on the {demos[0]['other_labels']['classes']} other classes, with the temperature of the trained ones (not used) "
        f"| {over(demos, 'readings', 'similarity', 'temperature'):.2f} | {percent(*other, 'after', 'top1')} "
        f"| {percent(*other, 'before', 'ece')} | {percent(*other, 'after', 'ece')} | {over(demos, *other, 'before', 'nll'):.3f} "
        f"| {over(demos, *other, 'after', 'nll'):.3f} |"
    )
    rows += [
        "",
        f"Which number tells videos of trained classes from those of others; its threshold rejects {100 * REJECT:g} % of the "
        "validation videos:",
        "",
        "| number | AUROC | known rejected | others rejected |",
        "|:--|--:|--:|--:|",
    ]
    for detector, words in DETECTORS.items():
        at = ("detectors", detector)
        used = " (used with a visual head)" if detector == "visual_logit" else ""
        used = " (used without one)" if detector == "cosine" else used
        rows.append(
            f"| {words}{used} | {over(demos, *at, 'auroc'):.3f} | {percent(*at, 'known_rejected')} | {percent(*at, 'unknown_rejected')} |"
        )
    rows += [
        "",
        "The ensemble at other adapter strengths, with temperature and threshold of strength 1:",
        "",
        "| strength | ECE before | after | known rejected |",
        "|:--|--:|--:|--:|",
    ]
    for strength in demos[0]["strengths"]:
        at = ("strengths", strength)
        rows.append(
            f"| {strength} | {percent(*at, 'before', 'ece')} | {percent(*at, 'after', 'ece')} | {percent(*at, 'known_rejected')} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demos", nargs="+", type=Path)
    options = parser.parse_args()
    document = {
        "command": "python benchmarks/calibration.py " + " ".join(f"DEMO_{n}" for n in range(len(options.demos))),
        "machine": machine(),
        "versions": versions(),
        "reject": REJECT,
        "bins": BINS,
        "demos": [measure(demo) for demo in options.demos],
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    PAGE.write_text(put_between(PAGE.read_text("utf-8"), BEGIN, END, table(document)), "utf-8")


if __name__ == "__main__":
    main()

"""Choosing the strength of a model's adapters on validation data: between the frozen CLIP (0) and all that was learned (1).

Adapters learn the trained classes and may lose some of what CLIP knows of all others; weakened, they give some of it back. The
same is known of fine-tuned weights that are drawn towards the zero-shot model (WiSE-FT, arXiv 2109.01903).
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from m2clip.data.dataset import MOST_LOST
from m2clip.data.manifest import Manifest
from m2clip.data.readers import FILE_SECONDS
from m2clip.errors import ConfigError
from m2clip.evaluate import data_document, evaluation_dataset, model_document, versions
from m2clip.evaluate.classes import evaluated_classes
from m2clip.evaluate.scoring_pass import ScoringPass, read_batches
from m2clip.model.video_clip import VideoCLIP
from m2clip.protocol.file import Kind
from m2clip.report import Metrics, figures, measure
from m2clip.report.files import results_folder, write_csv, write_json, write_whole
from m2clip.scoring import Reading, class_embeddings
from m2clip.terminal import aligned

STRENGTHS = tuple(k / 10 for k in range(11))
FORMAT_VERSION = 1
_SHORT = ("videos", "top1", "top1_correct", "top1_interval_95", "top5", "mean_class")


@dataclass(frozen=True)
class Point:
    """What a model reaches at one strength."""

    strength: float
    trained: Mapping[Reading, Metrics]
    """On the trained classes, for each reading."""
    novel: Metrics | None
    """On classes that were not trained, by similarity."""

    @property
    def reading(self) -> Reading:
        """What the trained classes are judged by: the ensemble where there is a trained visual head."""
        return "ensemble" if "ensemble" in self.trained else "similarity"

    @property
    def score(self) -> float:
        """What strengths are chosen by: top-1 on the trained classes or, with novel ones, the harmonic mean of the two."""
        top1 = self.trained[self.reading].top1
        return top1 if self.novel is None else statistics.harmonic_mean([top1, self.novel.top1])

    def document(self) -> dict[str, Any]:
        """The same as plain values."""
        trained = {reading: _short(metrics) for reading, metrics in self.trained.items()}
        novel = None if self.novel is None else {"similarity": _short(self.novel)}
        return {"strength": self.strength, "trained": trained, "novel": novel, "score": self.score}


@dataclass(frozen=True)
class StrengthCurve:
    """A model measured at several strengths, weakest first."""

    document: dict[str, Any]
    """What strength.json holds."""
    points: tuple[Point, ...]

    @property
    def best(self) -> Point:
        """The point with the highest score; of equals the strongest."""
        return max(self.points, key=lambda point: (point.score, point.strength))

    @property
    def chosen_by(self) -> str:
        """The name of the score."""
        first = self.points[0]
        return f"top-1 ({first.reading})" if first.novel is None else "harmonic mean"

    def summary(self) -> str:
        """The curve as a table, and the strength that is best."""
        both = self.points[0].novel is not None
        header = ["strength", f"trained ({self.points[0].reading})"]
        rows = [header + (["novel (similarity)", "harmonic mean"] if both else [])]
        for point in self.points:
            values = [point.trained[point.reading].top1]
            values += [point.novel.top1, point.score] if point.novel else []
            rows.append([f"{point.strength:g}", *(f"{100 * value:.1f} %" for value in values)])
        lines = aligned(rows)
        best = self.best
        return "\n".join([*lines, f"best by {self.chosen_by}: strength {best.strength:g} ({100 * best.score:.1f} %)"])

    def write(self, out: str | Path) -> list[str]:
        """Write strength.json, strength.csv and, with matplotlib, strength.png into the folder `out`; returns the names."""
        folder = results_folder(Path(out))
        write_json(folder / "strength.json", self.document)
        readings = list(self.points[0].trained)
        both = self.points[0].novel is not None
        header = ["strength", *(f"trained_{reading}_top1" for reading in readings)]
        rows = [
            [
                point.strength,
                *(point.trained[reading].top1 for reading in readings),
                *([point.novel.top1, point.score] if point.novel else []),
            ]
            for point in self.points
        ]
        write_csv(folder / "strength.csv", header + (["novel_similarity_top1", "harmonic_mean"] if both else []), rows)
        names = ["strength.json", "strength.csv"]
        if figures.available():
            write_whole(folder / "strength.png", self._figure())
            names.append("strength.png")
        return names

    def _figure(self) -> bytes:
        first = self.points[0]
        lines = {f"trained classes ({first.reading})": [point.trained[point.reading] for point in self.points]}
        if first.novel is not None:
            lines["novel classes (similarity)"] = [point.novel for point in self.points if point.novel]
        return figures.strength_figure(
            [point.strength for point in self.points],
            {name: [(one.top1, *one.top1_interval) for one in metrics] for name, metrics in lines.items()},
            harmonic=None if first.novel is None else [point.score for point in self.points],
            best=self.best.strength,
        )


def tune_strength(
    model: VideoCLIP,
    trained: Manifest,
    novel: Manifest | None = None,
    *,
    strengths: Sequence[float] = STRENGTHS,
    views_temporal: int = 1,
    views_spatial: int = 1,
    frames: int | None = None,
    stride_frames: int | None = None,
    fps: float | None = None,
    clip_seconds: float | None = None,
    batch_size: int = 8,
    workers: int = 0,
    on_bad_file: Literal["skip", "stop"] = "skip",
    most_lost: float = MOST_LOST,
    file_seconds: float = FILE_SECONDS,
    checkpoint: str | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StrengthCurve:
    """Measure the model at each strength: on videos of its trained classes and, where given, of others by their names alone.

    Each video is decoded once for all strengths. The model keeps the strength that it has. The other options are those of `evaluate`.

    Raises ConfigError for strengths that cannot be, a method without adapters, and classes that do not fit; VideoError as `evaluate`.
    """
    started = time.perf_counter()
    info = model.info
    if not strengths or len(set(strengths)) < len(strengths) or not all(0 <= strength <= 1 for strength in strengths):
        listed = ", ".join(f"{strength:g}" for strength in strengths) or "none"
        raise ConfigError(f"the strengths are {listed}; give one or more different numbers between 0 and 1")
    if sorted(trained.class_names) != sorted(info.class_names):
        raise ConfigError(
            f"{trained.source}: the strength is tuned on the {len(info.class_names)} classes that the model was trained on, "
            f"but the data names {len(trained.class_names)} and not the same; give videos of other classes as novel ones"
        )
    known = [name for name in novel.class_names if name in info.class_names] if novel else []
    if novel and known:
        tell(
            f"{novel.source}: {len(known)} of its {len(novel.class_names)} classes were trained (first: {known[0]!r}), "
            "so it says less about new ones"
        )
    ordered = sorted(map(float, strengths))
    sampling = info.sampling.changed(frames=frames, stride_frames=stride_frames, fps=fps, clip_seconds=clip_seconds)

    def measured(manifest: Manifest, protocol: Kind) -> tuple[dict[str, Any], list[dict[Reading, Metrics]]]:
        classes = evaluated_classes(info, manifest, protocol, visual_head=model.visual_head is not None)
        dataset = evaluation_dataset(
            info,
            manifest,
            views_temporal=views_temporal,
            views_spatial=views_spatial,
            sampling=sampling,
            most_lost=most_lost,
        )
        calibration = info.calibration_for(classes.texts)
        passes = []
        for strength in ordered:
            model.set_strength(strength)
            embeddings = class_embeddings(model, classes.texts, names=manifest.class_names)
            passes.append(
                ScoringPass(
                    dataset,
                    embeddings,
                    head_columns=classes.head_columns,
                    batch_size=batch_size,
                    calibration=calibration,
                )
            )
        for batch in read_batches(
            dataset,
            batch_size=batch_size,
            workers=workers,
            file_seconds=file_seconds,
            on_bad_file=on_bad_file,
            tell=tell,
            progress=progress,
        ):
            for strength, one in zip(ordered, passes, strict=True):
                model.set_strength(strength)
                one.score(model, batch)
        results = []
        for one in passes:
            scored = one.merge()
            labels = manifest.samples.labels[scored]
            tables = one.probabilities(scored)
            results.append({name: measure(table, labels, manifest.class_names) for name, table in tables.items()})
        described = {
            "data": data_document(manifest, passes[0].bad, passes[0].damaged),
            "classes": len(manifest.class_names),
            "class_names": list(manifest.class_names),
            "texts": [list(of_class) for of_class in classes.texts],
            **dataset.sampling.document(),
            **classes.texts_from,
        }
        return described, results

    before = model.strength
    try:
        on_trained, trained_results = measured(trained, "supervised")
        on_novel, novel_results = (None, None) if novel is None else measured(novel, "zero-shot")
    finally:
        model.set_strength(before)
    points = tuple(
        Point(strength, trained_results[n], None if novel_results is None else novel_results[n]["similarity"])
        for n, strength in enumerate(ordered)
    )
    curve = StrengthCurve({}, points)
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "best": curve.best.strength,
        "chosen_by": curve.chosen_by,
        "points": [point.document() for point in points],
        "views": {"temporal": views_temporal, "spatial": views_spatial, "fusion": "mean of probabilities"},
        "trained": on_trained,
        "novel": None if on_novel is None else on_novel | {"classes_seen_in_training": len(known)},
        "model": model_document(model, checkpoint),
        "seed": info.training.get("seed"),
        "device": str(next(model.parameters()).device),
        "versions": versions(),
        "seconds": time.perf_counter() - started,
    }
    return StrengthCurve(document, points)


def _short(metrics: Metrics) -> dict[str, Any]:
    document = metrics.document()
    return {name: document[name] for name in _SHORT}

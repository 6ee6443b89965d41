"""The demo: make MotionShapes videos, adapt the tiny CLIP to the base classes, and see what it says of base and novel ones.

Everything goes through the same doors as on real data: `train`, `evaluate`, `Recognizer`.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2clip.builtin.shapes import make_shapes
from m2clip.checkpoint import create, load
from m2clip.config import RunConfig, checked
from m2clip.data.manifest import Manifest, read_manifest
from m2clip.data.places import Place
from m2clip.data.sampling import test_indices
from m2clip.data.video import Video
from m2clip.errors import ConfigError
from m2clip.evaluate import Evaluation, evaluate
from m2clip.model.video_clip import VideoCLIP
from m2clip.recognizer import Recognizer
from m2clip.report import Picture, Section, Table, page, write_json
from m2clip.report.figures import available, confusion_figure
from m2clip.report.files import write_whole
from m2clip.report.overview import accuracy_bars, frame_strip, training_curves
from m2clip.scoring import Prediction
from m2clip.train import STATE, train
from m2clip.train.log import read_log

VIDEOS_PER_CLASS = {"train": 16, "val": 2, "test": 5}
"""How many videos of each class are generated (novel classes: tests only)."""

RECIPE: dict[str, Any] = {
    "data": {"frames": 8, "recipe": "kinetics", "flip": False, "workers": 0},
    "train": {"epochs": 8, "warmup_epochs": 1, "batch_size": 32, "lr": 3e-3},
    "eval": {"batch_size": 32},
}
"""The demo's settings, as a run's YAML would have them."""


def run_demo(
    out: str | Path, *, seed: int = 0, progress: bool | None = None, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run the whole demo into the folder `out` and return what `out`/report.json holds.

    `progress`: progress bars (None: on a terminal). `tell` gets a sentence before each stage. The accuracies are fractions;
    base is read off the ensemble (the frozen CLIP has only the similarity), novel off the similarity. In a folder that holds the
    same demo already, finished or interrupted, what is done is kept: `resumed` is then true and `seconds` tells this call's only.
    Raises ConfigError where `out` holds a demo with other settings.
    """
    out = Path(out)
    if not available():
        raise ConfigError("the demo draws figures and trains; install what it needs with pip install 'm2clip[train]'")
    resumed = (out / "run" / STATE).exists()
    started = time.perf_counter()
    tell("1/4 generating MotionShapes videos")
    make_shapes(
        out / "data",
        seed=seed,
        train_per_class=VIDEOS_PER_CLASS["train"],
        val_per_class=VIDEOS_PER_CLASS["val"],
        test_per_class=VIDEOS_PER_CLASS["test"],
    )
    tell("2/4 adapting the tiny CLIP to the base classes")
    config = _config(out, seed=seed)
    best = train(config, resume="auto", progress=progress)
    tell("3/4 evaluating on base and novel classes, beside the frozen CLIP")
    manifests = {
        "base": read_manifest(out / "data/base/test.csv", classes=out / "data/base/classes.csv"),
        "novel": read_manifest(out / "data/novel/test.csv", classes=out / "data/novel/classes.csv"),
    }
    models = {"frozen_clip": _frozen(config, manifests["base"]), "adapted": load(best)}
    results = {
        (model, part): _evaluate(models[model], manifest, supervised=model == "adapted" and part == "base")
        for model in models
        for part, manifest in manifests.items()
    }
    tell("4/4 classifying a novel video and writing the report")
    example = _example(models, manifests["novel"], results[("adapted", "novel")])
    document = _document(results, manifests, seed=seed, seconds=time.perf_counter() - started, example=example)
    document["resumed"] = resumed
    _write_page(out, document, manifests, results, example)
    document["seconds"] = time.perf_counter() - started
    write_json(out / "report.json", document)
    return document


def _config(out: Path, *, seed: int) -> RunConfig:
    base = out / "data/base"
    values: dict[str, Any] = json.loads(json.dumps(RECIPE))
    values["out"] = str(out / "run")
    values["data"] |= {
        "train": str(base / "train.csv"),
        "val": str(base / "val.csv"),
        "classes": str(base / "classes.csv"),
    }
    values["train"]["seed"] = seed
    return checked(RunConfig, values, where="demo")


def _frozen(config: RunConfig, base: Manifest) -> VideoCLIP:
    return create("builtin", class_names=base.class_names, frames=config.data.frames, template=config.model.template)


def _evaluate(model: VideoCLIP, manifest: Manifest, *, supervised: bool) -> Evaluation:
    return evaluate(model, manifest, protocol="supervised" if supervised else "zero-shot", batch_size=32)


def _accuracies(result: Evaluation) -> dict[str, Any]:
    """Top-1 of the reading that a user would take, and all readings beside it."""
    reading = "ensemble" if "ensemble" in result.metrics else "similarity"
    return {
        "top1": result.metrics[reading].top1,
        "reading": reading,
        "readings": {name: measured.top1 for name, measured in result.metrics.items()},
        "videos": len(result.samples),
        "classes": len(result.class_names),
    }


@dataclass(frozen=True)
class _Example:
    """One novel video, the frames that a model sees of it, and what each model says."""

    place: Place
    truth: str
    frames: NDArray[np.uint8]
    predictions: Mapping[str, list[Prediction]]


def _example(models: Mapping[str, VideoCLIP], novel: Manifest, result: Evaluation) -> _Example:
    """The first novel test video of the class that is told best: a picture of the method at work, not a claim."""
    best = best_told(result.metrics["similarity"].confusion)
    sample = next(sample for sample in novel.samples if sample.label == best)
    frames = models["adapted"].info.frames
    with Video(sample.path) as video:
        pictures = video.frames(test_indices(video.info.frame_count, frames=frames)[0])
    names = {"frozen_clip": "frozen CLIP", "adapted": "adapted (never saw these classes)"}
    predictions = {
        names[name]: Recognizer(model).classify(sample.path, labels=list(novel.class_names), top=5)
        for name, model in models.items()
    }
    return _Example(sample.path, novel.class_names[best], pictures, predictions)


def best_told(confusion: NDArray[np.int64]) -> int:
    """The class with the highest F1 in [K, K] counts (rows true); the first of equals.

    By accuracy alone, a model that calls each spin clockwise would be shown at its best with a clockwise one.
    """
    totals = confusion.sum(0) + confusion.sum(1)
    return int((2 * confusion.diagonal() / np.maximum(totals, 1)).argmax())


def _document(
    results: Mapping[tuple[str, str], Evaluation],
    manifests: Mapping[str, Manifest],
    *,
    seed: int,
    seconds: float,
    example: _Example,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        model: {part: _accuracies(results[(model, part)]) for part in manifests} for model in ("frozen_clip", "adapted")
    }
    document |= {
        "chance": {part: 1 / len(manifest.class_names) for part, manifest in manifests.items()},
        "seed": seed,
        "seconds": seconds,
        "recipe": RECIPE,
        "videos_per_class": VIDEOS_PER_CLASS,
        "example": {
            "video": str(example.place),
            "label": example.truth,
            "predictions": {
                model: [{"label": p.label, "score": p.score} for p in best]
                for model, best in example.predictions.items()
            },
        },
        "protocols": {f"{model}.{part}": result.document["protocol"] for (model, part), result in results.items()},
    }
    return document


def _write_page(
    out: Path,
    document: Mapping[str, Any],
    manifests: Mapping[str, Manifest],
    results: Mapping[tuple[str, str], Evaluation],
    example: _Example,
) -> None:
    titles = {"frozen_clip": "frozen CLIP", "adapted": "adapted"}
    groups = {part: f"{part} ({len(manifest.class_names)} classes)" for part, manifest in manifests.items()}
    bars = {
        title: {groups[part]: document[model][part]["top1"] for part in manifests} for model, title in titles.items()
    }
    chance = {groups[part]: document["chance"][part] for part in manifests}
    write_whole(out / "accuracy.png", accuracy_bars(bars, chance=chance, title="MotionShapes, one seed"))
    write_whole(out / "curves.png", training_curves(read_log(out / "run")))
    write_whole(out / "example.png", frame_strip(example.frames, example.predictions, truth=example.truth))
    pictures = []
    for part, manifest in manifests.items():
        reading = document["adapted"][part]["reading"]
        confusion = results[("adapted", part)].metrics[reading].confusion
        picture = Picture(
            f"confusion_{part}.png", f"Adapted, {part} classes, reading {reading}: rows are the true classes"
        )
        write_whole(out / picture.file, confusion_figure(confusion, manifest.class_names, f"{part} classes"))
        pictures.append(picture)
    for (model, part), result in results.items():
        result.write(out / "evaluations" / f"{model}_{part}")
    rows = [
        [
            titles[model],
            part,
            document[model][part]["classes"],
            document[model][part]["videos"],
            document[model][part]["reading"],
            f"{100 * document[model][part]['top1']:.1f} %",
            f"{100 * document['chance'][part]:.1f} %",
        ]
        for part in manifests
        for model in titles
    ]
    what = (
        "A tiny CLIP that was trained on generated still scenes (it knows coloured shapes, not the world) was adapted to "
        "generated videos. A class is an object and a motion; each motion has its time-reversed twin among the classes, so that "
        "no single frame and no unordered set of frames tells them apart. The novel classes are made of objects that never "
        "occur in training, and are recognised from their names alone."
    )
    html = page(
        "m2clip demo: MotionShapes",
        [
            Section("What was done", [what]),
            Section(
                "Accuracy",
                [
                    Table(["model", "part", "classes", "videos", "reading", "top-1", "chance"], rows),
                    Picture("accuracy.png", "Top-1 of the frozen and of the adapted CLIP"),
                ],
            ),
            Section(
                "A video of a novel class",
                [
                    "The first video of the class that is told best (by F1). Not every class is: see the confusion below.",
                    Picture("example.png", f"True class: {example.truth}"),
                ],
            ),
            Section("Training", [Picture("curves.png", "Loss terms, and validation top-1 on the base classes")]),
            Section("Confusion", pictures),
        ],
    )
    write_whole(out / "report.html", html)

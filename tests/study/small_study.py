"""A study that takes seconds: a tiny random CLIP, a few videos, two test parts; and records without any run."""

from pathlib import Path
from typing import Any

import yaml

from m2clip.study import Study, load_study
from m2clip.study.plan import Cell, plan
from m2clip.study.results import Record
from tests.small_inputs import TINY, class_folders

BASE = ("red star growing", "blue square bouncing")
NOVEL = ("green circle spinning", "white heart falling", "pink drop rolling")


def write_study(folder: Path, **changes: Any) -> Path:
    """Videos, a protocol and a study of two methods and two seeds under `folder`; `changes` replace keys of the study."""
    if not (folder / "videos").exists():
        class_folders(folder / "videos" / "base", BASE, each=2)
        class_folders(folder / "videos" / "novel", NOVEL, each=1)
    protocol = {
        "title": "small",
        "folder": str(folder / "videos"),
        "train": {"list": "base"},
        "tests": {"base": {"list": "base", "kind": "supervised"}, "novel": {"list": "novel", "kind": "zero-shot"}},
        "summary": "harmonic",
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(protocol))
    study = {
        "title": "A small study",
        "out": str(folder / "out"),
        "threads": 1,
        "seeds": [0, 1],
        "run": {
            "data": {"frames": 2, "workers": 0, "flip": False},
            "model": {"backbone": TINY.model_dump(mode="json")},
            "train": {"epochs": 2, "warmup_epochs": 1, "batch_size": 2, "lr": 0.01, "precision": "fp32"},
        },
        "methods": {"m2clip": {"title": "M2-CLIP"}, "st": {"set": {"model.method": "st-adapter"}}},
        "data": {"small": {"protocol": str(folder / "small.yaml")}},
        "grids": [{"methods": ["m2clip", "st"], "data": ["small"]}],
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def small_study(folder: Path, *overrides: str, **changes: Any) -> tuple[Study, tuple[Cell, ...]]:
    """The study of `write_study` and its cells."""
    study = load_study(write_study(folder, **changes), overrides)
    return study, plan(study)


def record(
    method: str = "m2clip",
    *,
    base: float,
    novel: float,
    seed: int = 0,
    evaluation: str | None = None,
    data: str = "small",
    parameters: int = 1000,
    trained: bool = True,
    mlm: tuple[float, float] | None = None,
    words: float | None = None,
) -> Record:
    """A record with these top-1 accuracies; `mlm`: the masked-word loss at first and at last, `words`: masked verbs predicted."""
    own = {"top1": base, "top5": None, "mean_class": base, "videos": 10}
    other = {"top1": novel, "top5": None, "mean_class": novel, "videos": 10}
    shared = {"listed": 10, "scored": 10, "frames": 8, "views": "1x1", "strength": 1.0, "seconds": 1.0}
    parts: dict[str, dict[str, Any]] = {
        "base": {
            "protocol": "supervised", "classes": 4, "first_texts": ["a"], **shared,
            "readings": {"similarity": {**own, "top1": base / 2}, "ensemble": own},
        },
        "novel": {"protocol": "zero-shot", "classes": 4, "first_texts": ["a"], **shared, "readings": {"similarity": other}},
    }  # fmt: skip
    if words is not None:
        parts["base"]["masked_words"] = {
            "verbs": {"top1": words, "baseline_top1": words / 2, "text_baseline_top1": words / 4}
        }
    loss = {} if mlm is None else {"mlm": {"first_step": mlm[0], "first_epoch": mlm[0], "last_epoch": mlm[1]}}
    return Record(
        method=method,
        evaluation=evaluation,
        data=data,
        seed=seed,
        kind="m2clip" if trained else "frozen",
        rule="harmonic",
        trained_parameters=parameters,
        training={"epochs": 2, "steps": 4, "seconds": 30.0, "loss": loss} if trained else None,
        parts=parts,
        machine={"processor": "P", "cores": 2, "threads": 1, "python": "3", "torch": "2"},
    )

"""What a cell's result tells besides accuracies: trained parameters, how the losses fell, and the machine."""

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import torch

from m2clip.checkpoint import create
from m2clip.config import RunConfig
from m2clip.model.video_clip import VideoCLIP
from m2clip.train.log import read_log
from m2clip.train.preparation import read_data

_NO_TERMS = ("kind", "step", "epoch", "lr", "grad_norm", "videos", "seconds", "wait_seconds")


def trained_parameters(model: VideoCLIP) -> dict[str, Any]:
    """How many numbers are trained, in all and in each part."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.trained_parts().items()}
    return {"total": sum(parts.values()), "parts": parts}


def loss_curves(run: Path) -> dict[str, Any]:
    """Steps, seconds, and for each term of the loss its value in the first step and its mean in each epoch, from a run's log.

    `seconds` are those of all steps; validation and start are not among them. `validation` has the top-1 of each epoch.
    """
    lines = read_log(run)
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    count = max((line["epoch"] for line in steps), default=0)
    loss: dict[str, Any] = {}
    for term in (key for key in steps[0] if key not in _NO_TERMS):
        means = []
        for epoch in range(1, count + 1):
            weighed = [(line[term], line["videos"]) for line in steps if line["epoch"] == epoch]
            means.append(sum(value * videos for value, videos in weighed) / max(sum(v for _, v in weighed), 1))
        loss[term] = {"first_step": steps[0][term], "last_step": steps[-1][term], "epochs": means}
    validation = {
        key.removesuffix("_top1"): [line[key] for line in epochs]
        for key in (epochs[0] if epochs else ())
        if key.endswith("_top1")
    }
    return {
        "epochs": count,
        "steps": len(steps),
        "seconds": sum(line["seconds"] for line in steps),
        "loss": loss,
        "validation": validation,
        "warnings": [line["text"] for line in lines if line["kind"] == "warning"],
    }


def untrained(config: RunConfig) -> VideoCLIP:
    """CLIP as it is, with the classes that a trained model would have; without them where there is nothing to train on."""
    training = None if config.data.train is None else read_data(config)[0]
    return create(
        **config.model.model_dump(),
        class_names=() if training is None else training.class_names,
        further_texts=() if training is None else training.further_texts,
        **config.data.sampling,
    )


def machine() -> dict[str, Any]:
    """What the seconds were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    found = {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})

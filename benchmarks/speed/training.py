"""A training step of the real loop against the frozen CLIP tower's forward pass, and against the plain form; peak memory of a run."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import plain
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.train import learner, train
from speed.timing import Timings, process_peak_gib
from speed.videos import make_video
from speed.workload import Workload, autocast, build_model, class_names, clip_tower, clips, inference_case, weights_file

WARMUP_STEPS = 1


def measure(workload: Workload, folder: Path) -> dict[str, Any]:
    """A step with all class texts and all four heads, in bfloat16: `workload.batch` videos."""
    with TemporaryDirectory() as place:
        settings = run_settings(workload, folder, Path(place))
        peak = command_peak_gib(settings, Path(place))
        found = beside_the_tower(workload, settings | {"out": f"{place}/timed"})
    plainly = plain_step(workload, RunConfig.model_validate(settings))
    return {
        "seconds": found.document() | {"plain step": {"median": plainly, "rounds": [plainly]}},
        "ratios": {
            "step / tower": found.ratio("step", "tower"),
            "step / plain step": found.median("step") / plainly,
        },
        "values": {
            "peak_gib": peak,
            "videos": workload.batch,
            "classes": workload.classes,
            "gflop": arithmetic(workload),
        },
    }


def run_settings(workload: Workload, folder: Path, place: Path) -> dict[str, Any]:
    """The settings of a short run on one video under many labels, as a YAML file would have them."""
    video = make_video(folder, size=workload.small_video, seconds=workload.short_seconds, gop_frames=250)
    names = class_names(workload.classes)
    with (place / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        rows.writerows(
            (video.resolve(), k % len(names)) for k in range(workload.batch * (workload.rounds + WARMUP_STEPS))
        )
    with (place / "classes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "name"), *enumerate(names)])
    return {
        "out": str(place / "run"),
        "data": {
            "train": str(place / "train.csv"),
            "classes": str(place / "classes.csv"),
            "frames": workload.frames,
            "stride_frames": 16,
            "workers": 0,  # so that all memory is that of one process
        },
        "model": {
            "backbone": workload.backbone.model_dump(mode="json"),
            "weights": str(weights_file(workload, folder)),
        },
        "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": workload.batch, "precision": "bf16"},
    }


def command_peak_gib(settings: dict[str, Any], place: Path) -> float:
    """The most memory that `m2clip train` with these settings holds at a time. It must be the first child of this process."""
    config = place / "run.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML, too
    subprocess.run([sys.executable, "-m", "m2clip", "train", str(config)], check=True, stdout=subprocess.DEVNULL)
    return process_peak_gib(children=True)


def arithmetic(workload: Workload) -> dict[str, float]:
    """GFLOP of one video (a multiply-add is two): of our image side forward and back, of the tower forward. Counted on shapes alone."""
    size = workload.backbone.image_size
    with torch.device("meta"):
        model, tower = build_model(workload, classes=2), clip_tower(workload)
        videos = torch.empty(1, workload.frames, 3, size, size)
    with FlopCounterMode(display=False) as step:
        features = model.encode_video(videos)
        (features.embedding.sum() + features.visual_logits.sum()).backward()
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        tower(videos.flatten(0, 1))
    return {"step": step.get_total_flops() / 1e9, "tower": forward.get_total_flops() / 1e9}


class _Between:
    """A loader that does something else before each batch; the loop counts it as waiting for data."""

    def __init__(self, loader: Any, work: Callable[[], None]) -> None:
        self._loader, self._work = loader, work

    def __len__(self) -> int:
        return len(self._loader)

    def after(self, done: int) -> Iterator[Any]:
        for batch in self._loader.after(done):
            self._work()
            yield batch

    def close(self) -> None:
        self._loader.close()


def beside_the_tower(workload: Workload, settings: dict[str, Any]) -> Timings:
    """Steps of the training loop itself, as its log has them, and between two of them the tower on equally many videos."""
    forward = inference_case(clip_tower(workload), clips(workload, workload.batch).flatten(0, 1), precision="bf16")
    tower: list[float] = []

    def work() -> None:
        started = time.perf_counter()
        forward()
        tower.append(time.perf_counter() - started)

    make_loader = learner.make_loader
    with patch.object(learner, "make_loader", lambda *a, **k: _Between(make_loader(*a, **k), work)):
        train(RunConfig.model_validate(settings), progress=False)
    lines = [json.loads(line) for line in (Path(settings["out"]) / "metrics.jsonl").read_text().splitlines()]
    steps = [line["seconds"] - line["wait_seconds"] for line in lines if line["kind"] == "step"]
    assert len(steps) == len(tower) == workload.rounds + WARMUP_STEPS
    return Timings({"step": steps[WARMUP_STEPS:], "tower": tower[WARMUP_STEPS:]})


def plain_step(workload: Workload, config: RunConfig) -> float:
    """Seconds of one step of the plain form, under autocast. Measured once: it is slow, and no goal depends on it."""
    model = build_model(workload).train()
    optimizer = plain.adamw(model, config=config)
    labels = torch.arange(workload.batch)
    batch = Batch(clips(workload, workload.batch).unsqueeze(1), labels, labels)
    inputs = plain.step_inputs(model, batch, config=config, epoch=0)
    started = time.perf_counter()
    with autocast("bf16"):
        losses = plain.step_losses(model, inputs, config=config)
    losses["total"].backward()
    optimizer.step()
    return time.perf_counter() - started

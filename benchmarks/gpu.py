"""Measure training on one GPU: `python benchmarks/gpu.py` writes docs/results/gpu.json; `benchmarks/capacity.py` reads it.

M2-CLIP on ViT-B/16 with 400 classes, as configs/kinetics-400.yaml has it, learns from one generated video under many labels, with random
weights: the values mean nothing, the work is the real one. Each case is a call of `m2clip.train` in a process of its own.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from speed.videos import make_video

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/gpu.json"
_WARMUP_STEPS = 5

# Trains, and tells at the end what the card held. Workers that are spawned read the file again.
_PROGRAM = """
import json, sys, torch
from m2clip.config import load_config
from m2clip.train import train

if __name__ == "__main__":
    train(load_config(sys.argv[1]), resume=sys.argv[2] == "resume", progress=False)
    if torch.cuda.is_available():
        open(sys.argv[3], "w").write(json.dumps(torch.cuda.max_memory_allocated() / 2**30))
"""

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate=4": {"accumulate": 4},
    "recompute": {"recompute": True},
}


def settings(place: Path, *, batch: int, steps: int, backbone: str | dict[str, Any], workers: int) -> dict[str, Any]:
    """A run of one epoch."""
    video = make_video(place / "video", size=(340, 256), seconds=10, gop_frames=250)
    names = (ROOT / "src/m2clip/protocol/shipped/classes/kinetics-400.csv").read_text("utf-8").splitlines()[1:]
    with (place / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        rows.writerows((video.resolve(), k % len(names)) for k in range(batch * steps))
    (place / "classes.csv").write_text("\n".join(["id,name", *names]) + "\n", "utf-8")
    return {
        "data": {
            "train": str(place / "train.csv"), "classes": str(place / "classes.csv"), "frames": 8, "stride_frames": 16,
            "recipe": "kinetics", "workers": workers, "cache": str(place / "cache"),
        },
        "model": {"backbone": backbone},
        "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": batch, "precision": "auto"},
    }  # fmt: skip


def run(place: Path, name: str, values: dict[str, Any], *, resume: bool = False) -> dict[str, Any]:
    """Train; the log's steps, and GiB of the card."""
    out = place / name
    config, peak = place / f"{name}.json", place / "peak.json"
    config.write_text(json.dumps(values | {"out": str(out)}))
    alone = {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_WORLD_SIZE": 1,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 29511,
    }
    environment = os.environ | {key: str(value) for key, value in alone.items()}
    script = place / "program.py"
    script.write_text(_PROGRAM)
    command = [sys.executable, str(script), str(config), "resume" if resume else "begin", str(peak)]
    subprocess.run(command, check=True, env=environment)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "steps": [line for line in lines if line["kind"] == "step"],
        "peak_gib": json.loads(peak.read_text()) if peak.exists() else None,
    }


def throughput(
    place: Path, *, batch: int, steps: int, backbone: str | dict[str, Any], workers: int, only: Sequence[str]
) -> dict[str, Any]:
    """Videos a second of each case, the waiting for data left out, and with it."""
    base = settings(place, batch=batch, steps=steps, backbone=backbone, workers=workers)
    found = {}
    for number, name in enumerate(only):
        done = run(place, f"case{number}", base | {"train": base["train"] | CASES[name]})
        counted = done["steps"][_WARMUP_STEPS:]
        seconds = [step["seconds"] - step["wait_seconds"] for step in counted]
        found[name] = {
            "videos_a_second": batch / statistics.median(seconds),
            "with_reading": batch * len(counted) / sum(step["seconds"] for step in counted),
            "step_seconds": [round(second, 5) for second in seconds],
            "peak_gib": done["peak_gib"],
        }
        print(name, {key: value for key, value in found[name].items() if key != "step_seconds"}, flush=True)
    return found


def resumed(place: Path, *, backbone: str | dict[str, Any], workers: int) -> dict[str, Any]:
    """The largest differences of trained weights between runs of two epochs: twice the same, and one with a break after the first."""
    base = settings(place, batch=8, steps=6, backbone=backbone, workers=workers)
    long = base | {"train": base["train"] | {"epochs": 2}}
    run(place, "whole", long)
    run(place, "again", long)
    run(place, "broken", base | {"train": base["train"] | {"epochs": 2, "stop_after_epoch": 1}})
    run(place, "broken", long, resume=True)
    whole = load_file(place / "whole/last.safetensors")

    def difference(name: str) -> float:
        other = load_file(place / name / "last.safetensors")
        return max(float((whole[key] - other[key]).abs().max()) for key in whole)

    largest = max(float(tensor.abs().max()) for tensor in whole.values())
    return {"again": difference("again"), "resumed": difference("broken"), "largest_weight": largest}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="videos of a step")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--backbone", default="ViT-B-16")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    shape = {"batch": options.batch, "backbone": options.backbone, "frames": 8, "classes": 400}
    document: dict[str, Any] = {
        "command": "python benchmarks/gpu.py", "card": card, "torch": torch.__version__, "python": sys.version.split()[0], **shape,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (place := Path(folder) / "runs").mkdir()
        sizes = {"backbone": options.backbone, "workers": options.workers}
        document["training"] = throughput(place, batch=options.batch, steps=options.steps, only=options.cases, **sizes)
        options.out.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (place := Path(folder) / "resumed").mkdir()
        document["resumed"] = resumed(place, **sizes)
        print(document["resumed"])
    options.out.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

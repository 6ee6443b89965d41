"""How time and memory grow with frames, picture, batch, classes, and a file's length and picture. Each point has its own process."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from m2clip.scoring import class_embeddings
from speed.reading import first_time, some_frames
from speed.timing import Case, PeakMemory, alternate, growth, process_peak_gib
from speed.videos import FPS, make_video
from speed.workload import Workload, autocast, build_model, clips, our_video_case

GOP_FRAMES = 30


@dataclass(frozen=True)
class Series:
    """One curve: a point's value along x, and what is measured there."""

    x: str
    """What x counts."""
    points: tuple[float, ...]
    prepare: Callable[[Workload, Path, float], Case]
    """Makes what a point needs and gives what is timed."""


def _video(*, frames: int | None = None, side: int | None = None, batch: int = 1) -> Callable[[Workload], Case]:
    def prepare(workload: Workload) -> Case:
        size = side if side != workload.backbone.image_size else None
        model = build_model(workload, image_size=size)
        return our_video_case(model, clips(workload, batch, frames=frames, image_size=size), precision="bf16")

    return prepare


def _classes(workload: Workload, count: int) -> Case:
    model = build_model(workload, classes=count)

    @torch.inference_mode()
    def run() -> None:
        with autocast("bf16"):
            class_embeddings(model, model.info.texts)

    return run


def _reading(workload: Workload, folder: Path, *, size: tuple[int, int], seconds: int) -> Case:
    torch.set_num_threads(1)
    path = make_video(folder, size=size, seconds=seconds, gop_frames=GOP_FRAMES)
    return first_time(lambda: some_frames(workload, path))


def all_series(workload: Workload) -> Mapping[str, Series]:
    """The curves by name."""
    lengths = (workload.short_seconds, workload.middle_seconds, workload.long_seconds)
    areas = {width * height: (width, height) for width, height in workload.scale_videos}
    return {
        "frames": Series("frames a video", workload.scale_frames, lambda w, _, x: _video(frames=int(x))(w)),
        "picture": Series(
            "pixels a frame",
            tuple(side**2 for side in workload.scale_images),
            lambda w, _, x: _video(side=round(x**0.5))(w),
        ),
        "batch": Series("videos at a time", workload.scale_batches, lambda w, _, x: _video(batch=int(x))(w)),
        "classes": Series("class texts", workload.scale_classes, lambda w, _, x: _classes(w, int(x))),
        "file length": Series(
            "frames of the file",
            tuple(FPS * length for length in lengths),
            lambda w, folder, x: _reading(w, folder, size=w.small_video, seconds=int(x) // FPS),
        ),
        "file picture": Series(
            "pixels of a picture of the file",
            tuple(areas),
            lambda w, folder, x: _reading(w, folder, size=areas[int(x)], seconds=w.short_seconds),
        ),
    }


def measure(workload: Workload, folder: Path, *, point: Callable[[str, int], list[str]]) -> dict[str, Any]:
    """All points, each by the command that `point` gives for a curve and the number of the point on it."""
    curves: dict[str, Any] = {}
    for name, series in all_series(workload).items():
        measured = []
        for number, x in enumerate(series.points):
            print(f"scale: {name} {x}", file=sys.stderr)
            done = subprocess.run(point(name, number), check=True, stdout=subprocess.PIPE, text=True)
            measured.append({"x": x, **json.loads(done.stdout)})
        exponent = growth({one["x"]: one["seconds"] for one in measured})
        curves[name] = {"x": series.x, "points": measured, "exponent": exponent}
    return {"seconds": {}, "ratios": {}, "values": {"curves": curves}}


def measure_point(workload: Workload, folder: Path, *, curve: str, number: int) -> dict[str, float | None]:
    """Seconds of a point, and memory: of the whole process, and of the work alone."""
    series = all_series(workload)[curve]
    case = series.prepare(workload, folder, series.points[number])
    with PeakMemory() as memory:
        case()  # the warm-up, too
    found = alternate({"point": case}, rounds=workload.rounds, warmup=0)
    return {"seconds": found.median("point"), "work_gib": memory.gib, "process_gib": process_peak_gib()}

"""The commands that are killed, on inputs so small that each takes seconds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from torturing.victims import Ended, Kill, Victims

BACKBONE = {
    "image_size": 32, "patch_size": 16, "vision_width": 32, "vision_layers": 2, "vision_heads": 2,
    "embed_dim": 24, "text_width": 32, "text_layers": 2, "text_heads": 2,
}  # fmt: skip
CLASSES = {
    "base": ("red star growing", "blue square bouncing"),
    "novel": ("green circle spinning", "white heart falling"),
}
VIDEOS_A_CLASS = 4


@dataclass(frozen=True)
class Command:
    """A command that can be started again after it was broken off; it works in a folder of its own, and reads `inputs`."""

    name: str
    arguments: Callable[[Path], list[str]]
    """Of the folder with the inputs. The same the first time and every time after."""
    makes: str
    """What is there when it has come to its end, below its own folder."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Numbers of modules, such as how often something is written, that fit a run of seconds."""
    code: int = 0
    """Exit code of a run that comes to its end: 1 where bad files count as a failure."""

    def start(self, victims: Victims, folder: Path, place: Path, kill: Kill | None = None) -> Ended:
        """Run it in `place`; `folder` is what `make_inputs` was given."""
        log = place.with_name(f"{place.name}.log")
        cache = {"M2CLIP_CACHE": str(place / "cache")}
        return victims.run(
            self.arguments(folder / "inputs"), place, log, kill, environment=cache, settings=self.settings
        )


COMMANDS = {
    command.name: command
    for command in (
        Command("train", lambda inputs: ["train", str(inputs / "run.yaml"), "--auto-resume"], "run/test/report.json"),
        Command("study", lambda inputs: ["study", str(inputs / "study.yaml")], "study/report.html"),
        Command(
            "embed",
            lambda inputs: [
                *("embed", str(inputs / "videos"), "--checkpoint", "builtin", "--out", "vectors.parquet"),
                *("--workers", "1", "--batch-size", "2"),
            ],
            "vectors.parquet",
            {"m2clip.bulk.growing_table:PART_SECONDS": 0.0},
            code=1,
        ),
        Command(
            "check",
            lambda inputs: [
                *("data", "check", str(inputs / "videos/base"), "--out", "report"),
                *("--workers", "2", "--most-bad", "0.5"),
            ],
            "report/index.html",
        ),
    )
}


def make_inputs(folder: Path, *, epochs: int = 3) -> None:
    """Videos, one of which is none, a protocol, and the files of a run of so many epochs and of a study, in `folder`/inputs."""
    inputs = folder / "inputs"
    for part, names in CLASSES.items():
        for k, name in enumerate(names):
            for number in range(VIDEOS_A_CLASS):
                _video(inputs / "videos" / part / name / f"{number}.mp4", shift=VIDEOS_A_CLASS * k + number)
    (inputs / "videos/base" / CLASSES["base"][0] / "broken.mp4").write_bytes(b"no video")
    base = str(inputs / "videos/base")
    run: dict[str, Any] = {
        "data": {"frames": 2, "workers": 1},
        "model": {"backbone": BACKBONE},
        "train": {"epochs": epochs, "warmup_epochs": 1, "batch_size": 2, "lr": 0.01, "precision": "fp32"},
    }
    run["train"] |= {"average": "ema", "save_minutes": 0}  # the state is written after each step
    data = run["data"] | {"train": base, "val": base, "test": base, "cache": "frames"}
    _write(inputs / "run.yaml", run | {"out": "run", "data": data})
    protocol = {
        "title": "small",
        "folder": str(inputs / "videos"),
        "train": {"list": "base"},
        "tests": {"base": {"list": "base", "kind": "supervised"}, "novel": {"list": "novel", "kind": "zero-shot"}},
        "summary": "harmonic",
    }
    _write(inputs / "protocol.yaml", protocol)
    study = {
        "title": "A small study",
        "out": "study",
        "threads": 1,
        "run": run | {"data": {**run["data"], "workers": 0}, "train": run["train"] | {"epochs": 2}},
        "methods": {"m2clip": {}, "st": {"set": {"model.method": "st-adapter"}}},
        "data": {"small": {"protocol": str(inputs / "protocol.yaml")}},
        "grids": [{"methods": ["m2clip", "st"], "data": ["small"]}],
        "evaluations": {"half": {"of": ["m2clip"], "strength": 0.5}},
    }
    _write(inputs / "study.yaml", study)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), "utf-8")


def _video(path: Path, *, shift: int, frames: int = 12, side: int = 48) -> None:
    """A white square that wanders over a coloured ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.height = stream.width = side
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            picture = np.zeros((side, side, 3), np.uint8)
            picture[..., shift % 3] = 40 + 20 * (shift % 8)
            left = (3 * t + 7 * shift) % (side - 12)
            picture[10:22, left : left + 12] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())

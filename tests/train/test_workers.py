"""The same seed gives the same run, however many processes decode and however they are started."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2clip.config import RunConfig
from m2clip.train import train
from tests.small_inputs import TINY, class_folders


@pytest.fixture
def start_method() -> Iterator[None]:
    before = multiprocessing.get_start_method()
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("start_method")
def test_training_does_not_depend_on_its_workers(tmp_path: Path) -> None:
    videos = class_folders(tmp_path / "videos", ("moving", "bouncing"), each=3)
    (videos / "moving" / "broken.mp4").write_text("no video")
    left = {}
    for workers, start in ((0, "fork"), (2, "fork"), (1, "spawn")):
        multiprocessing.set_start_method(start, force=True)
        out = tmp_path / f"{workers} by {start}"
        config = RunConfig.model_validate(
            {
                "out": str(out),
                "data": {"train": str(videos), "val": str(videos), "frames": 2, "workers": workers},
                "model": {"backbone": TINY},
                "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 4, "lr": 0.01, "precision": "fp32", "seed": 5},
            }
        )
        train(config, progress=False)
        report = json.loads((out / "report.json").read_text())
        assert report["run"]["settings"]["data"]["workers"] == workers
        left[out.name] = {**report, "run": None}
    assert left["2 by fork"] == left["0 by fork"]
    assert left["1 by spawn"] == left["0 by fork"]
    assert left["0 by fork"]["epochs"][0]["bad_files"] == 1
    assert all(left["0 by fork"]["sha256"].values())

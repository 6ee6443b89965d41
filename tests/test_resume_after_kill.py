"""A run that is killed, in an epoch or between the files of a save, goes on to the same numbers as one without a break."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from m2clip.config import load_config
from m2clip.train import train
from m2clip.train.log import RunLog
from tests.small_inputs import TINY, class_folders
from tests.train.runs import Killed, assert_same, log_lines

EPOCHS = 3
NAMES = ("red star growing", "blue square bouncing")

# Runs the command line and kills its own process, as no handler and no `finally` can see, at a moment of the second epoch:
# in its first step with half a line in the log, or when a file of its save is written but not yet renamed.
SCRIPT = """
import os, signal, sys
from m2clip.cli import main
from m2clip.train.log import RunLog

moment = sys.argv.pop(1)
write, replace, seen = RunLog.write, os.replace, []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def write_and_die(self, kind, *, step, **values):
    write(self, kind, step=step, **values)
    if moment == "epoch" and step == 3:
        self._file.write(b'{"kind": "st')
        die()

def replace_or_die(source, target):
    if str(target).endswith(moment) and os.path.exists(target):
        die()
    replace(source, target)

RunLog.write, os.replace = write_and_die, replace_or_die
main()
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each of two classes, and a list of them with a file that cannot be read: its warning comes in each process."""
    folder = class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.mp4"))]
    (folder / "list.csv").write_text(
        "\n".join(["path,label", *lines, f"gone \u2028\u00e9.mp4,{NAMES[0]}"]) + "\n", encoding="utf-8"
    )
    return folder


def written(folder: Path, videos: Path) -> Path:
    """A run's YAML file: three epochs of two steps, with everything that draws random numbers switched on."""
    values: dict[str, Any] = {
        "out": str(folder / "run"),
        "data": {"train": str(videos / "list.csv"), "val": str(videos / "list.csv"), "frames": 4, "workers": 0},
        "model": {"backbone": TINY.model_dump(mode="json")},
        "train": {"epochs": EPOCHS, "warmup_epochs": 1, "batch_size": 3, "lr": 0.01, "precision": "fp32"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return folder / "run.yaml"


def finish(config: Path, *, resume: bool = False) -> Path:
    return train(load_config(config), resume=resume, progress=False).parent


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    return finish(written(tmp_path_factory.mktemp("undisturbed"), videos))


def test_killed_in_an_epoch_and_in_a_save(tmp_path: Path, videos: Path, undisturbed: Path) -> None:
    config = written(tmp_path, videos)
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "run"
    for moment, flags in (("epoch", []), ("last.state.pt", ["--resume"])):
        process = subprocess.run(
            [sys.executable, str(tmp_path / "script.py"), moment, "train", str(config), *flags],
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert torch.load(out / "last.state.pt", weights_only=True)["epochs_done"] == 1
    assert (out / "last.state.pt.draft").exists()
    assert log_lines(out)[-1]["epoch"] == 2  # the log and both checkpoints are an epoch ahead of the state
    finish(config, resume=True)
    assert_same(out, undisturbed)


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors"])
def test_broken_off_between_the_files_of_a_save(
    tmp_path: Path, videos: Path, undisturbed: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = written(tmp_path, videos), tmp_path / "run"
    replace = os.replace

    def broken(source: Path, target: Path) -> None:
        if Path(target).name == name and Path(target).exists():
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(Killed):
        finish(config)
    monkeypatch.undo()
    finish(config, resume=True)
    assert_same(out, undisturbed)


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path: Path, videos: Path, undisturbed: Path) -> None:
    config = written(tmp_path, videos)
    shutil.copytree(undisturbed, tmp_path / "run")
    finish(config, resume=True)
    assert_same(tmp_path / "run", undisturbed)


def test_the_log_of_a_resumed_run_leaves_out_what_comes_again(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.warn("skipped: \ud800 \u2028", step=1)
        log.write("step", step=1, total=1.5)
        sizes = log.sizes()
        log.write("step", step=2, total=float("nan"))
        log.write("test", step=1, similarity_top1=1.0)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write('{"kind": "é'.encode()[:-1])  # cut inside a character
    with RunLog(tmp_path, kept=sizes, steps_done=1) as log:
        log.warn("skipped: \ud800 \u2028", step=2)
        log.warn("another", step=2)
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in kept] == [("warning", 1), ("step", 1), ("warning", 2)]
    assert kept[0]["text"] == "skipped: \ud800 \u2028"

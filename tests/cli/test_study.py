"""The command study: a study in little from its YAML to its page, and one that is killed and goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from m2clip.builtin.shapes import make_shapes
from m2clip.train.log import read_log
from tests.program import Ran, one_sentence
from tests.study.small_study import write_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_study_in_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m2: Callable[..., Ran]) -> None:
    make_shapes(tmp_path / "shapes", train_per_class=1, val_per_class=1, test_per_class=1)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    ran = m2("study", "configs/studies/smoke.yaml", "--page", "smoke.md", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (len(told["ran"]), told["kept"], told["failed"]) == (5, [], {})
    assert all(Path(name).is_file() for name in told["files"])
    page = Path("smoke.md").read_text("utf-8")
    assert "| M2-CLIP, half strength | 232 K |" in page
    assert "![Accuracy by adapter strength](smoke/figure-1-2.png)" in page
    Path("smoke.md").unlink()
    again = m2("study", "configs/studies/smoke.yaml", "--report", "--page", "smoke.md", "--json")
    assert (json.loads(again.out)["ran"], len(json.loads(again.out)["kept"])) == ([], 5)
    assert Path("smoke.md").read_text("utf-8") == page
    again = m2("study", "configs/studies/smoke.yaml", "--json")
    assert (json.loads(again.out)["ran"], len(json.loads(again.out)["kept"])) == ([], 5)


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, m2: Callable[..., Ran]) -> None:
    run = {"train.epochs": 60, "train.warmup_epochs": 1}
    methods = {"m2clip": {}, "long": {"set": run}}
    study = write_study(
        tmp_path, methods=methods, grids=[{"methods": ["m2clip", "long"], "data": ["small"]}], seeds=[0]
    )
    program = [sys.executable, "-m", "m2clip", "study", str(study)]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    done, half = tmp_path / "out/cells/m2clip/small/0", tmp_path / "out/cells/long/small/0"
    ends = time.monotonic() + 240
    while not (half / "run/last.state.pt").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (done / "result.json").exists()
    assert not (half / "result.json").exists()
    time.sleep(1)  # its processes die with it
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    logged = [line for line in read_log(half / "run") if line["kind"] == "epoch"]
    assert 1 <= len(logged) < 60
    ran = m2("study", study, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["ran"] == ["long/small/0"]
    assert json.loads(ran.out)["kept"] == ["m2clip/small/0"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    lines = read_log(half / "run")
    assert [line for line in lines if line["kind"] == "epoch"][: len(logged)] == logged  # not trained again
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 121))


def test_a_plan_is_printed_and_nothing_is_run(tmp_path: Path, m2: Callable[..., Ran]) -> None:
    study = write_study(tmp_path)
    ran = m2("study", study, "seeds=[3]", "--dry-run")
    assert (ran.code, ran.out) == (0, "m2clip/small/3: to do\nst/small/3: to do\n")
    told = json.loads(m2("study", study, "--dry-run", "--json").out)
    assert len(told["cells"]) == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_failed_cell_makes_exit_code_1(tmp_path: Path, m2: Callable[..., Ran]) -> None:
    study = write_study(tmp_path, grids=[{"methods": ["st"], "data": ["small"]}], seeds=[0])
    for video in (tmp_path / "videos/novel").rglob("*.mp4"):
        video.write_text("no video")
    ran = m2("study", study, "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert "none of its 3 videos could be read" in told["failed"]["st/small/0"]
    assert told["files"] == []
    assert ran.err.splitlines()[-1].startswith("m2clip: 1 of 1 cells failed")
    assert "Traceback" not in ran.err


def test_a_report_runs_nothing(tmp_path: Path, m2: Callable[..., Ran]) -> None:
    study = write_study(tmp_path)
    assert "no cell of this study is finished" in one_sentence(m2("study", study, "--report"))
    assert not (tmp_path / "out").exists()


def test_mistakes_end_in_one_sentence(tmp_path: Path, m2: Callable[..., Ran]) -> None:
    study = write_study(tmp_path)
    ran = m2("study", study, "run.train.epochs=no")
    assert ran.code == 1
    assert "override 'run.train.epochs=no'" in one_sentence(ran)
    shutil.rmtree(tmp_path / "videos")
    ran = m2("study", study)
    assert ran.code == 1
    assert "videos/base is not there" in one_sentence(ran)
    assert not (tmp_path / "out").exists()

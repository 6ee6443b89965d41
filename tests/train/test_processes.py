"""Several processes of a run: what ends one of them ends all and is told, and a launcher that starts them again loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from m2clip.train.log import read_log
from m2clip.train.state import TrainingState
from tests.small_inputs import TINY, class_folders

ROOT = Path(__file__).parents[2]
NAMES = ("red star growing", "blue square bouncing", "green circle spinning")

# Runs of the command line in forked processes: name, processes, what befalls process 1 in its second step, and overrides.
SCRIPT = """
import json, os, signal, sys
import torch
import lightning.fabric.strategies, torch.distributed.fsdp, torch.distributed.tensor  # once, not in each process
from m2clip.cli import main
from m2clip.train import train
from tests.ranks import on_ranks

folder = sys.argv[1]
step = torch.optim.AdamW.step

def fail(how):
    taken = []
    def step_or_fail(self, *args, **options):
        taken.append(1)
        if len(taken) == 2 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if len(taken) == 2 and how == "out of memory":
            raise torch.OutOfMemoryError("out of memory")
        if len(taken) == 2 and how == "broken":
            raise RuntimeError("a fault of the program")
        return step(self, *args, **options)
    torch.optim.AdamW.step = step_or_fail

def work(name, how, arguments):
    os.dup2(os.open(f"{folder}/{name}-{os.environ.get('RANK', 0)}.txt", os.O_WRONLY | os.O_CREAT), 2)
    if how and os.environ["RANK"] == "1":
        fail(how)
    sys.argv = ["m2clip", "train", *arguments]
    main()

ended = {name: on_ranks(ranks, lambda: work(name, how, arguments)) for name, ranks, how, arguments in json.load(sys.stdin)}
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of two steps: six videos and a file that nobody can read, in parts of two."""
    folder = tmp_path_factory.mktemp("processes")
    videos = class_folders(folder / "videos", NAMES, each=2)
    (videos / NAMES[0] / "empty.mp4").touch()
    values: dict[str, Any] = {
        "out": str(folder / "unset"),
        "data": {"train": str(videos), "val": str(videos), "frames": 2, "workers": 0},
        "model": {"backbone": TINY.model_dump(mode="json")},
        "train": {
            "epochs": 2, "warmup_epochs": 0, "batch_size": 4, "accumulate": 2, "lr": 0.01, "precision": "fp32",
            "average": "ema", "clip_norm": 1.0, "save_minutes": 0,
        },
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    (folder / "script.py").write_text(SCRIPT)
    return folder / "run.yaml"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


@pytest.fixture(scope="module")
def ended(config: Path) -> dict[str, list[int]]:
    """How the processes of all runs ended; what they wrote lies beside the configuration."""
    folder = config.parent

    def run(name: str, ranks: int, how: str = "", *overrides: str, out: str | None = None) -> list[Any]:
        return [name, ranks, how, [str(config), f"out={folder / (out or name)}", *overrides]]

    runs = [
        run("one", 1), run("ddp", 2), run("fsdp", 2, "", "train.sharding=full"),
        run("begun", 2, "", "train.sharding=full", "train.stop_after_epoch=1"), run("ended", 1, "", "--resume", out="begun"),
        run("killed", 2, "killed"), run("memory", 2, "out of memory"), run("broken", 2, "broken", "train.sharding=full"),
        run("stop", 2, "", "data.on_bad_file=stop"),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(folder / "script.py"), str(folder)],
        input=json.dumps(runs), env=environment(), capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codes: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])
    return codes


def told(config: Path, name: str, rank: int) -> str:
    return (config.parent / f"{name}-{rank}.txt").read_text()


def assert_close(out: Path, expected: Path) -> None:
    """The same run up to rounding, which AdamW's division by the gradient's size makes larger."""
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(out / name), load_file(expected / name)
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            torch.testing.assert_close(ours[key], tensor, rtol=1e-3, atol=1e-4, msg=f"{name}: {key}")
    # Of a bad file that another process met, the main one hears at the end of the epoch.
    lines, others = ([line for line in read_log(one) if line["kind"] != "warning"] for one in (out, expected))
    assert [(line["kind"], line["step"]) for line in lines] == [(line["kind"], line["step"]) for line in others]
    for line, other in zip(lines, others, strict=True):
        terms = [name for name in ("total", "grad_norm", "loss", "similarity_top1") if name in other]
        assert [line[name] for name in terms] == pytest.approx([other[name] for name in terms], rel=1e-4), line["step"]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in expected.iterdir())


@pytest.mark.slow
def test_a_run_is_the_same_on_one_and_two_processes_shared_out_or_not(
    config: Path, ended: dict[str, list[int]]
) -> None:
    assert [ended[name] for name in ("one", "ddp", "fsdp", "begun", "ended")] == [[0], [0, 0], [0, 0], [0, 0], [0]]
    for name in ("ddp", "fsdp", "begun"):
        assert_close(config.parent / name, config.parent / "one")
    for name in ("ddp", "fsdp"):  # one process speaks for all
        assert "epoch 2/2: loss" in told(config, name, 0)
        assert "m2clip:" not in told(config, name, 1)
        assert "epoch" not in told(config, name, 1)


@pytest.mark.slow
def test_the_state_of_shares_is_that_of_whole_models(config: Path, ended: dict[str, list[int]]) -> None:
    ours, theirs = (TrainingState.read(config.parent / name / "last.state.pt") for name in ("fsdp", "ddp"))
    assert (ours.trained.keys(), ours.average.keys()) == (theirs.trained.keys(), theirs.average.keys())
    for mine, other in ((ours.trained, theirs.trained), (ours.average, theirs.average)):
        for key, tensor in other.items():
            torch.testing.assert_close(mine[key], tensor, rtol=1e-3, atol=1e-4, msg=key)
    assert ours.optimizer["state"].keys() == theirs.optimizer["state"].keys()
    for key, moments in theirs.optimizer["state"].items():
        for name, tensor in moments.items():
            torch.testing.assert_close(ours.optimizer["state"][key][name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codes", "reason"),
    [
        ("killed", [1, -9], None),
        ("memory", [1, 1], "the memory of the GPU is full; take a smaller batch size"),
        ("broken", [1, 70], "RuntimeError: a fault of the program"),
    ],
)
def test_a_process_that_fails_ends_the_others_and_says_why(
    config: Path, ended: dict[str, list[int]], name: str, codes: list[int], reason: str | None
) -> None:
    """Here by themselves, without a launcher that would end them."""
    assert ended[name] == codes
    assert "m2clip: another process of this run has ended, and this one with it" in told(config, name, 0)
    assert "Traceback" not in told(config, name, 0)
    if reason is not None:
        assert reason in told(config, name, 1)
    assert TrainingState.read(config.parent / name / "last.state.pt").steps_done == 1


@pytest.mark.slow
def test_a_bad_file_that_stops_the_run_is_told_by_each_process(config: Path, ended: dict[str, list[int]]) -> None:
    assert ended["stop"] == [1, 1]
    said = [told(config, "stop", rank) for rank in range(2)]
    lines = [[line for line in text.splitlines() if line.startswith("m2clip: cannot read")] for text in said]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1
    assert "empty.mp4: the file is empty" in lines[0][0]
    assert "Traceback" not in "".join(said)


# Python runs this file when it starts. It kills one process in the middle of the run, as no handler can see.
KILL = """
import os
if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    import signal, torch
    step, taken = torch.optim.AdamW.step, []
    def step_or_die(self, *args, **options):
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *args, **options)
    torch.optim.AdamW.step = step_or_die
"""


@pytest.mark.slow
def test_torchrun_starts_a_killed_run_again_and_nothing_is_lost(config: Path, ended: dict[str, list[int]]) -> None:
    """By the launch file of the documentation."""
    folder = config.parent
    (folder / "start").mkdir()
    (folder / "start/sitecustomize.py").write_text(KILL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["sh", str(ROOT / "docs/cluster/torchrun.sh"), str(config), f"out={folder / 'elastic'}"],
        env=environment(PATH=path, PYTHONPATH=f"{folder / 'start'}:{ROOT}", PROCESSES="2", RESTARTS="1"),
        capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Signal 9" in run.stderr or "exitcode: -9" in run.stderr.replace(" :", ":")
    assert "another process of this run has ended" in run.stderr
    out, expected = folder / "elastic", folder / "ddp"
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(out / name), load_file(expected / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    steps = [line["step"] for line in read_log(out) if line["kind"] == "step"]
    assert steps == [line["step"] for line in read_log(expected) if line["kind"] == "step"]

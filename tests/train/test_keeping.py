"""What a run keeps lets it go on after any moment: the files of the end are those of a run without a break, byte for byte."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from m2clip.config import RunConfig
from m2clip.data.dataset import BadFile
from m2clip.errors import CheckpointError, ConfigError, Interrupted, M2CLIPError, VideoError
from m2clip.report import files
from m2clip.train import train
from m2clip.train.file_notes import listed_in, plain_bad
from m2clip.train.keeping import find_state
from m2clip.train.log import RunLog, read_log
from m2clip.train.preparation import read_data, start_fabric
from m2clip.train.state import TrainingState
from tests.ranks import free_port, place
from tests.small_inputs import TINY, class_folders
from tests.train.runs import STATE, Killed, assert_same, log_lines

NAMES = ("red star growing", "blue square bouncing")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each of two classes, and a list of them with two files that cannot be read."""
    folder = class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.mp4"))]
    (folder / "list.csv").write_text(
        "\n".join(["path,label", *lines, *(f"gone{n}.mp4,{NAMES[n]}" for n in range(2))]) + "\n"
    )
    return folder


def settings(out: Path, videos: Path, **options: Any) -> RunConfig:
    """Two epochs of three steps, with everything that draws random numbers, an average and validation."""
    base = {
        "epochs": 2, "warmup_epochs": 1, "batch_size": 2, "lr": 0.01, "precision": "fp32", "average": "ema",
        "save_minutes": 0,
    }  # fmt: skip
    source = str(videos / "list.csv")
    return RunConfig.model_validate(
        {
            "out": str(out),
            "data": {"train": source, "val": source, "frames": 2, "workers": 0},
            "model": {"backbone": TINY},
            "train": base | options,
        }
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    """A run that writes its state at the ends of epochs only."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    return train(settings(out, videos, save_minutes=1e6), progress=False).parent


def test_killed_again_and_again_anywhere(
    tmp_path: Path, videos: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each session dies at one of its renames or lines of the log, half of it written, until one comes to the end."""
    rng, left, sessions = np.random.default_rng(5), 0, 0
    write, rename = RunLog.write, os.replace

    def perhaps_die(last_words: Callable[[], object]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            last_words()
            raise Killed

    def killed_in_a_line(self: RunLog, kind: str, **values: Any) -> None:
        perhaps_die(lambda: self._file.write(b'{"kind": "st'))
        write(self, kind, **values)

    def killed_in_a_rename(source: Path, target: Path) -> None:
        perhaps_die(lambda: None)
        rename(source, target)

    monkeypatch.setattr(RunLog, "write", killed_in_a_line)
    monkeypatch.setattr(os, "replace", killed_in_a_rename)
    done = False
    while not done:
        left, sessions = int(rng.integers(2, 12)), sessions + 1
        assert sessions < 60
        try:
            train(settings(tmp_path / "run", videos), resume="auto", progress=False)
            done = True
        except Killed:
            pass
    assert sessions > 3
    assert_same(tmp_path / "run", undisturbed)


def test_a_signal_ends_a_run_after_its_step_and_it_goes_on(
    tmp_path: Path, videos: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, before = RunLog.write, signal.getsignal(signal.SIGUSR1)

    def signalled(self: RunLog, kind: str, *, step: int, **values: Any) -> None:
        write(self, kind, step=step, **values)
        if kind == "step" and step == 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(RunLog, "write", signalled)
    words = r"ended by SIGUSR1 after step 2 of 3 in epoch 1 of 2; .*run keeps all of it, so go on with --resume"
    with pytest.raises(Interrupted, match=words) as caught:
        train(settings(tmp_path / "run", videos, save_minutes=1e6), progress=False)
    assert caught.value.exit_code == 128 + signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before
    state = TrainingState.read(tmp_path / "run" / STATE)
    assert (state.epochs_done, state.epoch_steps, state.steps_done) == (0, 2, 2)
    assert not (tmp_path / "run/last.safetensors").exists()
    train(settings(tmp_path / "run", videos, save_minutes=1e6), resume=True, progress=False)
    assert_same(tmp_path / "run", undisturbed)


def test_a_signal_in_the_validation_ends_it_at_once_with_all_steps_kept(
    tmp_path: Path, videos: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(*args: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        raise AssertionError("the validation went on")

    with monkeypatch.context() as patch:
        patch.setattr("m2clip.train.loop.validate", signalled)
        words = r"ended by SIGUSR1 in the validation of epoch 1 of 2; .*run keeps all of it, so go on with --resume"
        with pytest.raises(Interrupted, match=words) as caught:
            train(settings(tmp_path / "run", videos, save_minutes=1e6), progress=False)
    assert caught.value.exit_code == 128 + signal.SIGUSR1
    state = TrainingState.read(tmp_path / "run" / STATE)
    assert (state.epochs_done, state.epoch_steps, state.steps_done) == (0, 3, 3)
    train(settings(tmp_path / "run", videos, save_minutes=1e6), resume=True, progress=False)
    assert_same(tmp_path / "run", undisturbed)


def test_a_signal_after_the_last_step_spares_the_test_for_the_resumed_run(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the last epoch is being kept, which goes on; a scheduler that waits for the test would kill it without a word."""
    plain = settings(tmp_path / "run", videos, epochs=1, warmup_epochs=0)
    config = plain.model_copy(
        update={"data": plain.data.model_copy(update={"val": None, "test": str(videos / "list.csv")})}
    )
    write = RunLog.write

    def signalled(self: RunLog, kind: str, *, step: int, **values: Any) -> None:
        write(self, kind, step=step, **values)
        if kind == "epoch":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", signalled)
        with pytest.raises(Interrupted, match=r"ended by SIGTERM in the test; .*run keeps all of it") as caught:
            train(config, progress=False)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert TrainingState.read(tmp_path / "run" / STATE).epochs_done == 1
    assert not (tmp_path / "run/test").exists()
    assert not (tmp_path / "run/report.json").exists()
    train(config, resume="auto", progress=False)
    assert [line["kind"] for line in read_log(tmp_path / "run")][-2:] == ["epoch", "test"]
    assert (tmp_path / "run/test/report.json").exists()


def test_a_run_whose_files_are_all_bad_leaves_no_state(tmp_path: Path, videos: Path) -> None:
    """It could only end in the same way again, when the files are there."""
    (tmp_path / "list.csv").write_text("path,label\na.mp4,jump\nb.mp4,run\n")
    plain = settings(tmp_path / "run", videos, save_minutes=1e6)
    source = {"train": str(tmp_path / "list.csv"), "val": str(tmp_path / "list.csv")}
    with pytest.raises(VideoError, match="none of its 2 videos could be read"):
        train(plain.model_copy(update={"data": plain.data.model_copy(update=source)}), progress=False)
    assert not (tmp_path / "run" / STATE).exists()


def test_a_state_of_version_2_goes_on_at_the_end_of_its_epoch(tmp_path: Path, videos: Path, undisturbed: Path) -> None:
    out = tmp_path / "run"
    train(settings(out, videos, stop_after_epoch=1), progress=False)
    content = torch.load(out / STATE, weights_only=True)
    for name in ("epoch_steps", "loss_sum", "videos", "bad", "damaged", "known_bad", "known_damaged", "log_sizes"):
        del content[name]
    torch.save(content | {"format_version": 2}, out / STATE)
    with (out / "metrics.jsonl").open("a") as file:  # of the next epoch, which such a run began anew
        file.write('{"kind": "step", "step": 4, "total": 1.0}\n')
    train(settings(out, videos), resume=True, progress=False)
    assert log_lines(out) == log_lines(undisturbed)
    assert (out / "last.safetensors").read_bytes() == (undisturbed / "last.safetensors").read_bytes()


def test_what_crashed_before_the_break_is_not_read_again(tmp_path: Path, videos: Path) -> None:
    """A good file stands for it: it is bad for training in the resumed run, but not for the validation, whose list is another one."""
    out, other = tmp_path / "run", tmp_path / "other.csv"
    listed = (videos / "list.csv").read_text().splitlines()
    other.write_text("\n".join([listed[0], *(f"{videos}/{line}" for line in listed[1:5])]) + "\n")
    config = settings(out, videos)
    config = config.model_copy(update={"data": config.data.model_copy(update={"val": str(other), "workers": 1})})
    begun = config.model_copy(update={"train": config.train.model_copy(update={"stop_after_epoch": 1})})
    train(begun, progress=False)
    state = TrainingState.read(out / STATE)
    training = read_data(config)[0]
    sample = training.samples[1]
    crashed = BadFile(sample.path, sample.where, "the decoder crashed on it", 1, crashed=True)
    replace(state, known_bad=[*state.known_bad, *plain_bad([crashed])]).write(out / STATE)
    train(config, resume=True, progress=False)
    epochs = [line for line in read_log(out) if line["kind"] == "epoch"]
    assert [line["bad_files"] for line in epochs] == [2, 3]
    assert (out / "bad_files.csv").read_text().count("the decoder crashed on it") == 1
    assert sum(line["videos"] for line in read_log(out) if line["kind"] == "step" and line["epoch"] == 2) == 3
    known = TrainingState.read(out / STATE).known_files()[0]
    assert {file.index for file in listed_in(training, known)} == {1, 4, 5}
    assert listed_in(read_data(config)[1], known) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [STATE, "last.safetensors", "bad_files.csv", "metrics.jsonl"])
def test_a_full_disk_is_told_and_the_run_goes_on_later(
    tmp_path: Path, videos: Path, undisturbed: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, append, seen = os.replace, files.append, []

    def refuse(target: object) -> None:
        if Path(str(target)).name == name:
            seen.append(name)
            if len(seen) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(source: Path, target: Path) -> None:
        refuse(target)
        rename(source, target)

    def full_log(file: Any, content: bytes) -> None:
        refuse(file.name)
        append(file, content)

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("m2clip.train.log.append", full_log)
    with pytest.raises(M2CLIPError, match=rf"{name} cannot be written \(No space left on device\)"):
        train(settings(tmp_path / "run", videos), progress=False)
    monkeypatch.undo()
    train(settings(tmp_path / "run", videos), resume="auto", progress=False)
    assert_same(tmp_path / "run", undisturbed)


def test_a_run_begins_or_goes_on_or_is_refused(tmp_path: Path, videos: Path) -> None:
    config = settings(tmp_path / "run", videos)
    fabric, path = start_fabric("fp32"), tmp_path / "run" / STATE
    assert find_state(fabric, config, path, resume="auto") is None
    with pytest.raises(CheckpointError, match="there is no run to resume"):
        find_state(fabric, config, path, resume=True)
    path.parent.mkdir()
    TrainingState(0, 2, {}, {}, 0, {}, {}, 0.5, config.model_dump(mode="json"), {}).write(path)
    with pytest.raises(ConfigError, match="run already holds a run; resume it"):
        find_state(fabric, config, path, resume=False)
    for resume in (True, "auto"):
        found = find_state(fabric, config, path, resume=resume)  # type: ignore[arg-type]
        assert found is not None
        assert found.steps_done == 2


def test_processes_that_see_different_states_end_in_words(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each machine has a disk of its own: the others would begin anew beside the one that goes on."""
    monkeypatch.setattr("m2clip.train.keeping.gathered", lambda fabric, own: torch.stack([torch.tensor(7), own]))
    config, path = settings(tmp_path / "run", videos), tmp_path / "run" / STATE
    with pytest.raises(
        ConfigError, match=r"not the same for all processes \(steps by process: \[7, -1\], -1: no file\)"
    ):
        find_state(start_fabric("fp32"), config, path, resume="auto")


# Rank 1 gets a signal in its second step, at the reading back of its figures.
SIGNALLED = """
import os, signal, sys
from m2clip.cli import main
from m2clip.train import learner

read_step = learner.read_step

def signalled(*args, **options):
    if options["step"] == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return read_step(*args, **options)

learner.read_step = signalled
main()
"""


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_as_one(tmp_path: Path, videos: Path) -> None:
    """A signal to one process ends both; the main one tells it."""
    configs = {name: settings(tmp_path / name, videos, save_minutes=1e6) for name in ("alone", "both")}
    train(configs["alone"], progress=False)
    (tmp_path / "run.json").write_text(configs["both"].model_dump_json())
    (tmp_path / "script.py").write_text(SIGNALLED)
    port, started = free_port(), []
    for rank in range(2):
        environment = {**os.environ, **place(rank, 2, port)}
        command = [sys.executable, str(tmp_path / "script.py"), "train", str(tmp_path / "run.json")]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [128 + signal.SIGTERM] * 2, said
    told = [[line for line in text.splitlines() if line.startswith("m2clip: ended")] for text in said]
    assert [len(lines) for lines in told] == [1, 0]
    assert "by a signal to another process after step 3 of 3 in epoch 1 of 2" in told[0][0]
    train(configs["both"], resume=True, progress=False)
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("alone", "both"))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)
    totals = [
        [line["total"] for line in read_log(tmp_path / name) if line["kind"] == "step"] for name in ("alone", "both")
    ]
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)
    assert (tmp_path / "both/bad_files.csv").read_bytes() == (tmp_path / "alone/bad_files.csv").read_bytes()

"""Averages of the weights: by hand, in a run, over a break, and off."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import m2clip.train.loop as loop
from m2clip import load
from m2clip.config import RunConfig, TrainConfig
from m2clip.data.manifest import read_manifest
from m2clip.errors import CheckpointError, ConfigError
from m2clip.evaluate import evaluate
from m2clip.train import train
from m2clip.train.averaging import WeightAverage
from m2clip.train.state import TrainingState
from tests.small_inputs import TINY, class_folders

NAMES = ("red star growing", "blue square bouncing")
EPOCHS = 4
EMA, SWA = {"average": "ema"}, {"average": "swa", "swa_epochs": 2}


def averaged(values: list[float], *, steps: int = 40, **options: Any) -> tuple[WeightAverage, nn.Parameter]:
    """A parameter that takes these values, one a step and a step an epoch, and its average."""
    parameter = nn.Parameter(torch.zeros(2))
    average = WeightAverage({"a": parameter}, options=TrainConfig(epochs=len(values), **options), steps=steps)
    for epoch, value in enumerate(values):
        with torch.no_grad():
            parameter.fill_(value)
        average.after_step()
        average.after_epoch(epoch)
    return average, parameter


def test_ema_by_hand() -> None:
    average, _ = averaged([1.0, 3.0, 2.0], warmup_epochs=0, average="ema", ema_decay=0.75)
    # 1; 0.75 * 1 + 0.25 * 3 = 1.5; 0.75 * 1.5 + 0.25 * 2 = 1.625
    assert average.tensors["a"].tolist() == [1.625, 1.625]
    assert average.record() == {"kind": "ema", "averaged": 3, "decay": 0.75}


def test_the_decay_looks_back_over_a_tenth_of_the_run() -> None:
    average, _ = averaged([1.0, 2.0], warmup_epochs=0, average="ema", steps=40)
    assert average.record()["decay"] == 0.8  # 4 steps: 4 / 5
    assert average.tensors["a"][0] == pytest.approx(1.2)


def test_swa_by_hand() -> None:
    average, _ = averaged([9.0, 1.0, 3.0, 5.0], warmup_epochs=0, average="swa", swa_epochs=3)
    assert average.tensors["a"].tolist() == [3.0, 3.0]  # (1 + 3 + 5) / 3; the first epoch is none of the last three
    assert average.record() == {"kind": "swa", "averaged": 3}
    average, _ = averaged([9.0] * 6 + [1.0, 4.0], warmup_epochs=0, average="swa")
    assert (average.tensors["a"][0], average.count) == (2.5, 2)  # a quarter of 8


def test_off_averages_nothing() -> None:
    average, parameter = averaged([1.0, 2.0], warmup_epochs=0)
    assert (average.tensors, average.count, average.record()) == ({}, 0, {})
    with average.in_place():
        assert parameter.tolist() == [2.0, 2.0]


def test_the_model_gets_its_own_weights_back() -> None:
    average, parameter = averaged([1.0, 0.1], warmup_epochs=0, average="ema", ema_decay=0.5)
    own = parameter.detach().clone()
    with average.in_place():
        assert parameter.tolist() == pytest.approx([0.55, 0.55])
    assert torch.equal(parameter, own)
    with pytest.raises(KeyboardInterrupt), average.in_place():
        raise KeyboardInterrupt
    assert torch.equal(parameter, own)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ema_decay": 0.9}, "ema_decay is set, but average is off; leave it out, or set average to ema"),
        ({"ema_decay": 0.9, "average": "swa"}, "ema_decay is set, but average is swa"),
        ({"swa_epochs": 2, "average": "ema"}, "swa_epochs is set, but average is ema"),
        ({"swa_epochs": 5, "average": "swa"}, "the ends of 5 epochs, but there are only 4; give a smaller swa_epochs"),
        ({"epochs": 1, "warmup_epochs": 0, "average": "swa"}, "2 epochs, but there are only 1"),
        ({"swa_epochs": 1, "average": "swa"}, "greater than or equal to 2"),
        ({"ema_decay": 1.0, "average": "ema"}, "less than 1"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainConfig(**{"epochs": 4, **options})


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)


def settings(out: Path, videos: Path, **options: Any) -> RunConfig:
    """Four epochs of two steps, validated."""
    base = {"epochs": EPOCHS, "warmup_epochs": 1, "batch_size": 2, "lr": 0.01, "precision": "fp32"}
    return RunConfig.model_validate(
        {
            "out": str(out),
            "data": {"train": str(videos), "val": str(videos), "frames": 2, "workers": 0, "flip": False},
            "model": {"backbone": TINY},
            "train": base | options,
        }
    )


def run(out: Path, videos: Path, *, resume: bool = False, **options: Any) -> Path:
    return train(settings(out, videos, **options), resume=resume, progress=False).parent


@pytest.fixture(scope="module")
def by_epoch(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> list[dict[str, Tensor]]:
    """The weights at the end of each epoch of a run without averaging."""
    out = tmp_path_factory.mktemp("off") / "run"
    weights = []
    for epoch in range(1, EPOCHS + 1):
        run(out, videos, resume=epoch > 1, stop_after_epoch=epoch)
        state = TrainingState.read(out / "last.state.pt")
        assert (state.average, state.averaged) == ({}, 0)
        weights.append(state.trained)
        checkpoint = load_file(out / "last.safetensors")
        assert all(torch.equal(checkpoint[name], tensor) for name, tensor in state.trained.items())
        assert "average" not in load(out / "last.safetensors").info.training
    return weights


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> dict[str, Path]:
    """Runs with each average, without a break."""
    folder = tmp_path_factory.mktemp("straight")
    return {str(kind["average"]): run(folder / str(kind["average"]), videos, **kind) for kind in (EMA, SWA)}


def test_a_run_saves_the_mean_of_its_last_epochs(straight: dict[str, Path], by_epoch: list[dict[str, Tensor]]) -> None:
    last, state = load_file(straight["swa"] / "last.safetensors"), TrainingState.read(straight["swa"] / "last.state.pt")
    for name, tensor in state.trained.items():
        assert torch.equal(tensor, by_epoch[-1][name])  # training itself is as it was without an average
        torch.testing.assert_close(last[name], (by_epoch[-1][name] + by_epoch[-2][name]) / 2)
    assert not all(torch.equal(last[name], tensor) for name, tensor in state.trained.items())
    assert load(straight["swa"] / "last.safetensors").info.training["average"] == {"kind": "swa", "averaged": 2}


def test_a_run_saves_the_average_of_its_steps(straight: dict[str, Path], by_epoch: list[dict[str, Tensor]]) -> None:
    last, state = load_file(straight["ema"] / "last.safetensors"), TrainingState.read(straight["ema"] / "last.state.pt")
    assert state.averaged == 8
    for name, tensor in state.trained.items():
        assert torch.equal(tensor, by_epoch[-1][name])
        assert torch.equal(last[name], state.average[name])
    assert not all(torch.equal(last[name], tensor) for name, tensor in state.trained.items())


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_validation_measures_what_is_saved(straight: dict[str, Path], videos: Path, kind: str) -> None:
    model = load(straight[kind] / "last.safetensors")
    measured = evaluate(model, read_manifest(videos)).metrics
    assert model.info.training["validation"] == {reading: metrics.top1 for reading, metrics in measured.items()}


def assert_same(out: Path, other: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(out / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours, theirs = (TrainingState.read(folder / "last.state.pt") for folder in (out, other))
    assert (ours.averaged, ours.best, ours.average.keys()) == (theirs.averaged, theirs.best, theirs.average.keys())
    for key, tensor in theirs.average.items():
        assert torch.equal(ours.average[key], tensor)
        assert torch.equal(ours.trained[key], theirs.trained[key])


@pytest.mark.parametrize("options", [EMA, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("stop", [2, 3])  # before swa begins, and in the middle of it
def test_a_run_goes_on_to_the_same_average(
    tmp_path: Path, videos: Path, straight: dict[str, Path], options: dict[str, Any], stop: int
) -> None:
    run(tmp_path / "run", videos, stop_after_epoch=stop, **options)
    assert_same(run(tmp_path / "run", videos, resume=True, **options), straight[str(options["average"])])


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("options", [EMA, SWA], ids=["ema", "swa"])
def test_a_run_that_died_before_its_state_was_written_repeats_the_epoch(
    tmp_path: Path,
    videos: Path,
    straight: dict[str, Path],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = os.replace

    def broken(source: Path, target: Path) -> None:
        if Path(target).name == "last.state.pt" and TrainingState.read(target).epochs_done == 3:
            raise Killed
        replace(source, target)

    run(tmp_path / "run", videos, stop_after_epoch=3, **options)
    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(Killed):
        run(tmp_path / "run", videos, resume=True, **options)
    monkeypatch.undo()
    assert_same(run(tmp_path / "run", videos, resume=True, **options), straight[str(options["average"])])


@pytest.mark.parametrize("method", ["full", "aim", "text-prompts"])
def test_whatever_a_method_trains_is_averaged(tmp_path: Path, videos: Path, method: str) -> None:
    config = settings(tmp_path / "run", videos, epochs=2, **EMA)
    config = config.model_copy(update={"model": config.model.model_copy(update={"method": method})})
    out = train(config, progress=False).parent
    state, saved = TrainingState.read(out / "last.state.pt"), load(out / "last.safetensors").trained_state()
    assert saved.keys() == state.average.keys() == state.trained.keys()
    assert all(torch.equal(tensor, state.average[name]) for name, tensor in saved.items())
    assert not all(torch.equal(tensor, state.trained[name]) for name, tensor in saved.items())


def test_only_averages_compete_for_the_best_once_there_is_one(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top1 = iter([0.9, 0.8, 0.5, 0.4])

    def measured(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(metrics={"similarity": SimpleNamespace(top1=next(top1))}, bad=(), damaged=())

    monkeypatch.setattr(loop, "validate", measured)
    out = run(tmp_path / "run", videos, **SWA)
    assert TrainingState.read(out / "last.state.pt").best == {"epoch": 3, "top1": 0.5}
    assert load(out / "best.safetensors").info.training["average"]["averaged"] == 1


def test_another_average_is_another_run_and_an_old_state_is_refused(
    tmp_path: Path, videos: Path, straight: dict[str, Path]
) -> None:
    out = straight["swa"]
    with pytest.raises(ConfigError, match=r"train\.average was 'swa' and is 'off'"):
        run(out, videos, resume=True)
    content = torch.load(out / "last.state.pt", weights_only=True)
    torch.save(content | {"format_version": 1}, tmp_path / "last.state.pt")
    with pytest.raises(CheckpointError, match=r"state version 1, this m2clip reads 2 and 3; go on with the version"):
        TrainingState.read(tmp_path / "last.state.pt")

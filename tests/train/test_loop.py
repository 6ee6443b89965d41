"""Runs at the edges of their settings: uneven parts, one epoch, fewer videos than a batch, few classes, validation that comes late."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from m2clip import load
from m2clip.config import RunConfig
from m2clip.errors import CheckpointError, M2CLIPError
from m2clip.train import NonFiniteLoss, train
from m2clip.train.log import RunLog, read_log
from m2clip.train.state import TrainingState
from tests.small_inputs import TINY, class_folders

NAMES = ("red star growing", "blue square bouncing", "green circle spinning")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each of three classes, and two lists: the first five, and the first four, of two classes."""
    folder = class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)
    paths = sorted(folder.rglob("*.mp4"))
    for name, listed in (("five.csv", paths[:5]), ("four.csv", paths[:4])):
        lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in listed]
        (folder / name).write_text("\n".join(["path,label", *lines]) + "\n")
    return folder


def trained(out: Path, listed: Path, *, resume: bool = False, **changes: dict[str, Any]) -> Path:
    """A run of one epoch without warm-up; `changes` by section."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"train": str(listed), "frames": 4, "workers": 0, "flip": False},
        "model": {"backbone": TINY},
        "loss": {},
        "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 5, "lr": 0.01, "precision": "fp32"},
    }
    merged = {name: {**section, **changes.get(name, {})} for name, section in sections.items()}
    train(RunConfig.model_validate({"out": str(out), **merged}), resume=resume, progress=False)
    return out


def steps(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(out) if line["kind"] == "step"]


def test_parts_of_other_sizes_count_by_their_videos(tmp_path: Path, videos: Path) -> None:
    """Five videos in two parts are 3 + 2, in ten five of 1 and five of none: the gradient is that of the whole."""
    loss = {"contrastive": 0, "visual": 0, "mlm": 0}  # means over a batch's videos, without dropout
    whole = trained(tmp_path / "whole", videos / "five.csv", loss=loss, train={"batch_size": 10})
    (line,) = steps(whole)
    for parts in (2, 5, 10):  # ten: more parts than videos
        out = trained(
            tmp_path / f"parts{parts}", videos / "five.csv", loss=loss, train={"batch_size": 10, "accumulate": parts}
        )
        (other,) = steps(out)
        assert other["videos"] == 5
        assert [other[name] for name in ("total", "grad_norm")] == pytest.approx(
            [line[name] for name in ("total", "grad_norm")], rel=1e-4
        )


def test_one_epoch_of_a_batch_larger_than_the_data_without_clipping(tmp_path: Path, videos: Path) -> None:
    out = trained(
        tmp_path / "run", videos / "four.csv", data={"val": str(videos / "four.csv")},
        train={"batch_size": 64, "lr": None, "clip_norm": None},
    )  # fmt: skip
    (line,) = steps(out)  # two classes: top-5 has no meaning there, and does not stop the validation
    assert (line["videos"], line["lr"]) == (4, 1e-3 * 64 / 256)
    assert all(tensor.isfinite().all() for tensor in load_file(out / "last.safetensors").values())
    assert TrainingState.read(out / "last.state.pt").best["epoch"] == 1


def test_three_classes_are_tested_at_the_end(tmp_path: Path, videos: Path) -> None:
    out = trained(tmp_path / "run", videos, data={"test": str(videos)})
    assert [line["kind"] for line in read_log(out)].count("test") == 1
    trained(out, videos, resume=True, data={"test": str(videos)})
    assert [line["kind"] for line in read_log(out)].count("test") == 1  # measured again, told once


def test_validation_may_begin_when_a_run_is_resumed(tmp_path: Path, videos: Path) -> None:
    out = trained(tmp_path / "run", videos, train={"epochs": 2, "stop_after_epoch": 1})
    assert TrainingState.read(out / "last.state.pt").best == {"epoch": 1, "top1": None}
    trained(out, videos, resume=True, data={"val": str(videos)}, train={"epochs": 2})
    best = TrainingState.read(out / "last.state.pt").best
    assert best["epoch"] == 2
    assert 0 <= best["top1"] <= 1
    ours, last = load_file(out / "best.safetensors"), load_file(out / "last.safetensors")
    assert all(torch.equal(ours[name], last[name]) for name in last)


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors", "last.state.pt"])
def test_a_disk_that_is_full_stops_the_run_in_words_and_it_goes_on_later(
    tmp_path: Path, videos: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == name and Path(target).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        CheckpointError, match=rf"{name} cannot be written \(No space left on device\).*before is still"
    ):
        trained(tmp_path / "run", videos / "four.csv", train={"epochs": 2})
    monkeypatch.undo()
    assert TrainingState.read(tmp_path / "run/last.state.pt").epochs_done == 1
    load(tmp_path / "run/best.safetensors")
    trained(tmp_path / "run", videos / "four.csv", resume=True, train={"epochs": 2})
    assert TrainingState.read(tmp_path / "run/last.state.pt").epochs_done == 2
    assert len(steps(tmp_path / "run")) == 2


def test_a_log_that_cannot_grow_stops_the_run_in_words(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs the device that is always full")
    log = RunLog(tmp_path)
    log._file.close()
    log._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with (
        pytest.raises(
            M2CLIPError, match=r"metrics\.jsonl cannot be written \(No space left.*goes on after what it kept last"
        ),
        log,
    ):
        log.write("step", step=1, total=1.0)


def test_a_run_that_stops_on_a_loss_has_not_changed_the_weights_with_it(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *args: (taken.append(1), step(self, *args))[1])
    with pytest.raises(NonFiniteLoss, match="at step 2 "):
        trained(
            tmp_path / "run",
            videos,
            train={"lr": 1e30, "clip_norm": None, "batch_size": 3, "accumulate": 3, "epochs": 2},
        )
    assert len(taken) == 1


def test_the_fused_optimizer_is_the_plain_one_and_goes_on_with_its_state() -> None:
    torch.manual_seed(0)
    begun = [torch.randn(5, 7), torch.randn(7)]
    gradients = [[torch.randn(5, 7), torch.randn(7)] for _ in range(12)]

    def optimizer(*, fused: bool) -> torch.optim.AdamW:
        weights = [torch.nn.Parameter(tensor.clone()) for tensor in begun]
        groups = [{"params": weights[:1], "weight_decay": 0.01}, {"params": weights[1:], "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.01, fused=fused)

    def run(used: torch.optim.AdamW, some: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        weights = [weight for group in used.param_groups for weight in group["params"]]
        for both in some:
            for weight, gradient in zip(weights, both, strict=True):
                weight.grad = gradient
            used.step()
        return weights

    expected = run(optimizer(fused=False), gradients)
    for found, weight in zip(run(optimizer(fused=True), gradients), expected, strict=True):
        torch.testing.assert_close(found, weight, rtol=0, atol=1e-6)
    before, after = optimizer(fused=False), optimizer(fused=True)
    halfway = run(before, gradients[:6])
    with torch.no_grad():
        for group in after.param_groups:
            for weight in group["params"]:
                weight.copy_(next(other for other in halfway if other.shape == weight.shape))
    after.load_state_dict(before.state_dict())
    for found, weight in zip(run(after, gradients[6:]), expected, strict=True):
        torch.testing.assert_close(found, weight, rtol=0, atol=1e-6)

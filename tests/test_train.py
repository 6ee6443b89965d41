"""Training: it learns, it resumes to the last bit, it stops in words, and several processes are one."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from m2clip import Recognizer, load
from m2clip.config import RunConfig
from m2clip.errors import CheckpointError, ConfigError, M2CLIPError, VideoError
from m2clip.train import NonFiniteLoss, train
from m2clip.train.learner import learning_rate
from m2clip.train.log import read_log
from m2clip.train.preparation import doubts, read_data
from m2clip.train.state import TrainingState
from tests.small_inputs import TINY, class_folders, moving_square, write_video

NAMES = ("red star growing", "blue square bouncing", "green circle spinning", "white heart falling")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each of four classes."""
    return class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=2)


def settings(out: Path, videos: Path, **changes: dict[str, Any]) -> RunConfig:
    """A run of four epochs of two steps, without the terms' randomness being touched; `changes` by section."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"train": str(videos), "frames": 4, "workers": 0, "flip": False},
        "model": {"backbone": TINY},
        "loss": {},
        "eval": {},
        "train": {"epochs": 4, "warmup_epochs": 1, "batch_size": 4, "lr": 0.01, "precision": "fp32"},
    }
    merged = {name: {**section, **changes.get(name, {})} for name, section in sections.items()}
    return RunConfig.model_validate({"out": str(out), **merged})


def run(config: RunConfig, **options: Any) -> Path:
    return train(config, progress=False, **options)


def steps(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(out) if line["kind"] == "step"]


@pytest.mark.case("T1")
def test_eight_videos_of_four_classes_are_learned_in_thirty_steps(tmp_path: Path) -> None:
    """A white square that wanders over red, green, blue or black; two videos a class. It takes ten steps."""
    for k, name in enumerate(NAMES):
        for shift in range(2):
            pixels = moving_square(shift=shift)
            ground = (pixels != 255).any(-1)
            pixels[ground] = [200 * (channel == k) for channel in range(3)]
            write_video(tmp_path / "videos" / name / f"{shift}.mp4", pixels)
    config = settings(
        tmp_path / "run",
        tmp_path / "videos",
        data={"val": str(tmp_path / "videos")},
        train={"epochs": 30, "batch_size": 8, "lr": 0.03, "warmup_epochs": 3},
    )
    best = run(config)
    lines = read_log(best.parent)
    assert len(steps(best.parent)) == 30
    last = [line for line in lines if line["kind"] == "epoch"][-1]
    assert (last["similarity_top1"], last["visual_top1"]) == (1, 1)
    assert "also in" in lines[0]["text"]  # the same videos in training and validation are told
    terms = {"contrastive", "cross_modal", "visual", "mlm", "total", "lr", "grad_norm", "seconds"}
    assert terms <= steps(best.parent)[0].keys()
    assert any((best.parent / "tensorboard").iterdir())
    record = load(best).info
    assert (record.class_names, record.frames) == (tuple(sorted(NAMES)), 4)
    assert record.training["validation"]["similarity"] == 1


@pytest.mark.case("T3")
def test_fifty_steps_with_the_default_options_stay_finite(tmp_path: Path, videos: Path) -> None:
    """On the device that is here, in the precision that is native to it."""
    many = tmp_path / "many"
    for name in NAMES:
        (many / name).mkdir(parents=True)
        for i in range(25):
            shutil.copy(videos / name / f"{i % 2}.mp4", many / name / f"{i}.mp4")
    own = {"data": {"train": str(many), "workers": 0}, "model": {"backbone": TINY}}
    train_options = {"epochs": 1, "warmup_epochs": 0, "batch_size": 2}  # all else as it comes
    best = run(RunConfig.model_validate({"out": str(tmp_path / "run"), **own, "train": train_options}))
    log = steps(best.parent)
    assert len(log) == 50
    assert all(
        math.isfinite(line[name]) for line in log for name in ("total", "contrastive", "visual", "mlm", "grad_norm")
    )
    tensors = load_file(best)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert {tensors[name].dtype for name in load(best).trained_parameters()} == {torch.float32}


@pytest.mark.case("L6")
@pytest.mark.parametrize("count", [2, 3, 10])
def test_any_number_of_own_classes_is_trained_and_measured(tmp_path: Path, count: int) -> None:
    names = [f"class {k}" for k in range(count)]
    own = class_folders(tmp_path / "videos", names, each=1)
    changes = {"data": {"test": str(own), "frames": 2}, "train": {"epochs": 1, "warmup_epochs": 0}}
    best = run(settings(tmp_path / "run", own, **changes))
    metrics = json.loads((best.parent / "test/report.json").read_text())["metrics"]
    assert list(metrics) == ["similarity", "visual", "ensemble"]
    for measured in metrics.values():
        assert measured["videos"] == count
        assert (measured["top5"] is None) == (count < 5)  # no top-5 of three classes
    scored = Recognizer(best).classify(own / names[0] / "0.mp4", top=5)
    assert len(scored) == min(count, 5)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    """Four epochs without a break."""
    return run(settings(tmp_path_factory.mktemp("straight") / "run", videos, data={"val": str(videos)})).parent


@pytest.mark.case("T6")
def test_two_epochs_and_two_more_are_four(tmp_path: Path, videos: Path, straight: Path) -> None:
    out = tmp_path / "run"
    data = {"val": str(videos)}
    run(settings(out, videos, data=data, train={"stop_after_epoch": 2}))
    with (out / "metrics.jsonl").open("a") as log:  # an epoch that a crash interrupted, its last line half written
        log.write(json.dumps({"kind": "step", "step": 5, "total": -1}) + '\n{"kind": "st')
    run(settings(out, videos, data=data | {"workers": 2}), resume=True)
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(out / name), load_file(straight / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [line["lr"] for line in steps(out)] == [line["lr"] for line in steps(straight)]
    assert [line["total"] for line in steps(out)] == [line["total"] for line in steps(straight)]
    assert [line["step"] for line in steps(out)] == list(range(1, 9))


@pytest.mark.case("T7")
def test_the_state_holds_tensors_and_plain_values(straight: Path, tmp_path: Path) -> None:
    content = torch.load(straight / "last.state.pt", weights_only=True)
    assert content["epochs_done"] == 4
    (tmp_path / "broken.pt").write_bytes((straight / "last.state.pt").read_bytes()[:2000])
    (tmp_path / "other.pt").write_bytes(b"")
    torch.save({"a": 1}, tmp_path / "foreign.pt")
    for name, words in (("broken.pt", "cannot be read"), ("foreign.pt", "no training state"), ("none.pt", "no run")):
        with pytest.raises(CheckpointError, match=words) as caught:
            TrainingState.read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_only_adapters_and_heads_change(straight: Path, tmp_path: Path, videos: Path) -> None:
    trained = load_file(straight / "last.safetensors")
    run(settings(tmp_path / "one", videos, train={"stop_after_epoch": 1}))
    early = load_file(tmp_path / "one/last.safetensors")
    changed = {name.split(".")[0] for name in trained if not torch.equal(trained[name], early[name])}
    frozen = {name.split(".")[0] for name in trained} - changed
    # a random backbone is nowhere else, so it is in the file
    assert changed == {"vision_adapters", "text_adapters", "visual_head", "masked_words"}
    assert frozen == {"clip", "masked_block"}


def test_the_best_checkpoint_is_measured_at_the_end(tmp_path: Path, videos: Path) -> None:
    data = {"test": str(videos)}
    best = run(
        settings(
            tmp_path / "run",
            videos,
            data=data,
            train={"epochs": 2},
            eval={"views_temporal": 2, "views_spatial": 3, "precision": "bf16"},
        )
    )
    report = json.loads((best.parent / "test/report.json").read_text())
    assert report["protocol"]["views"] == {"temporal": 2, "spatial": 3, "fusion": "mean of probabilities"}
    assert report["protocol"]["data"]["scored"] == 8
    assert report["protocol"]["precision"] == "bf16"
    assert read_log(best.parent)[-1]["kind"] == "test"
    run(settings(tmp_path / "left", videos, data=data, train={"stop_after_epoch": 1}))
    assert not (tmp_path / "left/test").exists()


def test_a_run_is_not_overwritten_and_not_resumed_as_another(straight: Path, videos: Path, tmp_path: Path) -> None:
    data = {"val": str(videos)}
    with pytest.raises(ConfigError, match="already holds a run"):
        run(settings(straight, videos, data=data))
    with pytest.raises(ConfigError, match=r"train\.lr was 0\.01 and is 0\.5"):
        run(settings(straight, videos, data=data, train={"lr": 0.5}), resume=True)
    with pytest.raises(CheckpointError, match="no run to resume"):
        run(settings(tmp_path / "new", videos), resume=True)
    elsewhere = class_folders(tmp_path / "videos", NAMES, each=1)
    with pytest.raises(ConfigError, match="training list changed"):
        run(settings(straight, elsewhere, data=data), resume=True)


def test_accumulated_parts_and_masks_off(tmp_path: Path, videos: Path) -> None:
    """Without the contrastive term, which sees one part at a time, two parts are one batch."""
    loss = {"contrastive": 0, "mlm_policy": "off"}
    whole = run(settings(tmp_path / "whole", videos, loss=loss, train={"epochs": 2}))
    parts = run(settings(tmp_path / "parts", videos, loss=loss, train={"epochs": 2, "accumulate": 2}))
    assert "mlm" not in steps(whole.parent)[0]
    one, other = load_file(whole), load_file(parts)
    assert not any(name.startswith("masked") for name in one)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


@pytest.mark.case("D1")
def test_bad_files_are_told_counted_and_skipped(tmp_path: Path, videos: Path) -> None:
    good = sorted(videos.rglob("*.mp4"))
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(9000))
    lines = [f"{path},{path.parent.name}" for path in good] + [f"random.mp4,{NAMES[0]}", f"gone.mp4,{NAMES[1]}"]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    config = settings(tmp_path / "run", tmp_path / "list.csv", train={"epochs": 2})
    log = read_log(run(config).parent)
    told = [line["text"] for line in log if line["kind"] == "warning" and "skipped" in line["text"]]
    assert len(told) == 2
    assert any("random.mp4" in text and "list.csv:10" in text for text in told)
    assert [line["bad_files"] for line in log if line["kind"] == "epoch"] == [2, 2]
    assert sum(line["videos"] for line in log if line["kind"] == "step") == 16
    with pytest.raises(VideoError, match=r"list\.csv:1"):
        run(settings(tmp_path / "stop", tmp_path / "list.csv", data={"on_bad_file": "stop"}))
    (tmp_path / "bad.csv").write_text(f"path,label\nrandom.mp4,{NAMES[0]}\ngone.mp4,{NAMES[1]}\n")
    with pytest.raises(VideoError, match="none of its 2 videos could be read"):
        run(settings(tmp_path / "none", tmp_path / "bad.csv"))


@pytest.mark.case("T3")
def test_a_loss_that_is_not_finite_stops_with_its_files(tmp_path: Path, videos: Path) -> None:
    config = settings(
        tmp_path / "run", videos, train={"lr": 1e30, "clip_norm": None, "batch_size": 8, "warmup_epochs": 0}
    )
    with pytest.raises(NonFiniteLoss) as caught:
        run(config)
    message = str(caught.value)
    assert isinstance(caught.value, M2CLIPError)
    assert "at step 2 in process 0" in message
    assert all(str(path) in message for path in videos.rglob("*.mp4"))
    assert TrainingState.read(tmp_path / "run/last.state.pt").epochs_done == 1  # the finished epoch is kept
    json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])


def test_settings_that_cannot_be_trained(tmp_path: Path, videos: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.train is not set"):
        run(settings(tmp_path / "run", videos, data={"train": None}))
    assert not (tmp_path / "run").exists()


@pytest.mark.case("T3")
def test_bfloat16_trains_float32_tensors(tmp_path: Path, videos: Path) -> None:
    best = run(settings(tmp_path / "run", videos, train={"epochs": 1, "warmup_epochs": 0, "precision": "bf16"}))
    dtypes = {name: tensor.dtype for name, tensor in load_file(best).items()}
    assert {dtype for name, dtype in dtypes.items() if "adapter" in name or "head" in name} == {torch.float32}
    assert all(math.isfinite(line["total"]) for line in steps(best.parent))


def test_the_schedule_rises_in_a_line_and_falls_in_a_cosine() -> None:
    rates = [learning_rate(step, warmup_steps=2, all_steps=6) for step in range(1, 7)]
    assert rates == pytest.approx([0.5, 1, 1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert learning_rate(1, warmup_steps=0, all_steps=1) == 1
    assert learning_rate(2, warmup_steps=1.5, all_steps=9) == 1


def test_mirroring_names_with_a_direction_is_doubted(tmp_path: Path, videos: Path) -> None:
    sided = class_folders(tmp_path / "sided", ("moving left", "moving up"), each=1)
    config = settings(tmp_path / "run", sided, data={"flip": True})
    (doubt,) = doubts(config, *read_data(config))
    assert "'moving left'" in doubt
    plain = settings(tmp_path / "run", videos, data={"flip": True})
    assert doubts(plain, *read_data(plain)) == []


@pytest.mark.slow
@pytest.mark.case("T5")
def test_two_processes_are_one(tmp_path: Path, videos: Path) -> None:
    """Seven videos and a bad one, one video a process and step: where the bad one comes, a process has nothing to read.

    The launcher is torchrun under the name by which it passes --local-rank, too.
    """
    good = sorted(videos.rglob("*.mp4"))[:7]
    lines = [f"{path},{path.parent.name}" for path in good] + [f"gone.mp4,{NAMES[3]}"]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    changes = {
        "data": {"val": str(tmp_path / "list.csv")},
        "train": {"epochs": 2, "batch_size": 2},
    }
    (tmp_path / "run.json").write_text(settings(tmp_path / "both", tmp_path / "list.csv", **changes).model_dump_json())
    launcher = [sys.executable, "-m", "torch.distributed.launch", "--standalone", "--nproc-per-node=2"]
    pair = subprocess.Popen(
        [*launcher, "-m", "m2clip", "train", str(tmp_path / "run.json"), "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    alone = run(settings(tmp_path / "alone", tmp_path / "list.csv", **changes)).parent
    document, said = pair.communicate()
    assert pair.returncode == 0, said
    assert "reducer.cpp" not in said  # DDP's own warning
    both = tmp_path / "both"
    assert json.loads(document)["out"] == str(both)  # one document, not one a process
    names = (
        "total",
        "contrastive",
        "cross_modal",
        "visual",
        "mlm",
        "grad_norm",
        "videos",
        "loss",
        "similarity_top1",
        "bad_files",
    )
    for kind in ("step", "epoch"):
        ours, theirs = ([line for line in read_log(out) if line["kind"] == kind] for out in (alone, both))
        for line, other in zip(ours, theirs, strict=True):
            for name in line.keys() & names:
                assert line[name] == pytest.approx(other[name], rel=1e-3), (kind, name)
    told = [line["text"] for line in read_log(both) if line["kind"] == "warning"]
    assert sum("gone.mp4" in text for text in told) == 1
    one, two = load_file(alone / "last.safetensors"), load_file(both / "last.safetensors")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-2, atol=1e-4)

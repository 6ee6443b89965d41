"""m2clip calibrate: what it prints and writes, what other commands make of it, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m2clip import Recognizer, load
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import moving_square, tiny_model, write_video


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a visual head, and a list of ten videos: what it sees in them, but for two."""
    model = tiny_model(NAMES, visual_head=False)
    model.info = model.info.model_copy(update={"training": {"epochs": 1}})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    root = tmp_path_factory.mktemp("learned")
    reader = Recognizer(model)
    lines = []
    for n in range(10):
        path = write_video(root / f"{n}.mp4", moving_square(shift=n))
        seen = NAMES[2] if n in (3, 7) else reader.classify(path, top=1)[0].label
        lines.append(f"{path.name},{seen}\n")
    (root / "val.csv").write_text("path,label\n" + "".join(lines))
    return model.save(root / "learned.safetensors")


def test_a_calibrated_copy_and_what_the_commands_say_of_it(
    m2: Callable[..., Ran], learned: Path, tmp_path: Path
) -> None:
    val, out = learned.parent / "val.csv", tmp_path / "new/calibrated.safetensors"
    ran = m2("calibrate", learned, "--data", val, "--reject", 0.2, "--out", out)
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == [
        "reading",
        "temperature",
        "ECE",
        "before",
        "after",
        "NLL",
        "before",
        "after",
    ]
    assert "none of these: cosine below" in ran.out
    assert "2 of 10 validation videos" in ran.out
    assert "set on 10 videos only" in ran.out
    assert "calibrated.safetensors: calibrated" in ran.err
    before, after = load_file(learned), load_file(out)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    videos = [learned.parent / f"{n}.mp4" for n in range(10)]
    plain, said = (json.loads(m2("classify", *videos, "--checkpoint", one, "--json").out) for one in (learned, out))
    assert (plain["temperature"], plain["threshold"]) == (1, None)
    assert said["temperature"] == load(out).info.calibration.temperatures["similarity"] != 1
    assert [one["predictions"][0]["label"] for one in said["videos"]] == [
        one["predictions"][0]["label"] for one in plain["videos"]
    ]
    rejected = [one["none_of_these"] for one in said["videos"]]
    assert sum(rejected) == 2
    assert not any(one["none_of_these"] for one in plain["videos"])
    lines = m2("classify", videos[rejected.index(True)], "--checkpoint", out).out.splitlines()
    assert lines[1] == "  none of these; the nearest:"
    assert len(lines) == 5
    assert "none of these" not in m2("classify", videos[rejected.index(False)], "--checkpoint", out).out
    document = json.loads(m2("evaluate", out, "--data", val, "--json").out)
    assert document["none_of_these"]["rejected"] == 2
    assert document["metrics"]["similarity"]["ece"] >= 0
    assert json.loads(m2("info", out, "--json").out)["calibration"]["measured"]["data"] == "val.csv"


def test_in_place_and_without_writing(m2: Callable[..., Ran], learned: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(learned.read_bytes())
    val = learned.parent / "val.csv"
    document = json.loads(m2("calibrate", path, "--data", val, "--json").out)
    assert document["none_of_these"] is None
    assert path.read_bytes() == learned.read_bytes()
    assert m2("calibrate", path, "--data", val, "--out", path).code == 0
    calibration = load(path).info.calibration
    assert calibration.temperatures["similarity"] == document["readings"]["similarity"]["temperature"]
    assert calibration.threshold is None


def test_a_backbone_is_written_as_a_checkpoint(m2: Callable[..., Ran], tmp_path: Path) -> None:
    """Its labels are those of the data; what was set holds for them."""
    reader, lines = Recognizer("builtin"), []
    labels = ["a red square", "a green square", "a blue square"]
    for n in range(6):
        path = write_video(tmp_path / f"{n}.mp4", moving_square(shift=n, side=80))
        best = reader.classify(path, labels, top=3)
        lines.append(f"{path},{best[1 if n == 0 else 0].label}\n")
    for name in labels:  # every label has a video
        lines.append(f"{tmp_path / '0.mp4'},{name}\n")
    (tmp_path / "val.csv").write_text("path,label\n" + "".join(lines))
    ran = m2("calibrate", "builtin", "--data", tmp_path / "val.csv", "--out", tmp_path / "own.safetensors")
    assert ran.code == 0, ran.err
    document = json.loads(
        m2(
            "classify",
            tmp_path / "1.mp4",
            "--checkpoint",
            tmp_path / "own.safetensors",
            "--labels",
            ",".join(labels),
            "--json",
        ).out
    )
    assert document["temperature"] == load(tmp_path / "own.safetensors").info.calibration.temperatures["similarity"]
    assert document["trained"] is False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--reject", "0.05"), "0.05 of 10 videos is less than one"),
        (("--reject", "1.5"), "must be between 0 and 1"),
        (("--data", "gone.csv"), "gone.csv"),
        (("--out", "."), ". is a folder; give the name of a file"),
    ],
)
def test_what_it_refuses(m2: Callable[..., Ran], learned: Path, options: tuple[str, ...], said: str) -> None:
    ran = m2("calibrate", learned, "--data", learned.parent / "val.csv", *options)
    assert ran.code == 1
    assert said in one_sentence(ran)
    assert ran.out == ""


def test_other_labels_are_asked_for_by_name(m2: Callable[..., Ran], learned: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(f"path,label\n{learned.parent / '0.mp4'},falling\n")
    ran = m2("calibrate", learned, "--data", tmp_path / "other.csv")
    assert ran.code == 1
    assert "name other labels with --classes" in one_sentence(ran)


def test_a_file_that_is_no_checkpoint(m2: Callable[..., Ran], place: Path, learned: Path) -> None:
    ran = m2("calibrate", place / "other.safetensors", "--data", learned.parent / "val.csv")
    assert ran.code == 1
    assert "is no m2clip checkpoint" in one_sentence(ran)


@pytest.mark.slow
def test_two_processes_calibrate_as_one_does(m2: Callable[..., Ran], learned: Path, tmp_path: Path) -> None:
    """The first process writes, and only it prints."""
    command = ["calibrate", learned, "--data", learned.parent / "val.csv", "--reject", "0.2", "--json"]
    alone = json.loads(m2(*command, "--batch-size", "4").out)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "m2clip"]
    ran = subprocess.run(
        [*torchrun, *map(str, command), "--out", str(tmp_path / "two.safetensors"), "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert ran.returncode == 0, ran.stderr
    together = json.loads(ran.stdout)
    assert together["data_sha256"] == alone["data_sha256"]
    assert together["videos"] == alone["videos"] == 10
    found, expected = together["readings"]["similarity"], alone["readings"]["similarity"]
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-4)
    assert ran.stderr.count("two.safetensors: calibrated") == 1
    assert load(tmp_path / "two.safetensors").info.calibration is not None

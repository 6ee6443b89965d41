"""The command explain: what it prints, draws and refuses."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2clip.model.rivals.aim import AIM
from tests.model.rivals.plain_clip import model_of
from tests.program import NAMES, Ran, one_sentence

M2 = Callable[..., Ran]


def test_the_best_label_is_explained_by_default(m2: M2, place: Path) -> None:
    video, model = place / "good.mp4", place / "model.safetensors"
    ran = m2("explain", video, "--checkpoint", model)
    assert ran.code == 0, ran.err
    head, *frames = ran.out.splitlines()
    best = m2("classify", video, "--checkpoint", model, "--top", 1).out.splitlines()[-1]
    assert head.split() == best.split()
    shares = [float(line.split(" %")[0]) for line in frames]
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_json_has_the_maps_of_each_label_and_the_picture_is_written(m2: M2, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "strip.png"
    ran = m2(
        "explain", place / "good.mp4", "--checkpoint", place / "model.safetensors", "--frames", 3, "--strength", 0.5,
        "--label", "moving", "--label", "bouncing", "--out", out, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert document["strength"] == 0.5
    assert document["reading"] == "ensemble"
    assert document["lost_frames"] == 0
    assert len(document["frame_indices"]) == len(document["frame_seconds"]) == 3
    assert [one["label"] for one in document["explanations"]] == ["moving", "bouncing"]
    for one in document["explanations"]:
        assert np.shape(one["heat"]) == (3, 2, 2)
        assert np.max(one["heat"]) == 1
        assert sum(one["time"]) == pytest.approx(1)
    assert np.shape(document["difference"]) == (3, 2, 2)
    picture = Image.open(io.BytesIO(out.read_bytes()))
    assert 3 * (128 + 4) < picture.height < 4 * (128 + 4)  # the frames and two labels; fresh adapters answer to nothing
    assert f"{out}: 3 frames, 2 labels" in ran.err


def test_labels_are_those_that_the_score_chooses_from(m2: M2, place: Path) -> None:
    video, model = place / "good.mp4", place / "model.safetensors"
    two = m2("explain", video, "--checkpoint", model, "--labels", "running,waving", "--label", "waving", "--json")
    (one,) = json.loads(two.out)["explanations"]
    assert 0 < one["score"] < 1
    alone = json.loads(m2("explain", video, "--checkpoint", model, "--labels", "waving", "--json").out)
    assert alone["explanations"][0]["score"] == 1


def test_wrong_usage_and_broken_files_end_in_one_sentence(m2: M2, place: Path, tmp_path: Path) -> None:
    model = ("--checkpoint", place / "model.safetensors")
    assert "'flying' is not among the 3 labels" in one_sentence(
        m2("explain", place / "good.mp4", *model, "--label", "flying")
    )
    assert "noise.mp4" in one_sentence(m2("explain", place / "noise.mp4", *model))
    blocked = tmp_path / "file"
    blocked.touch()
    assert "is a folder; give the name" in one_sentence(m2("explain", place / "good.mp4", *model, "--out", tmp_path))
    refused = m2("explain", place / "good.mp4", *model, "--out", tmp_path / "strip.jpg")
    assert "give it the ending .png" in one_sentence(refused)
    refused = m2("explain", place / "good.mp4", *model, "--out", blocked / "strip.png")
    assert "cannot be written" in one_sentence(refused)
    assert refused.code == 1
    rows = ["--label", "moving"] * 1100
    assert "1102 rows of 8 frames are too many" in one_sentence(
        m2("explain", place / "good.mp4", *model, *rows, "--out", tmp_path / "a.png")
    )
    assert m2("explain", place / "good.mp4", *model, "--labels", "a", "--labels-file", place / "none.csv").code == 2


def test_a_method_without_maps_says_so(m2: M2, place: Path, tmp_path: Path) -> None:
    model = model_of("aim")
    assert isinstance(model, AIM)
    path = model.save(tmp_path / "aim.safetensors")
    ran = m2("explain", place / "good.mp4", "--checkpoint", path, "--labels", ",".join(NAMES))
    assert "method aim attention runs over time" in one_sentence(ran)

"""--strength in every command that reads a model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from m2clip import load
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import tiny_model


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose adapters are far from the identity."""
    model = tiny_model(NAMES)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.05
    return model.save(tmp_path_factory.mktemp("learned") / "learned.safetensors")


def test_every_command_takes_a_strength(m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path) -> None:
    video, model = place / "good.mp4", ("--checkpoint", learned)
    tiny_model(NAMES, method="frozen").save(tmp_path / "frozen.safetensors")
    frozen = ("--checkpoint", tmp_path / "frozen.safetensors")
    for command in (
        ("classify", video, "--labels", "a,b"),
        ("timeline", video, "--labels", "a,b"),
        ("embed", video),
    ):
        weak, strong, clip = (
            json.loads(m2(*command, "--json", *options).out) for options in ((*model, "--strength", 0), model, frozen)
        )
        assert (weak["strength"], strong["strength"]) == (0, 1)
        seen = "windows" if command[0] == "timeline" else "videos"
        assert weak[seen] == clip[seen] != strong[seen]
    reports = [
        json.loads(m2("evaluate", learned, "--data", place / "data", "--json", *options).out)
        for options in ((), ("--strength", 1), ("--strength", 0.5))
    ]
    assert [report["protocol"]["strength"] for report in reports] == [1, 1, 0.5]
    assert reports[0]["metrics"] == reports[1]["metrics"]


def test_a_checkpoints_own_strength_is_used_unless_told_otherwise(
    m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path
) -> None:
    model = load(learned)
    model.info = model.info.model_copy(update={"strength": 0.25})
    model.save(tmp_path / "tuned.safetensors")

    def embedding(*options: object) -> list[float]:
        (video,) = json.loads(m2("embed", place / "good.mp4", "--json", *options).out)["videos"]
        return video["embedding"]

    tuned = embedding("--checkpoint", tmp_path / "tuned.safetensors")
    assert tuned == embedding("--checkpoint", learned, "--strength", 0.25)
    full = embedding("--checkpoint", tmp_path / "tuned.safetensors", "--strength", 1)
    assert full == embedding("--checkpoint", learned)
    assert not np.allclose(full, tuned, atol=1e-4)


def test_a_strength_that_cannot_be(m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path) -> None:
    for value in ("-0.1", "1.5", "nan", "much"):
        ran = m2("evaluate", learned, "--data", place / "data", f"--strength={value}")
        assert ran.code == 2
        assert "--strength" in ran.err
    tiny_model(NAMES, method="frozen").save(tmp_path / "frozen.safetensors")
    ran = m2("embed", place / "good.mp4", "--json", "--checkpoint", tmp_path / "frozen.safetensors", "--strength", 0.5)
    assert ran.code == 1
    assert "the method frozen has no adapters to weaken" in one_sentence(ran)

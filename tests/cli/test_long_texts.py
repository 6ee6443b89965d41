"""Descriptions of classes that are longer than CLIP reads, at every door."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import NAMES, Ran

LONG = "legs and arms that move faster and faster " * 15  # 120 words


@pytest.mark.case("L8")
def test_a_description_of_120_words_is_cut_and_its_class_is_named(
    m2: Callable[..., Ran], place: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps({name: LONG if name == "moving" else "short" for name in NAMES}))
    rows = [f"{k},{name},{LONG if name == 'moving' else ''}" for k, name in enumerate(NAMES)]
    (tmp_path / "table.csv").write_text("id,name,text_1\n" + "\n".join(rows) + "\n")
    model = place / "model.safetensors"
    calls = (
        ("classify", place / "good.mp4", "--checkpoint", model, "--texts", tmp_path / "texts.json"),
        ("classify", place / "good.mp4", "--checkpoint", model, "--labels-file", tmp_path / "table.csv"),
        ("timeline", place / "good.mp4", "--checkpoint", model, "--texts", tmp_path / "texts.json"),
        ("evaluate", model, "--data", place / "data", "--texts", tmp_path / "texts.json"),
        ("evaluate", model, "--data", place / "data", "--classes", tmp_path / "table.csv", "--protocol", "zero-shot"),
    )
    for call in calls:
        warnings.resetwarnings()
        ran = m2(*call)
        assert ran.code == 0, call
        (told,) = [line for line in ran.err.splitlines() if "tokens" in line]
        assert told.startswith("m2clip: warning: the text 'legs and arms"), call
        assert "of the class 'moving' has 122 tokens (start and end token included) and was cut to 77" in told, call

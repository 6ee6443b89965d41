"""The command export."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.program import NAMES, Ran, one_sentence


def test_a_file_is_written_with_labels_and_checked_on_a_video(
    m2: Callable[..., Ran], place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "model.pt2"
    ran = m2("export", place / "model.safetensors", out, "--labels", "up,down", "--check", place / "good.mp4", "--json")
    assert ran.code == 0, ran.err
    facts = json.loads(ran.out)
    assert facts == json.loads(out.with_suffix(".json").read_text())
    assert facts["labels"]["names"] == ["up", "down"]
    assert facts["trained_classes"] == list(NAMES)
    assert facts["check"]["real_clips"] == 1


def test_what_goes_wrong_is_one_sentence_before_any_work(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    model = place / "model.safetensors"
    (tmp_path / "file").touch()
    (tmp_path / "folder.onnx").mkdir()
    for arguments, said in (
        ((model, tmp_path / "model.engine"), "name the file .onnx or .pt2"),
        ((model, tmp_path / "folder.onnx"), "folder.onnx is a folder; give the name of a file"),
        ((model, tmp_path / "file" / "model.onnx"), "cannot be written"),
        ((tmp_path / "none.safetensors", tmp_path / "model.onnx"), "is no file"),
        ((model, tmp_path / "model.onnx", "--check", place / "text.mp4"), "text.mp4"),
    ):
        ran = m2("export", *arguments)
        assert (ran.code, ran.out) == (1, "")
        assert said in one_sentence(ran)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]

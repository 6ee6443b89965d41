"""The program run in this process, and a folder with data, a checkpoint and broken files of every kind."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from m2clip.cli import main
from tests.odd_videos import without_frames
from tests.program import NAMES, Ran
from tests.small_inputs import class_folders, moving_square, tiny_model, write_sound, write_video


@pytest.fixture
def m2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the program in this process, whose memory it leaves alone."""
    monkeypatch.setattr("m2clip.cli.keep_freed_memory", lambda: None)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["m2clip", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return Ran(int(ended.value.code or 0), output.out, output.err)

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a checkpoint, and broken files of every kind."""
    root = tmp_path_factory.mktemp("cli")
    class_folders(root / "data", NAMES)
    good = write_video(root / "good.mp4", moving_square(frames=24))
    write_sound(root / "sound.mp4")
    (root / "empty.mp4").touch()
    (root / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 3])
    (root / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(9000))
    (root / "text.mp4").write_text("not a video")
    without_frames(root / "no_frames.avi")
    model = tiny_model(NAMES)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    model.save(root / "model.safetensors")
    save_file({"a": torch.zeros(2)}, root / "other.safetensors")
    return root

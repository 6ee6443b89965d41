"""Small copies of videos: every frame, in order, with the shape of the picture and the labels of the list."""

import sys
from pathlib import Path

import numpy as np
import pytest
import shrink

from m2clip.data.video import Video
from tests.small_inputs import write_video


def test_copies_keep_frames_order_and_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.arange(0, 240, 10, dtype=np.uint8)  # frame t is of one grey, 10 t
    frames = np.broadcast_to(grey[:, None, None, None], (24, 96, 160, 3)).copy()
    (tmp_path / "videos" / "a b").mkdir(parents=True)
    write_video(tmp_path / "videos" / "a b" / "one.avi", frames)
    (tmp_path / "train.txt").write_text("a b/one.avi 3\n")
    arguments = ["shrink", tmp_path / "train.txt", tmp_path / "videos", tmp_path / "out", "--side", "48"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    shrink.main()
    assert (tmp_path / "out" / "train.txt").read_text() == "a b/one.mp4 3\n"
    with Video(tmp_path / "out" / "a b" / "one.mp4") as video:
        assert (video.info.frame_count, video.info.height, video.info.width) == (24, 48, 80)
        seen = video.frames(range(24)).reshape(24, -1).mean(1)
    nearest = np.abs(seen[:, None] - grey[None]).argmin(1)  # two lossy encodings may shift a grey by a few steps of 255
    assert nearest.tolist() == list(range(24))

"""The frames of clips as one picture: every frame at its place, also behind the sixteenth."""

import io

import numpy as np
import pytest
from PIL import Image

from m2clip.report.clip_strip import clip_strip


@pytest.mark.parametrize(("frames", "side"), [(1, 8), (5, 64), (40, 8)])
def test_frames_lie_in_rows_and_lines(frames: int, side: int) -> None:
    values = np.arange(2 * frames, dtype=np.uint8).reshape(2, frames) + 100
    pixels = np.zeros((2, frames, 3, side, side), np.uint8)
    pixels[:, :, 0] = values[:, :, None, None]
    pixels[:, :, 2] = 255  # blue, as no letter is
    indices = np.arange(2 * frames).reshape(2, frames)
    png = clip_strip(pixels, indices, indices / 10, names=["one", "two"])
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    blue = (picture[..., 2] == 255) & (picture[..., 1] == 0)
    corners = []
    for value in values.flatten():
        rows, columns = np.nonzero(blue & (picture[..., 0] == value))
        assert len(rows) == side * side == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        corners.append((rows.min(), columns.min()))
    assert corners == sorted(corners)  # in reading order, the second clip below the first
    assert len({row for row, _ in corners}) == 2 * -(-frames // 16)
    assert picture.shape[1] == min(frames, 16) * (max(side, 64) + 4) + 4


def test_labels_are_drawn() -> None:
    pixels = np.full((1, 1, 3, 8, 8), 255, np.uint8)
    blank, labelled = (
        np.asarray(Image.open(io.BytesIO(clip_strip(pixels, np.array([[i]]), np.array([[0.5]]), names=["view 0"]))))
        for i in (1, 888)
    )
    assert (blank < 128).any()
    assert (blank != labelled).any()

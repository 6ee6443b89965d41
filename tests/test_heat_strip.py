"""The picture of an explanation: every frame, under heat of its own place, with its share as a bar."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from m2clip.explanations import Explanation
from m2clip.report.heat_strip import heat_strip, overlaid

SHARE = (200, 70, 30)


def explanation(frames: int, *, side: int = 128, patches: int = 4, difference: bool = True) -> Explanation:
    """Blue frames whose heat wanders from patch to patch; frame t has a share of t + 1 parts."""
    heat = np.zeros((frames, patches, patches), np.float32)
    heat[np.arange(frames), 1, np.arange(frames) % patches] = 1
    pixels = np.zeros((frames, 3, side, side), np.uint8)
    pixels[:, 2] = 255
    parts = np.arange(1, frames + 1, dtype=np.float32)
    indices = np.arange(frames)
    return Explanation(
        "a label", 0.5, heat, parts / parts.sum(), heat if difference else None, pixels, indices, indices / 4
    )


def drawn(*found: Explanation) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(heat_strip(*found))).convert("RGB")).astype(int)


@pytest.mark.parametrize(("frames", "lines"), [(1, 1), (5, 1), (20, 2)])
def test_every_frame_stands_in_its_place_plain_and_under_its_heat(frames: int, lines: int) -> None:
    picture = drawn(explanation(frames))
    text, title, bar = 2 * (12 + 3), 12 + 8, 6 + 2  # heights in pixels
    heat_rows = 4 + lines * (text + 128 + 4) + title
    difference_rows = heat_rows + lines * (128 + 4 + bar) + title
    for t in range(frames):
        line, left = t // 16, 4 + t % 16 * 132
        here = picture[:, left : left + 128]
        assert (here[4 + line * (text + 132) + text :][:128] == (0, 0, 255)).all()
        for top in (heat_rows + line * (132 + bar), difference_rows + line * 132):
            under = here[top : top + 128]
            red = under[..., 0].reshape(4, 32, 4, 32)[:, 12:20, :, 12:20].mean((1, 3))  # at the patches' middles
            assert np.unravel_index(red.argmax(), (4, 4)) == (1, t % 4)
            assert red.max() > 180
            assert (under[96:] == (0, 0, 255)).all()  # the lowest row of patches has no heat
    assert picture.shape[0] == difference_rows + lines * 132
    assert drawn(explanation(frames, difference=False)).shape[0] == difference_rows - title
    silent = replace(explanation(frames), patch_difference=np.zeros((frames, 4, 4), np.float32))  # of fresh adapters
    assert drawn(silent).shape[0] == difference_rows - title


def test_the_bars_are_as_long_as_the_shares() -> None:
    picture = drawn(explanation(4))
    bars = (picture == SHARE).all(-1)
    rows = np.flatnonzero(bars.any(1))
    assert len(rows) == 6
    lengths = [int(bars[rows[0], 4 + 132 * t : 132 * (t + 1)].sum()) for t in range(4)]
    assert lengths == [32, 64, 96, 128]


def test_each_label_has_a_row() -> None:
    one = explanation(3)
    assert drawn(one, one).shape[0] - drawn(one).shape[0] == 128 + 4 + 6 + 2 + 12 + 8


def test_small_frames_are_enlarged() -> None:
    assert drawn(explanation(16, side=32)).shape[1] == 16 * (128 + 4) + 4


def test_heat_lies_where_it_is_and_leaves_the_rest_alone() -> None:
    frames = np.full((1, 4, 4, 3), 100, np.uint8)
    heat = np.zeros((1, 4, 4), np.float32)
    heat[0, 1, 2], heat[0, 3, 3] = 1.0, 0.25
    picture = overlaid(frames, heat)
    changed = (picture != 100).any(-1)[0]
    assert sorted(map(tuple, np.argwhere(changed).tolist())) == [(1, 2), (3, 3)]
    # At 1 the palest colour (255, 245, 160) covers 0.8 of the frame: 0.2 * 100 + 0.8 * 255 = 224, and so on.
    assert picture[0, 1, 2].tolist() == [224, 216, 148]
    # At 0.25 the colour is 3/4 of the way from the first (40, 10, 90) to the second (160, 30, 110), over 0.8 * 0.5 of the frame.
    assert picture[0, 3, 3].tolist() == [112, 70, 102]

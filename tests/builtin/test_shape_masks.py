"""The masks are of the very videos: where the object is, the picture has its colour, and nothing else has changed."""

from pathlib import Path

import pytest
import torch

from m2clip.builtin.scenes import COLOURS
from m2clip.builtin.shape_masks import masked_videos, object_cover
from m2clip.builtin.shapes import PAIRS, make_shapes, render_motion
from m2clip.data.video import Video


@pytest.mark.parametrize("motion", [motion for pair, motions in PAIRS.items() if pair != "fade" for motion in motions])
def test_covered_pixels_have_the_colour_of_the_object(motion: str) -> None:
    video = torch.from_numpy(render_motion("white circle", motion, seed=5, frames=9, size=48)).float()
    cover = object_cover("white circle", motion, seed=5, frames=9, size=48)
    assert cover.shape == (9, 48, 48)
    assert 0.01 < cover.mean() < 0.35
    assert video[cover == 1].min() > 200  # bright and without a hue; the ground is never bright
    (hue, *_) = COLOURS["white"]
    assert hue == 0.0
    around = (cover == 0) & (torch.nn.functional.max_pool2d(cover, 5, 1, 2) > 0)
    assert (video[around].amin(-1) > 200).float().mean() < 0.1  # a distractor may touch it


def test_a_fading_object_is_where_it_is_from_its_faintest_frame_on() -> None:
    """It stands nearly still (it drifts by 0.08 of the side at most), so its area is the same in all frames."""
    areas = object_cover("red square", "fading out", seed=1, frames=8, size=64).mean((1, 2))
    assert areas.min() > 0.98 * areas.max()


def test_videos_of_a_folder_come_with_their_own_masks(tmp_path: Path) -> None:
    make_shapes(tmp_path, train_per_class=0, val_per_class=0, test_per_class=1, frames=8, size=32, workers=1)
    found = list(masked_videos(tmp_path, "novel", "test"))
    assert [one.path.name for one in found] == [f"{k:02d}_000.mp4" for k in range(24)]
    one = next(one for one in found if one.label == "a white diamond moving left to right")
    with Video(one.path) as video:
        frames = torch.from_numpy(video.frames(range(8))).float()
    assert frames[one.cover == 1].mean() > 180  # H.264 softens small things
    assert frames[one.cover == 0].mean() < 150

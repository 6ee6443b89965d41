import math

import pytest
import torch

from m2clip.builtin.scenes import (
    COLOURS,
    DISTRACTORS,
    ONE_WAY_UP,
    SHAPES,
    Objects,
    backgrounds,
    coverage,
    jittered_colours,
    muted_rgb,
    render,
    shape_id,
)


def objects(
    shape: str, *, x: float = 0.5, y: float = 0.5, radius: float = 0.3, angle: float = 0.0, opacity: float = 1.0
):
    return Objects(
        torch.tensor([[shape_id(shape)]]),
        torch.tensor([[[1.0, 0.0, 0.0]]]),
        torch.tensor([[[x, y]]]),
        torch.tensor([[radius]]),
        torch.tensor([[angle]]),
        torch.tensor([[opacity]]),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES + DISTRACTORS)
def test_shape_is_solid_and_stays_within_its_reach(shape):
    cover = coverage(objects(shape), 0, 64)[0]
    rows, columns = (cover > 0.5).nonzero().T
    assert 60 < cover.sum() < 1300
    # Radius 0.3 of 64 pixels is 19: nothing reaches beyond a quarter more.
    assert ((rows - 31.5).hypot(columns - 31.5) < 24).all()


def test_shapes_differ_from_each_other_at_every_turn():
    upright = {shape: coverage(objects(shape), 0, 48)[0] for shape in SHAPES}
    for i, one in enumerate(SHAPES):
        for other in SHAPES[i + 1 :]:
            for turn in torch.linspace(0, 2 * math.pi, 13)[:-1].tolist():
                turned = coverage(objects(other, angle=turn), 0, 48)[0]
                overlap = torch.minimum(upright[one], turned).sum() / torch.maximum(upright[one], turned).sum()
                assert overlap < 0.9, (one, other, turn)


@pytest.mark.parametrize("shape", ONE_WAY_UP)
def test_spin_shows_on_one_way_up_shapes(shape):
    first = coverage(objects(shape), 0, 64)[0]
    for turn in (0.25, 0.5, 0.75):
        other = coverage(objects(shape, angle=2 * math.pi * turn), 0, 64)[0]
        assert (first - other).abs().sum() > 0.25 * first.sum()


def test_arrow_points_right_and_turns_clockwise():
    def widest(angle: float, along: int) -> int:
        """Offset from the middle, along an axis, of the line where most is covered: the root of the arrow's head."""
        cover = coverage(objects("arrow", angle=angle), 0, 65)[0] > 0.5
        return int(cover.sum(dim=along).argmax()) - 32

    assert 0 < widest(0.0, along=0) < 8
    # y runs down: a quarter turn clockwise points the arrow down.
    assert 0 < widest(math.pi / 2, along=1) < 8
    assert -8 < widest(math.pi, along=0) < 0


def test_object_is_where_its_centre_says_and_has_its_colour():
    black = torch.zeros(1, 3, 64, 64)
    image = render(objects("circle", x=0.25, y=0.75, radius=0.15), black)[0]
    rows, columns = (image[0] > 0.5).nonzero().float().T
    assert columns.mean() == pytest.approx(15.5, abs=0.5)
    assert rows.mean() == pytest.approx(47.5, abs=0.5)
    assert image[1:].max() == 0
    assert image[0, 48, 16] == pytest.approx(1.0)


def test_opacity_blends_and_empty_slots_leave_the_background():
    grey = torch.full((1, 3, 32, 32), 0.5)
    assert torch.equal(render(objects("square", opacity=0.0), grey), grey)
    half = render(objects("square", opacity=0.5), grey)[0, :, 16, 16]
    assert half.tolist() == pytest.approx([0.75, 0.25, 0.25])


def test_later_slots_cover_earlier_ones():
    both = Objects(
        torch.tensor([[0, 0]]),
        torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]),
        torch.full((1, 2, 2), 0.5),
        torch.full((1, 2), 0.3),
        torch.zeros(1, 2),
        torch.ones(1, 2),
    )
    assert render(both, torch.zeros(1, 3, 32, 32))[0, :, 16, 16].tolist() == [0.0, 0.0, 1.0]


def test_colours_are_told_apart_and_stand_out_from_backgrounds():
    ids = torch.arange(len(COLOURS)).repeat_interleave(200)
    rgb = jittered_colours(ids, generator())
    centres = torch.stack([rgb[ids == k].mean(0) for k in range(len(COLOURS))])
    assert torch.equal(torch.cdist(rgb, centres).argmin(1), ids)
    muted = muted_rgb(generator(), 500)
    assert float(muted.max()) <= 0.6
    assert float((muted.max(-1).values - muted.min(-1).values).max()) < 0.2


def test_backgrounds_are_seeded_varied_and_in_range():
    first = backgrounds(40, 32, generator(1))
    assert torch.equal(first, backgrounds(40, 32, generator(1)))
    assert not torch.equal(first, backgrounds(40, 32, generator(2)))
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.shape == (40, 3, 32, 32)
    contrast = first.mean(1).flatten(1).std(1)
    assert contrast.max() > 0.1
    assert contrast.min() < 0.04


def test_objects_check_their_shapes():
    with pytest.raises(ValueError, match=r"radius has shape \(1, 2\)"):
        Objects(
            torch.zeros(1, 1, dtype=torch.int64),
            torch.zeros(1, 1, 3),
            torch.zeros(1, 1, 2),
            torch.zeros(1, 2),
            torch.zeros(1, 1),
            torch.zeros(1, 1),
        )

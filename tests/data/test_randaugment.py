"""RandAugment for clips: each operation does what the table says, to all frames, and none mirrors."""

import numpy as np
import pytest
import torch

from m2clip.data.randaugment import OPERATIONS, apply, rand_augment

FILL = (100.0, 110.0, 120.0)


def ramp(frames: int = 2) -> torch.Tensor:
    """uint8 [T, 3, 40, 60]: grows to the right, and from frame to frame no change."""
    row = torch.linspace(40, 200, 60).to(torch.uint8)
    return row.expand(frames, 3, 40, 60).contiguous()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_each_operation_keeps_kind_and_treats_frames_alike(name: str, sign: float) -> None:
    clip = ramp()
    before = clip.clone()
    changed = apply(name, clip, share=0.7, sign=sign, fill=FILL)
    assert (changed.dtype, changed.shape) == (torch.uint8, clip.shape)
    assert torch.equal(changed[0], changed[1])
    assert torch.equal(clip, before)


GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
STRENGTHLESS = ("autocontrast", "equalize", "invert")


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in (*STRENGTHLESS, "posterize")])
def test_no_strength_is_no_change_and_more_is_more(name: str) -> None:
    clip = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 40, 60), dtype=np.uint8))
    shifts = [
        (apply(name, clip, share=share, sign=-1.0, fill=FILL).float() - clip.float()).abs().mean()
        for share in (0.0, 0.3, 0.9)
    ]
    assert shifts[0] < 0.5
    assert shifts[2] > shifts[0] + 1
    if name not in GEOMETRIC:  # noise that is moved is as wrong after one pixel as after ten
        assert shifts[2] > shifts[1] > shifts[0]


def test_the_table() -> None:
    clip = ramp(1)
    assert torch.equal(apply("invert", clip, share=0.0, sign=1.0, fill=FILL), 255 - clip)
    assert set((apply("posterize", clip, share=0.5, sign=1.0, fill=FILL) % 64).unique().tolist()) == {
        0
    }  # two bits kept
    solarized = apply("solarize", clip, share=0.5, sign=1.0, fill=FILL)
    assert torch.equal(solarized, torch.where(clip >= 128, 255 - clip, clip))
    added = apply("solarize_add", clip, share=1.0, sign=1.0, fill=FILL)
    assert torch.equal(added, torch.where(clip < 128, clip + 110, clip))
    moved = apply("translate_x", clip, share=1.0, sign=1.0, fill=FILL)
    assert torch.equal(moved[..., 27:], clip[..., :33])  # 0.45 of 60 to the right
    assert moved[0, :, 0, 0].tolist() == list(FILL)
    brighter = apply("brightness", clip, share=0.5, sign=1.0, fill=FILL)
    torch.testing.assert_close(brighter.float(), (clip * 1.45).clamp(max=255).floor(), atol=1, rtol=0)


def test_rotation_goes_both_ways_by_at_most_30_degrees() -> None:
    column = torch.zeros(1, 3, 61, 61, dtype=torch.uint8)
    column[..., 30] = 255
    tilted = [apply("rotate", column, share=1.0, sign=sign, fill=(0, 0, 0))[0, 0, 10].argmax() - 30 for sign in (1, -1)]
    assert tilted[0] == -tilted[1]
    assert abs(int(tilted[0])) == round(20 * np.tan(np.radians(30)))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nothing_mirrors(name: str, sign: float) -> None:
    clip = torch.full((1, 3, 60, 60), 40, dtype=torch.uint8)
    clip[..., 15:45, 20:26] = 220  # an L: its mirror image is another letter
    clip[..., 39:45, 20:40] = 220
    changed = apply(name, clip, share=0.7, sign=sign, fill=(40, 40, 40)).float()
    if name.startswith("translate"):
        changed = changed.roll((round(-sign * 0.7 * 0.45 * 60),), dims=(-1 if name.endswith("x") else -2,))
    order, mirrored = (
        abs(np.corrcoef(changed.flatten(), picture.float().flatten())[0, 1]) for picture in (clip, clip.flip(-1))
    )
    assert order > mirrored + 0.1


def test_half_of_four_draws_are_carried_out() -> None:
    clip = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 24, 24), dtype=np.uint8))
    untouched = sum(
        torch.equal(rand_augment(clip, rng=np.random.default_rng(seed), fill=FILL), clip) for seed in range(160)
    )
    assert 4 < untouched < 26  # about 1 in 16, and the few draws of an operation that changes nothing here


def test_the_generator_alone_decides() -> None:
    clip = ramp()
    state = torch.get_rng_state()
    first = rand_augment(clip, rng=np.random.default_rng(5), fill=FILL)
    assert torch.equal(rand_augment(clip, rng=np.random.default_rng(5), fill=FILL), first)
    assert torch.equal(torch.get_rng_state(), state)

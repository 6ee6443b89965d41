"""Frames to clip tensors: exact values, orientation, seeds, and every picture size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from m2clip.data import randaugment, transforms
from m2clip.data.transforms import PixelStatistics, TrainTransform, shrunk
from m2clip.errors import ConfigError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SIZES = [(1, 1), (1, 40), (40, 1), (7, 5), (48, 64), (64, 48), (32, 32), (31, 33), (240, 427)]


def clip(frames: np.ndarray, **settings: Any) -> torch.Tensor:
    return PixelStatistics(MEAN, STD).normalize(transforms.test_pixels(frames, **{"size": 32, **settings}))


def train(recipe: str, *, flip: bool = False, size: int = 32) -> Callable[..., torch.Tensor]:
    """A training transform as a function: frames [T, H, W, 3] and a seed -> a normalised clip."""
    transform = TrainTransform(size=size, recipe=recipe, flip=flip, mean=MEAN)  # type: ignore[arg-type]

    def make(frames: np.ndarray, *, seed: int) -> torch.Tensor:
        drawn = transform.draw(*frames.shape[1:3], seed=seed)
        cut = np.concatenate([drawn.cut(frames[i : i + 1]) for i in range(len(frames))])
        assert cut.shape == (len(frames), size, size, 3)
        return PixelStatistics(MEAN, STD).normalize(drawn.finish(cut))

    return make


def noise(height: int = 48, width: int = 64, frames: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def pixels(values: torch.Tensor) -> torch.Tensor:
    """Normalised values [..., 3, H, W] back to 0..255."""
    return (values * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


@pytest.mark.parametrize("value", [0, 77, 128, 255])
@pytest.mark.case("E4")
def test_a_grey_frame_becomes_its_normalised_value_exactly(value: int) -> None:
    frames = np.full((2, 48, 64, 3), value, np.uint8)
    expected = (torch.tensor(value) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    for values in (clip(frames)[0], train("kinetics", flip=True)(frames, seed=0)):
        assert values.dtype == torch.float32
        assert torch.equal(values, expected.view(3, 1, 1).expand(2, 3, 32, 32))


def test_the_short_side_is_resized_and_crops_lie_along_the_long_one() -> None:
    frames = noise(64, 128)
    resized = F.resize(
        torch.from_numpy(frames).permute(0, 3, 1, 2), [32, 64], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    views = clip(frames, crops=3)
    assert views.shape == (3, 3, 3, 32, 32)
    assert views.is_contiguous()
    for view, left in zip(views, (0, 16, 32), strict=True):
        torch.testing.assert_close(pixels(view), resized[..., left : left + 32].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(clip(frames)[0], views[1])


def test_shrinking_averages_fine_stripes() -> None:
    stripes = np.zeros((1, 128, 128, 3), np.uint8)
    stripes[:, :, ::2] = 255
    assert pixels(clip(stripes, size=16)).sub(127.5).abs().max() < 8  # without antialiasing: all black or all white


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_picture_size(height: int, width: int) -> None:
    frames = noise(height, width, frames=2)
    assert clip(frames, crops=3).shape == (3, 2, 3, 32, 32)
    for recipe in ("kinetics", "something"):
        for seed in range(4):
            values = train(recipe, flip=True)(frames, seed=seed)
            assert values.shape == (2, 3, 32, 32)
            assert values.isfinite().all()


def test_left_stays_left_and_up_stays_up() -> None:
    frames = np.zeros((2, 60, 60, 3), np.uint8)
    frames[:, :30, :30, 0] = 255  # red top left
    frames[:, 30:, 30:, 2] = 255  # blue bottom right
    for values in (clip(frames)[0], *(train("kinetics")(frames, seed=seed) for seed in range(20))):
        red, _, blue = pixels(values).mean(dim=0)
        assert red[:10, :10].mean() > 200
        assert blue[-10:, -10:].mean() > 200
        assert red[:, -6:].mean() < 40


def _looks_mirrored(values: torch.Tensor) -> bool:
    brightness = pixels(values).mean(dim=(0, 1, 2))
    return bool(brightness[:8].mean() > brightness[-8:].mean())


@pytest.mark.parametrize("recipe", ["kinetics", "something"])
def test_only_flip_mirrors(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It inverts; its own test looks at mirroring.
    monkeypatch.setattr(randaugment, "rand_augment", lambda values, **_: values)
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (1, 64, 64, 3))
    unflipped = [_looks_mirrored(train(recipe)(ramp, seed=seed)) for seed in range(40)]
    flipped = [_looks_mirrored(train(recipe, flip=True)(ramp, seed=seed)) for seed in range(40)]
    assert not any(unflipped)
    assert 10 < sum(flipped) < 30


@pytest.mark.parametrize("recipe", ["kinetics", "something"])
def test_all_frames_are_treated_alike(recipe: str) -> None:
    frames = np.repeat(noise(frames=1), 5, axis=0)
    for seed in range(12):
        values = train(recipe, flip=True)(frames, seed=seed)
        assert torch.equal(values, values[:1].expand(5, -1, -1, -1))


@pytest.mark.parametrize("recipe", ["kinetics", "something"])
def test_the_seed_decides_and_global_random_states_stay(recipe: str) -> None:
    frames = noise()
    transform = train(recipe, flip=True)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = transform(frames, seed=7)
    other = transform(frames, seed=8)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.rand(3)
    assert torch.equal(transform(frames, seed=7), first)
    assert not torch.equal(other, first)


def test_kinetics_crops_from_a_picture_of_1_to_1_15_times_the_size() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 256).astype(np.uint8)[:, None], (1, 256, 256, 3))
    spans, starts = [], []
    for seed in range(80):
        row = pixels(train("kinetics", size=100)(ramp, seed=seed))[0, 0, 50]
        spans.append(float(row[-1] - row[0]) / 255)
        starts.append(float(row[0]))
    assert 1 / 1.16 < min(spans) < 0.9
    assert 0.97 < max(spans) <= 1
    assert min(starts) < 3
    assert max(starts) > 15  # crops reach both ends


def test_something_crops_areas_of_8_to_100_percent() -> None:
    areas, aspects = [], []
    rng = np.random.default_rng(0)
    for _ in range(400):
        top, left, height, width = transforms._random_area(240, 320, rng=rng)
        assert 0 <= top <= 240 - height
        assert 0 <= left <= 320 - width
        areas.append(height * width / (240 * 320))
        aspects.append(width / height)
    assert 0.07 < min(areas) < 0.12
    assert 0.9 < max(areas) <= 1
    assert 0.74 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.35


@pytest.mark.parametrize("frames", [noise().astype(np.float32), noise()[0], noise()[..., :1], noise()[:0]])
def test_frames_of_another_kind(frames: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"frames must be uint8 \[T, H, W, 3\]"):
        clip(frames)


def test_an_unknown_recipe() -> None:
    with pytest.raises(ConfigError, match="recipe must be kinetics or something, not 'ssv2'"):
        train("ssv2")


def test_read_only_and_turned_frames_are_taken() -> None:
    frames = noise()
    turned = frames[:, ::-1, ::-1]
    turned.flags.writeable = False
    assert torch.equal(clip(turned), clip(turned.copy()))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frames_one_by_one_are_the_clip_to_the_last_bit(height: int, width: int) -> None:
    frames = noise(height, width, frames=4)
    one_by_one = np.concatenate([shrunk(frames[i : i + 1], size=32) for i in range(len(frames))])
    assert min(one_by_one.shape[1:3]) == 32
    resized = _plainly_resized(frames, one_by_one.shape[1:3])
    np.testing.assert_array_equal(one_by_one, resized)
    np.testing.assert_array_equal(shrunk(frames, size=32), resized)
    assert torch.equal(clip(one_by_one, crops=3), clip(frames, crops=3))


def test_clips_one_after_another_are_cropped_as_each_alone() -> None:
    frames = noise(48, 80, frames=6)
    together = transforms.test_pixels(frames, size=32, crops=2, clips=3)
    assert together.shape == (6, 2, 3, 32, 32)
    alone = [transforms.test_pixels(frames[first : first + 2], size=32, crops=2) for first in (0, 2, 4)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_training_clip_is_resized_as_a_whole_to_the_last_bit(height: int, width: int) -> None:
    """Against the recipe written down plainly: draw, resize all frames, crop."""
    frames = noise(height, width, frames=4)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        side = round(32 * rng.uniform(1, 1.15))
        short = min(height, width)
        resized = _plainly_resized(frames, (round(side * height / short), round(side * width / short)))
        top, left = (int(rng.integers(0, length - 32 + 1)) for length in resized.shape[1:3])
        cropped = torch.from_numpy(resized[:, top : top + 32, left : left + 32].transpose(0, 3, 1, 2).copy())
        expected = PixelStatistics(MEAN, STD).normalize(cropped)
        assert torch.equal(train("kinetics")(frames, seed=seed), expected)


def _plainly_resized(frames: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A whole clip [T, H, W, 3] at once, with torchvision."""
    resized = F.resize(
        torch.from_numpy(frames).permute(0, 3, 1, 2),
        list(size),
        interpolation=InterpolationMode.BICUBIC,
        antialias=True,
    )
    return resized.permute(0, 2, 3, 1).numpy()


def test_pixels_are_normalised_on_their_device_and_not_changed() -> None:
    statistics = PixelStatistics(MEAN, STD)
    values = torch.from_numpy(noise().transpose(0, 3, 1, 2))
    before = values.clone()
    expected = (values.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(statistics.normalize(values).double(), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(values, before)

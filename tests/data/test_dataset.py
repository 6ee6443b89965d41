"""Clips: the seed, the epoch and the sample decide each number; a file that cannot be read is named."""

import numpy as np
import pytest
import torch

from m2clip.data import clip_reader
from m2clip.data.dataset import BadFile, Batch, Item, VideoDataset
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.transforms import PixelStatistics
from tests.data.small_sets import SETTINGS, five_videos, listed


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return five_videos(tmp_path_factory.mktemp("videos"))


def test_the_seed_and_the_epoch_decide_the_clip_and_nothing_else_does(manifest: Manifest) -> None:
    dataset = VideoDataset(manifest, train=True, **SETTINGS)  # type: ignore[arg-type]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = dataset[0].clip
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(dataset[0].clip, first)
    other = VideoDataset(manifest, train=True, **{**SETTINGS, "seed": 4})  # type: ignore[arg-type]
    assert not torch.equal(other[0].clip, first)


def test_shapes_and_order_of_views(manifest: Manifest) -> None:
    dataset = VideoDataset(manifest, train=False, views_temporal=2, views_spatial=3, **SETTINGS)  # type: ignore[arg-type]
    item = dataset[2]
    assert isinstance(item, Item)
    assert item.clip.shape == dataset.clip_shape == (6, 4, 3, 32, 32)
    assert (item.label, item.index, item.clip.dtype) == (0, 2, torch.float32)
    assert item.pixels.dtype == torch.uint8  # a quarter of what float32 would cost on the way to the model
    # temporal first: views 0..2 are three crops of the same frames, and the video is square, so they are equal
    assert torch.equal(item.clip[0], item.clip[2])
    assert not torch.equal(item.clip[0], item.clip[3])
    train = VideoDataset(manifest, train=True, **SETTINGS)[2]  # type: ignore[arg-type]
    assert train.clip.shape == (1, 4, 3, 32, 32)


def test_a_batch_of_pixels_needs_their_statistics() -> None:
    pixels, labels = torch.zeros(2, 1, 4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="statistics that normalise"):
        Batch(pixels, labels, labels)
    values = torch.randn(2, 1, 4, 3, 8, 8)
    assert Batch(values, labels, labels).clips is values


def test_one_view_of_a_batch_is_that_part_of_its_clips() -> None:
    pixels = torch.randint(256, (2, 3, 4, 3, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([0, 1])
    values = torch.randn(2, 3, 4, 3, 8, 8)
    statistics = PixelStatistics((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    for batch in (Batch(pixels, labels, labels, statistics=statistics), Batch(values, labels, labels)):
        for number in range(3):
            assert torch.equal(batch.view(number, device=torch.device("cpu")), batch.clips[:, number])


def test_views_share_decoding_and_resizing(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 frames seen by 4 views of 6 frames, 3 crops each: every frame is resized once."""
    resized = []
    original = clip_reader.shrunk

    def noting(frames: np.ndarray, *, size: int) -> np.ndarray:
        resized.extend(frame.shape for frame in frames)
        return original(frames, size=size)

    monkeypatch.setattr(clip_reader, "shrunk", noting)
    views = {"views_temporal": 4, "views_spatial": 3}
    dataset = VideoDataset(manifest, train=False, **{**SETTINGS, **views, "frames": 6})  # type: ignore[arg-type]
    pixels = dataset[0].pixels
    assert pixels.shape == (12, 6, 3, 32, 32)
    assert resized == [(48, 48, 3)] * len(resized)
    assert len(resized) <= 12


def test_segments_of_a_long_file(manifest: Manifest) -> None:
    path = manifest.samples[0].path  # 12 frames, 12 a second
    whole, start, end, late = (
        Sample(path, 0, begin, stop, "list.csv:2")
        for begin, stop in ((None, None), (0.0, 0.5), (0.5, None), (9.0, 10.0))
    )
    dataset = VideoDataset(listed(whole, start, end, late), train=False, **SETTINGS)  # type: ignore[arg-type]
    everything = VideoDataset(listed(whole), train=False, **{**SETTINGS, "frames": 12})[0]  # type: ignore[arg-type]
    frames = list(everything.clip[0])

    def positions(index: int) -> list[int]:
        return [
            next(i for i, frame in enumerate(frames) if torch.equal(frame, shown)) for shown in dataset[index].clip[0]
        ]

    assert max(positions(1)) < 6 <= min(positions(2))
    bad = dataset[3]
    assert isinstance(bad, BadFile)
    assert "from 9 s to 10 s" in bad.reason

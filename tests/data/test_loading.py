"""Batches: the same numbers whatever the workers, every sample once, bad files named and never replaced."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from m2clip.data.dataset import Batch, DamagedFile, VideoDataset
from m2clip.data.loading import collate, make_loader
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.order import epoch_batches
from m2clip.data.video import Video
from tests.data.small_sets import SETTINGS, five_videos, listed
from tests.small_inputs import moving_square, write_sound, write_video


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return five_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def damaged(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Five good files with an empty, a random, a cut, a silent-film-without-film and an absent one between them."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "random.mp4").write_bytes(np.random.default_rng(0).bytes(9000))
    whole = manifest.samples[0].path.read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    write_sound(folder / "sound.mp4")
    names = ("empty.mp4", "random.mp4", "cut.mp4", "sound.mp4", "absent.mp4")
    bad = [Sample(folder / name, 0, where=f"bad.txt:{i + 1}") for i, name in enumerate(names)]
    return listed(*(sample for pair in zip(manifest.samples, bad, strict=True) for sample in pair))


def epoch_of(dataset: VideoDataset, *, epoch: int = 0, **options: object) -> list[Batch]:
    dataset.set_epoch(epoch)
    return list(make_loader(dataset, **{"batch_size": 2, **options}))  # type: ignore[arg-type]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.clips, b.clips) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.case("D6")
@pytest.mark.parametrize("recipe", ["kinetics", "something"])
def test_the_number_of_workers_changes_no_number(manifest: Manifest, recipe: str) -> None:
    dataset = VideoDataset(manifest, train=True, recipe=recipe, flip=True, **SETTINGS)  # type: ignore[arg-type]
    alone = epoch_of(dataset, epoch=1, shuffle=True)
    assert same(alone, epoch_of(dataset, epoch=1, shuffle=True, workers=2))
    assert not same(alone, epoch_of(dataset, epoch=2, shuffle=True))


@pytest.mark.case("T10")
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_that_live_on_see_the_new_epoch(manifest: Manifest, context: str) -> None:
    dataset = VideoDataset(manifest, train=True, **SETTINGS)  # type: ignore[arg-type]
    loader = make_loader(dataset, batch_size=2, workers=2, shuffle=True, context=context)  # type: ignore[arg-type]
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        assert same(list(loader), epoch_of(dataset, epoch=epoch, shuffle=True))


@pytest.mark.case("T10")
def test_spawned_workers_give_the_same(manifest: Manifest) -> None:
    dataset = VideoDataset(manifest, train=False, views_temporal=2, views_spatial=3, **SETTINGS)  # type: ignore[arg-type]
    assert same(epoch_of(dataset), epoch_of(dataset, workers=2, context="spawn"))
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1].clip, dataset[1].clip)


def test_bad_files_are_named_and_not_replaced(damaged: Manifest) -> None:
    dataset = VideoDataset(damaged, train=False, **SETTINGS)  # type: ignore[arg-type]
    for workers in (0, 2):
        batches = epoch_of(dataset, workers=workers)
        assert [i for batch in batches for i in batch.indices.tolist()] == [0, 2, 4, 6, 8]
        bad = [file for batch in batches for file in batch.bad]
        assert [file.index for file in bad] == [1, 3, 5, 7, 9]
        for file in bad:
            sample = damaged.samples[file.index]
            assert (file.path, file.where) == (sample.path, sample.where)
            assert str(sample.path) in file.reason
            assert "\n" not in file.reason


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_told_and_too_much_of_it_is_bad(tmp_path: Path, workers: int) -> None:
    """Of 20 frames, a file that ends after 9/10 of its bytes has lost 4, after 6/10 it has lost 17."""
    whole = write_video(tmp_path / "whole.mkv", moving_square(frames=20))
    content = whole.read_bytes()
    for name, share in (("some", 0.9), ("most", 0.6)):
        (tmp_path / f"{name}.mkv").write_bytes(content[: int(len(content) * share)])
    paths = [tmp_path / f"{name}.mkv" for name in ("whole", "some", "most")]
    samples = listed(*(Sample(path, 0, where=f"list.txt:{i + 1}") for i, path in enumerate(paths)))
    some = DamagedFile(paths[1], "list.txt:2", 0.2, 1)
    most = DamagedFile(paths[2], "list.txt:3", 0.85, 2)
    for most_lost, indices, damaged in (
        (1.0, [0, 1, 2], (some, most)),
        (0.85, [0, 1, 2], (some, most)),
        (0.5, [0, 1], (some,)),
    ):
        dataset = VideoDataset(samples, train=True, most_lost=most_lost, **SETTINGS)  # type: ignore[arg-type]
        (batch,) = epoch_of(dataset, workers=workers, batch_size=3)
        assert (batch.indices.tolist(), batch.damaged) == (indices, damaged)
    (bad,) = batch.bad
    assert bad.reason == (
        f"{paths[2]} has lost 17 of its 20 frames to damage, a share of 0.85, and most_lost allows 0.5"
    )


def test_a_video_that_needs_more_memory_than_there_is_is_bad(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = Video.frames

    def large(video: Video, *arguments: object, **options: object) -> np.ndarray:
        if video.name == str(manifest.samples[3].path):
            return np.empty(2**62, np.uint8)  # the same MemoryError as a real one
        return frames(video, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Video, "frames", large)
    batches = epoch_of(VideoDataset(manifest, train=True, **SETTINGS))  # type: ignore[arg-type]
    assert [i for batch in batches for i in batch.indices.tolist()] == [0, 1, 2, 4]
    (bad,) = [file for batch in batches for file in batch.bad]
    assert bad.reason == f"{manifest.samples[3].path} cannot be read: its frames need more memory than there is"


def test_a_batch_may_be_all_bad(damaged: Manifest) -> None:
    dataset = VideoDataset(damaged, train=True, **SETTINGS)  # type: ignore[arg-type]
    batch = collate([dataset[1]], clip_shape=dataset.clip_shape, statistics=dataset.statistics)
    assert batch.clips.shape == (0, 1, 4, 3, 32, 32)
    assert (len(batch.labels), len(batch.bad)) == (0, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_meets_every_sample_exactly_once(manifest: Manifest, world_size: int) -> None:
    dataset = VideoDataset(manifest, train=False, **SETTINGS)  # type: ignore[arg-type]
    met = [
        index
        for rank in range(world_size)
        for batch in epoch_of(dataset, rank=rank, world_size=world_size)
        for index in batch.indices.tolist()
    ]
    assert sorted(met) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_has_equally_many_steps_everywhere_and_misses_nothing(manifest: Manifest, world_size: int) -> None:
    dataset = VideoDataset(manifest, train=True, **SETTINGS)  # type: ignore[arg-type]
    loaders = [
        make_loader(dataset, batch_size=3, parts=2, shuffle=True, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert {len(loader) for loader in loaders} == {4}  # two steps of two parts
    shares = [[batch.indices.tolist() for batch in loader] for loader in loaders]
    assert all(len(share) == 4 for share in shares)
    assert sorted(index for share in shares for batch in share for index in batch) == [0, 1, 2, 3, 4]
    # the union of the shares is the same batch for any number of processes
    alone = [part.tolist() for part in epoch_batches(5, batch_size=3, parts=2, seed=3, epoch=0)]
    for part, together in zip(alone, zip(*shares, strict=True), strict=True):
        assert sorted(part) == sorted(index for share in together for index in share)

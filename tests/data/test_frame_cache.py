"""Cached frames give the very clips that videos give, and nothing that befalls the cache stops a run."""

import logging
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from m2clip.data import frame_cache
from m2clip.data.dataset import BadFile, Item, VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.loading import make_loader
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.parts import Part
from m2clip.data.transforms import shrunk
from m2clip.data.video import Video
from m2clip.errors import ConfigError
from tests.small_inputs import moving_square, write_video

SETTINGS = {"frames": 4, "size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "seed": 3}
GIB = 2**30
PART = Part(0, np.arange(40) / 12, 40 / 12)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    paths = [write_video(tmp_path / f"{i}.mp4", moving_square(frames=40, shift=i)) for i in range(3)]
    return [
        *(Sample(path, 0, where=f"list.txt:{i + 1}") for i, path in enumerate(paths)),
        Sample(paths[0], 0, 0.5, 1.5, "list.txt:4"),  # a part of the first video
    ]


def dataset(samples: list[Sample], cache: FrameCache | None = None, **settings: Any) -> VideoDataset:
    manifest = Manifest(tuple(samples), ("one",), (), "list.txt", "0" * 64)
    return VideoDataset(manifest, cache=cache, **{"train": True, **SETTINGS, **settings})


def clips(data: VideoDataset) -> list[torch.Tensor]:
    found = []
    for index in range(len(data)):
        item = data[index]
        assert isinstance(item, Item)
        found.append(item.pixels)
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def fail(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("the video was opened")


@pytest.mark.parametrize(
    "settings",
    [
        {"recipe": "kinetics", "flip": True},
        {"recipe": "something", "stride_frames": 3},
        {"fps": 5.0},
        {"train": False, "views_temporal": 3, "views_spatial": 2},
        {"train": False, "views_temporal": 2, "clip_seconds": 0.7},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_clips_are_the_same_to_the_last_bit(
    tmp_path: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    plain, cached = (
        dataset(samples, cache, **settings) for cache in (None, FrameCache(tmp_path / "cache", most_bytes=GIB))
    )
    assert same(clips(plain), clips(cached))  # written
    assert len(list((tmp_path / "cache").iterdir())) == 4
    plain.set_epoch(1)
    cached.set_epoch(1)
    expected = clips(plain)
    monkeypatch.setattr("m2clip.data.sources.FileFrames", fail)
    assert same(expected, clips(cached))  # read, and no video opened


def test_only_the_frames_of_a_clip_are_read(tmp_path: Path, samples: list[Sample]) -> None:
    cache = FrameCache(tmp_path / "cache", most_bytes=GIB)
    clips(dataset(samples, cache))
    kept = cache.frames(samples[0])
    assert kept is not None
    frames = kept.pixels
    assert isinstance(frames, np.memmap)
    assert frames.shape == (40, 48, 48, 3)
    with Video(samples[0].path) as video:
        np.testing.assert_array_equal(frames, video.frames(range(40)))
    part = cache.frames(samples[3])
    assert part is not None
    np.testing.assert_array_equal(part.pixels, frames[6:18])
    assert (kept.part.first, kept.part.stop, kept.part.end_seconds) == (0, 40, pytest.approx(40 / 12))
    assert (part.part.first, part.part.stop, part.part.end_seconds) == (0, 12, 1.5)  # its times are those in the video
    np.testing.assert_allclose(part.part.pts_seconds, np.arange(6, 18) / 12)


def test_larger_frames_are_shrunk_where_that_is_wished(tmp_path: Path, samples: list[Sample]) -> None:
    cache = FrameCache(tmp_path / "cache", most_bytes=GIB, short_side=40)
    clips(dataset(samples, cache))
    kept = cache.frames(samples[1])
    assert kept is not None
    with Video(samples[1].path) as video:
        expected = shrunk(video.frames(range(40)), size=40)
    np.testing.assert_array_equal(kept.pixels, expected)
    assert FrameCache(tmp_path / "cache", most_bytes=GIB).frames(samples[1]) is None  # other settings, other files
    roomy = FrameCache(tmp_path / "cache", most_bytes=GIB, short_side=48)
    assert same(clips(dataset(samples, roomy)), clips(dataset(samples)))  # nothing is larger: nothing changes


def test_a_changed_video_is_decoded_anew(tmp_path: Path, samples: list[Sample]) -> None:
    cache = FrameCache(tmp_path / "cache", most_bytes=GIB)
    before = clips(dataset(samples, cache))
    write_video(samples[1].path, moving_square(frames=40, shift=7))
    os.utime(samples[1].path, (10**9, 10**9))
    after = clips(dataset(samples, cache))
    assert same(after, clips(dataset(samples)))
    assert not torch.equal(before[1], after[1])


def test_a_folder_whose_images_are_written_anew_is_decoded_anew(tmp_path: Path) -> None:
    """Extracting frames again into the same folder leaves its names, and so its own time, as they were."""
    folder = tmp_path / "frames"
    folder.mkdir()

    def extract(shift: int) -> list[torch.Tensor]:
        for i, picture in enumerate(moving_square(frames=8, shift=shift)):
            Image.fromarray(picture).save(folder / f"{i}.bmp")
            os.utime(folder / f"{i}.bmp", (shift, shift))  # however coarse the clock is
        return clips(dataset([Sample(folder, 0)], cache))

    cache = FrameCache(tmp_path / "cache", most_bytes=GIB)
    first = extract(0)
    assert same(first, clips(dataset([Sample(folder, 0)], cache)))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    second = extract(1)
    assert not same(first, second)
    assert same(second, clips(dataset([Sample(folder, 0)])))


@pytest.mark.parametrize("content", [b"", b"nonsense", None, b"cut", b"longer"])
def test_a_broken_file_is_made_anew(
    tmp_path: Path, samples: list[Sample], caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    cache = FrameCache(tmp_path / "cache", most_bytes=GIB)
    expected = clips(dataset(samples, cache))
    for path in (tmp_path / "cache").iterdir():
        if content is None:
            np.save(path, np.zeros((3, 4)))
        elif content == b"cut":
            path.write_bytes(path.read_bytes()[:-1])
        elif content == b"longer":
            path.write_bytes(path.read_bytes() + b"\0")
        else:
            path.write_bytes(content)
    assert same(clips(dataset(samples, cache)), expected)
    assert cache.frames(samples[0]) is not None
    assert len(caplog.records) == 1
    assert "cannot be used" in caplog.text


def test_a_full_cache_takes_no_more(tmp_path: Path, samples: list[Sample], caplog: pytest.LogCaptureFixture) -> None:
    one = 40 * 48 * 48 * 3
    cache = FrameCache(tmp_path / "cache", most_bytes=2 * one + 1000)
    assert same(clips(dataset(samples, cache)), clips(dataset(samples)))
    assert [cache.frames(sample) is not None for sample in samples] == [True, True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'cache'}: the cache holds what data.cache_gib allows; other videos are decoded each time"
    ]
    again = FrameCache(tmp_path / "cache", most_bytes=2 * one + 1000)  # counts what it finds
    assert again.keep(samples[2], PART) is None


def test_a_full_disk_is_told_once(
    tmp_path: Path, samples: list[Sample], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    cache = FrameCache(tmp_path / "cache", most_bytes=GIB)
    assert same(clips(dataset(samples, cache)), clips(dataset(samples)))
    assert list((tmp_path / "cache").iterdir()) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left on device" in caplog.text


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"data\.cache: .*file cannot be made"):
        FrameCache(tmp_path / "file", most_bytes=GIB)


def test_bad_videos_stay_bad(tmp_path: Path, samples: list[Sample]) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nonsense")
    bad = [Sample(tmp_path / name, 0, where="list.txt:9") for name in ("bad.mp4", "absent.mp4")]
    data = dataset([*bad, samples[0]], FrameCache(tmp_path / "cache", most_bytes=GIB))
    assert [type(data[index]) for index in range(3)] == [BadFile, BadFile, Item]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_share_the_cache(tmp_path: Path, samples: list[Sample], context: str) -> None:
    cache = FrameCache(tmp_path / "cache", most_bytes=GIB)
    loader = make_loader(dataset(samples, cache), batch_size=1, workers=2, context=context)  # type: ignore[arg-type]
    for _ in range(2):
        assert same([batch.pixels[0] for batch in loader], clips(dataset(samples)))
    assert all(cache.frames(sample) is not None for sample in samples)


def _fill(folder: Path, samples: list[Sample], *, dies: bool) -> None:
    if dies:
        frame_cache.os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined, assignment]
    clips(dataset(samples, FrameCache(folder, most_bytes=GIB)))


def test_two_processes_fill_at_once_after_one_was_killed(tmp_path: Path, samples: list[Sample]) -> None:
    context = multiprocessing.get_context("spawn")
    folder = tmp_path / "cache"
    killed, *others = (
        context.Process(target=_fill, args=(folder, samples), kwargs={"dies": dies}) for dies in (True, False, False)
    )
    for processes in ([killed], others):
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    assert [process.exitcode for process in (killed, *others)] == [-signal.SIGKILL, 0, 0]
    assert [path for path in folder.iterdir() if path.suffix == ".draft"] == []  # that of the killed one is swept away
    cache = FrameCache(folder, most_bytes=GIB)
    assert all(cache.frames(sample) is not None for sample in samples)
    assert same(clips(dataset(samples, cache)), clips(dataset(samples)))

"""The video as its users meet it: every source, the facts, the indices."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m2clip.data.video import ARRAY_FPS, Video
from m2clip.errors import VideoError
from tests.odd_videos import encode, pattern, x264


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("video") / "a.mp4", "libx264", pattern(40), options=x264(keyint=12))


def test_facts(path: Path) -> None:
    with Video(path) as video:
        info = video.info
        assert video.name == str(path)
    assert (info.frame_count, info.width, info.height, info.codec) == (40, 64, 48, "h264")
    assert (info.fps, info.duration_seconds) == (pytest.approx(25), pytest.approx(1.6))
    assert (info.rotation_degrees, info.lost_frames) == (0, 0)
    np.testing.assert_allclose(info.pts_seconds, np.arange(40) / 25, atol=1e-4)


def test_path_string_and_bytes_are_one_video(path: Path) -> None:
    data = path.read_bytes()
    videos = [Video(source) for source in (path, str(path), data, bytearray(data), memoryview(data))]
    frames = [video.frames([30, 2]) for video in videos]
    for other in frames[1:]:
        np.testing.assert_array_equal(other, frames[0])
    assert videos[2].name == f"the video of {len(data)} bytes"


def test_frames_are_the_callers_own(path: Path) -> None:
    with Video(path) as video:
        first = video.frames([5])
        first[:] = 0
        assert video.frames([5]).any()
        assert first.flags.c_contiguous


@pytest.mark.parametrize("indices", [[0.5], [[0, 1]], ["a"]])
def test_indices_that_are_no_indices(path: Path, indices: list[object]) -> None:
    with Video(path) as video, pytest.raises(VideoError, match="must be a flat list of whole numbers"):
        video.frames(indices)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 40])
def test_indices_outside_the_video(path: Path, index: int) -> None:
    with Video(path) as video, pytest.raises(VideoError, match=rf"a\.mp4 has no frame {index}: it has 40"):
        video.frames([0, index])


def test_no_index_gives_no_frame(path: Path) -> None:
    with Video(path) as video:
        assert video.frames([]).shape == (0, 48, 64, 3)
    assert Video(pattern(3)).frames([]).shape == (0, 48, 64, 3)


def test_pictures_in_memory() -> None:
    pictures = pattern(5)
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    images = [Image.fromarray(picture) for picture in pictures]
    for source in (pictures, tensor, torch.from_numpy(pictures), images, tuple(images)):
        video = Video(source)
        np.testing.assert_array_equal(video.frames([4, 0, 4]), pictures[[4, 0, 4]])
        info = video.info
        assert (info.frame_count, info.width, info.height, info.codec) == (5, 64, 48, "raw")
        assert (info.fps, info.duration_seconds) == (ARRAY_FPS, 5 / ARRAY_FPS)
    assert video.name == "the array of 5 frames"


@pytest.mark.parametrize(
    "source",
    [
        pattern(1)[0],
        pattern(2).astype(np.float32),
        pattern(2)[..., :1],
        pattern(2)[:0],
        pattern(2).transpose(0, 3, 1, 2),
        torch.zeros(2, 3, 8, 8),
        [],
        ["a.mp4"],
        {"video": 1},
        None,
        7,
    ],
    ids=lambda source: type(source).__name__ + str(list(getattr(source, "shape", ""))),
)
def test_sources_that_are_no_video(source: object) -> None:
    with pytest.raises(VideoError, match=r"pass a path, the bytes of a video file, a uint8 array \[T, H, W, 3\]"):
        Video(source)


def test_images_of_different_sizes() -> None:
    images = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))]
    with pytest.raises(VideoError, match="different sizes"):
        Video(images)


def test_grey_images_become_rgb() -> None:
    assert Video([Image.new("L", (8, 6), 77)]).frames([0]).shape == (1, 6, 8, 3)


@pytest.mark.shared
def test_the_facts_of_a_real_file(shared: Path) -> None:
    with Video(shared / "data/videos/odd/20bn_smth-smth-1.webm") as video:
        info = video.info
    facts = (info.frame_count, info.width, info.height, info.fps, info.codec)
    assert facts == (47, 427, 240, 12.0, "vp9")
    assert json.dumps(facts)  # plain numbers, fit for a report

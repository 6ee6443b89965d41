"""The video as its users meet it: every source, the facts, the indices."""

import json
from pathlib import Path

import numpy as np
import pytest

from m2clip.data.video import Video
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


@pytest.mark.shared
def test_the_facts_of_a_real_file(shared: Path) -> None:
    with Video(shared / "data/videos/odd/20bn_smth-smth-1.webm") as video:
        info = video.info
    facts = (info.frame_count, info.width, info.height, info.fps, info.codec)
    assert facts == (47, 427, 240, 12.0, "vp9")
    assert json.dumps(facts)  # plain numbers, fit for a report


def test_a_closed_video_keeps_its_facts_only(path: Path) -> None:
    for source in (path, pattern(40)):
        video = Video(source)
        video.close()
        video.close()
        assert video.info.frame_count == 40
        with pytest.raises(VideoError, match="was closed, and its frames with it; open it again"):
            video.frames([0])

"""The frames of a file: exact against a full decode, upright, in the right colours, and as many as there are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2clip.data.decode.keyed_pictures import KeyedPictures
from m2clip.data.video import Video
from tests.odd_videos import (
    VP8,
    encode,
    greys,
    packed_avi,
    pattern,
    sequential,
    two_sizes,
    vp8_with_hidden_frames,
    x264,
)

SLOWER = [
    i if i < 30 else 30 + (i - 30) * 5 for i in range(60)
]  # ticks of a video whose second half is five times slower
VP9 = {"g": "16", "deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "0"}
OPEN_GROUPS = x264(open_gop=1, keyint=12, min_keyint=12, bframes=3, scenecut=0)
RECIPES: dict[str, Callable[[Path], Path]] = {
    "h264, B-frames, one long group": lambda p: encode(
        p / "a.mp4", "libx264", pattern(60), options=x264(bframes=8, b_pyramid=2)
    ),
    "h264, open groups, mkv": lambda p: encode(p / "a.mkv", "libx264", pattern(60), options=OPEN_GROUPS),
    "h264, open groups, transport stream": lambda p: encode(p / "a.ts", "libx264", pattern(60), options=OPEN_GROUPS),
    "h264, no key frames but a moving refresh": lambda p: encode(
        p / "a.mp4", "libx264", pattern(60), options=x264(intra_refresh=1, keyint=12, bframes=0)
    ),
    "h264 in avi, B-frames without times": lambda p: encode(
        p / "a.avi", "libx264", pattern(60), options=x264(keyint=16, bframes=3)
    ),
    "h264, raw stream": lambda p: encode(p / "a.h264", "libx264", pattern(60), options=x264(keyint=16, bframes=3)),
    "h264, fragments": lambda p: encode(
        p / "a.mp4", "libx264", pattern(60), options=x264(keyint=16), muxing={"movflags": "frag_keyframe+empty_moov"}
    ),
    "h264, variable rate": lambda p: encode(p / "a.mp4", "libx264", pattern(60), ticks=SLOWER, options=x264(keyint=16)),
    "h264, beginning hidden by an edit list": lambda p: encode(
        p / "a.mp4",
        "libx264",
        pattern(60),
        ticks=range(-7, 53),
        options=x264(keyint=12, bframes=2),
        muxing={"avoid_negative_ts": "disabled"},
    ),
    "h264, one pixel": lambda p: encode(p / "a.mp4", "libx264", pattern(5, height=1, width=1), pix_fmt="yuv444p"),
    "h265, open groups": lambda p: encode(
        p / "a.mp4",
        "libx265",
        pattern(40),
        options={"x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=4:scenecut=0:pools=1:log-level=none"},
    ),
    "vp8": lambda p: encode(p / "a.webm", "libvpx", pattern(60), options=VP8),
    "vp8, hidden frames": lambda p: vp8_with_hidden_frames(p, 50),
    "vp9": lambda p: encode(p / "a.webm", "libvpx-vp9", pattern(60), options=VP9),
    "vp9, variable rate": lambda p: encode(p / "a.webm", "libvpx-vp9", pattern(60), ticks=SLOWER, options=VP9),
    "mpeg4 avi": lambda p: encode(p / "a.avi", "mpeg4", pattern(60)),
    "mpeg4 avi, B-frames": lambda p: encode(p / "a.avi", "mpeg4", pattern(60), options={"bf": "2"}),
    "mpeg4 avi, packed B-frames": lambda p: packed_avi(p, 40),
    "mpeg4 avi, variable rate": lambda p: encode(p / "a.avi", "mpeg4", pattern(60), ticks=SLOWER),
    "mpeg2 program stream": lambda p: encode(p / "a.mpg", "mpeg2video", pattern(60), options={"bf": "2"}),
    "gif": lambda p: encode(p / "a.gif", "gif", pattern(12), pix_fmt="rgb8", rate=10),
}


@pytest.fixture(scope="module", params=RECIPES, ids=lambda name: name.replace(" ", "_"))
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A file, and its pictures by a full decode."""
    path = RECIPES[request.param](tmp_path_factory.mktemp("odd"))
    return path, sequential(path)


@pytest.mark.case("D7", "D8", "D11")
def test_every_frame_of_a_file_in_order(known: tuple[Path, list[np.ndarray]]) -> None:
    path, pictures = known
    with Video(path) as video:
        assert video.info.frame_count == len(pictures)
        assert video.info.lost_frames == 0
        np.testing.assert_array_equal(video.frames(range(len(pictures))), np.stack(pictures))


@pytest.mark.parametrize("asked", [(1, 14), (14, 1), (1, 36), (16, 20), (16, 36), (0, 1, 59)])
def test_pictures_whose_packets_have_no_times(tmp_path: Path, asked: tuple[int, ...]) -> None:
    """AVI says of B-frames only when they are decoded: a stretch must not end with the packet that seems to carry a picture."""
    path = RECIPES["h264 in avi, B-frames without times"](tmp_path)
    with Video(path) as video:
        np.testing.assert_array_equal(video.frames(asked), np.stack([sequential(path)[i] for i in asked]))


@pytest.mark.case("D7", "D8")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_frames_in_any_order(known: tuple[Path, list[np.ndarray]], data: st.DataObject) -> None:
    path, pictures = known
    asked = st.lists(st.integers(0, len(pictures) - 1), max_size=6)
    with Video(path) as video:
        for _ in range(2):  # the second call goes on from where the first one left the decoder
            indices = data.draw(asked)
            frames = video.frames(indices)
            assert frames.shape == (len(indices), *pictures[0].shape)
            for frame, i in zip(frames, indices, strict=True):
                np.testing.assert_array_equal(frame, pictures[i])


@pytest.mark.case("D7")
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("webm", "libvpx", VP8),
        ("webm", "libvpx-vp9", VP9),
        ("mp4", "libx264", x264(bframes=3)),
        ("avi", "mpeg4", {"b": "4M", "qmax": "2"}),
        ("mkv", "libx264", x264(keyint=10)),
    ],
)
def test_frame_i_is_the_grey_i(tmp_path: Path, suffix: str, codec: str, options: dict[str, str]) -> None:
    path = encode(tmp_path / f"a.{suffix}", codec, greys(range(0, 240, 4)), options=options)
    asked = [59, 0, 30, 30, 7, 58]
    with Video(path) as video:
        assert [round(frame.mean() / 4) for frame in video.frames(asked)] == asked


def test_only_what_is_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(200), options=x264(keyint=10, bframes=0, scenecut=0))
    decoded = []
    from_key = KeyedPictures._from_key

    def noting(*arguments: Any) -> Iterator[Any]:
        for rank, picture in from_key(*arguments):
            decoded.append(rank)
            yield rank, picture

    monkeypatch.setattr(KeyedPictures, "_from_key", noting)
    with Video(path) as video:
        video.frames([3, 152, 151])
    assert decoded == [0, 1, 2, 3, 150, 151, 152]


def test_every_frame_has_the_first_ones_size(tmp_path: Path) -> None:
    path = two_sizes(tmp_path, 6)
    with Video(path) as video:
        frames = video.frames(range(video.info.frame_count))
    assert frames.shape == (12, 48, 64, 3)


@pytest.mark.case("D8")
def test_times_of_a_variable_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(60), ticks=SLOWER, options=x264(bframes=2))
    with Video(path) as video:
        info = video.info
    np.testing.assert_allclose(info.pts_seconds, np.array(SLOWER) / 25, atol=1e-3)
    assert info.fps == pytest.approx(59 / info.pts_seconds[-1])
    assert info.duration_seconds == pytest.approx(info.pts_seconds[-1] + 0.2, abs=0.17)


@pytest.mark.case("D14")
def test_memory_stays_flat(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(30, height=120, width=160), options=x264(keyint=10))

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    sizes = []
    for _ in range(3):
        for _ in range(25):
            with Video(path) as video:
                video.frames([0, 15, 29])
        sizes.append(resident_mb())
    assert sizes[2] - sizes[1] < 8


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "odd/decord_unordered.mov",
        "odd/decord_rotation_90.mov",
        "odd/decord_corrupted.mp4",
        "odd/torchcodec_av1.mkv",
        "odd/torchcodec_h264_10bits.mp4",
        "odd/torchcodec_h265.mp4",
        "odd/torchcodec_bt709_full_range.mp4",
        "odd/torchcodec_nasa_13013.mp4",
        "odd/20bn_smth-smth-1.webm",
        "odd/moviepy_transparent.webm",
        "odd/imageio_newtonscradle.gif",
        "odd/small_webm_1frame.webm",
        "ucf101_samples/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "ut_interaction/hand_shaking/set1_41_8_0.avi",
        "weizmann/bend/daria_bend.avi",
    ],
)
def test_frames_of_real_files(shared: Path, name: str) -> None:
    path = shared / "data/videos" / name
    pictures = sequential(path)
    last = len(pictures) - 1
    with Video(path) as video:
        for indices in ([last], [0], np.linspace(0, last, 8).astype(int), [last // 2, last // 3, last]):
            for frame, i in zip(video.frames(indices), indices, strict=True):
                np.testing.assert_array_equal(frame, pictures[i])
        assert video.info.lost_frames == (22 if "corrupted" in name else 0)

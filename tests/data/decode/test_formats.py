"""Every way that people's videos are stored: all frames, in order, and the same ones whichever way they are read."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from m2clip.data.video import Video
from tests.odd_videos import VP8, encode, pattern, sequential, x264

H264 = x264(keyint=8, bframes=2)
H265 = {"x265-params": "keyint=8:pools=1:log-level=none"}
GROUPS = {"g": "8", "bf": "2"}


class Stored(NamedTuple):
    name: str
    codec: str
    options: dict[str, str] = {}  # noqa: RUF012
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (64, 48)


FORMATS = [
    Stored("a.m2ts", "libx264", H264),
    Stored("a.mts", "libx264", H264),
    Stored("hevc.ts", "libx265", H265),
    Stored("a.f4v", "libx264", H264),
    Stored("a.ismv", "libx264", H264),
    Stored("h264.flv", "libx264", H264),
    Stored("a.flv", "flv", {"g": "8"}),
    Stored("a.3gp", "h263", {"g": "8"}, size=(176, 144)),
    Stored("a.wmv", "wmv2", {"g": "8"}),
    Stored("v1.wmv", "wmv1", {"g": "8"}),
    Stored("a.asf", "msmpeg4", {"g": "8"}),
    Stored("divx3.avi", "msmpeg4v2", {"g": "8"}),
    Stored("a.rm", "rv20", {"g": "8"}, size=(176, 144)),
    Stored("v1.rm", "rv10", {"g": "8"}, size=(176, 144)),
    Stored("a.vob", "mpeg2video", GROUPS),
    Stored("v1.mpg", "mpeg1video", GROUPS),
    Stored("a.m2v", "mpeg2video", GROUPS),
    Stored("a.m4v", "mpeg4", GROUPS),
    Stored("a.hevc", "libx265", H265),
    Stored("a.ivf", "libvpx", VP8),
    Stored("av1.mp4", "libsvtav1", size=(64, 64)),
    Stored("a.obu", "libsvtav1", size=(64, 64)),
    Stored("a.nut", "libx264", H264),
    Stored("a.mxf", "mpeg2video", GROUPS, size=(176, 144)),
    Stored("a.dv", "dvvideo", size=(720, 576)),
    Stored("mjpeg.avi", "mjpeg", pix_fmt="yuvj420p"),
    Stored("a.mjpeg", "mjpeg", pix_fmt="yuvj420p"),
    Stored("raw.avi", "rawvideo", pix_fmt="bgr24"),
    Stored("a.y4m", "wrapped_avframe"),
    Stored("huffyuv.avi", "huffyuv", pix_fmt="yuv422p"),
    Stored("cinepak.avi", "cinepak", pix_fmt="rgb24"),
    Stored("msvideo1.avi", "msvideo1", pix_fmt="rgb555le"),
    Stored("png.avi", "png", pix_fmt="rgb24"),
    Stored("ffv1.mkv", "ffv1", {"g": "8"}),
    Stored("snow.avi", "snow", {"g": "8"}),
    Stored("h261.avi", "h261", {"g": "8"}, size=(176, 144)),
    Stored("prores.mov", "prores_ks", pix_fmt="yuv422p10le"),
    Stored("qtrle.mov", "qtrle", {"g": "8"}, pix_fmt="rgb24"),
    Stored("svq1.mov", "svq1", {"g": "8"}, pix_fmt="yuv410p"),
    Stored("a.apng", "apng", {"g": "8"}, pix_fmt="rgb24"),
    Stored("a.gif", "gif", pix_fmt="rgb8"),
]


@pytest.mark.case("D7", "D8", "D11")
@pytest.mark.parametrize("stored", FORMATS, ids=lambda stored: stored.name)
def test_all_frames_whichever_way_they_are_read(tmp_path: Path, stored: Stored) -> None:
    width, height = stored.size
    path = encode(
        tmp_path / stored.name,
        stored.codec,
        pattern(20, height=height, width=width),
        options=stored.options,
        pix_fmt=stored.pix_fmt,
    )
    whole = np.stack(sequential(path))
    assert len(whole) == 20
    with Video(path) as video:
        info = video.info
        assert (info.frame_count, info.lost_frames, info.width, info.height) == (20, 0, width, height)
        np.testing.assert_allclose(info.pts_seconds, np.arange(20) / 25, atol=2e-3)
        assert info.duration_seconds == pytest.approx(0.8, abs=2e-3)
        np.testing.assert_array_equal(video.frames([19, 3, 12]), whole[[19, 3, 12]])
        np.testing.assert_array_equal(video.frames([9]), whole[[9]])
        np.testing.assert_array_equal(video.frames(range(20)), whole)


@pytest.mark.case("D11")
@pytest.mark.parametrize("suffix", ["ts", "mkv", "webm", "mp4"])
def test_a_container_that_stores_no_count(tmp_path: Path, suffix: str) -> None:
    codec, options = ("libvpx-vp9", {"g": "8"}) if suffix == "webm" else ("libx264", H264)
    muxing = {"movflags": "frag_keyframe+empty_moov"} if suffix == "mp4" else {}
    path = encode(tmp_path / f"a.{suffix}", codec, pattern(20), options=options, muxing=muxing)
    with Video(path) as video:
        assert video._frames._file.stream.frames == 0  # type: ignore[union-attr]
        assert (video.info.frame_count, video.info.fps) == (20, pytest.approx(25))
        assert video.info.duration_seconds == pytest.approx(0.8, abs=2e-3)


@pytest.mark.case("D15")
@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17])
def test_short_videos(tmp_path: Path, count: int, suffix: str) -> None:
    codec = {"mp4": "libx264", "webm": "libvpx", "avi": "mpeg4"}[suffix]
    path = encode(tmp_path / f"a.{suffix}", codec, pattern(count))
    whole = np.stack(sequential(path))
    with Video(path) as video:
        assert (video.info.frame_count, len(video.info.pts_seconds)) == (count, count)
        assert video.info.duration_seconds == pytest.approx(count / 25, abs=2e-3)
        np.testing.assert_array_equal(video.frames([count - 1, 0]), whole[[count - 1, 0]])

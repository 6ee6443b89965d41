"""Damage: what is whole is used, what is built on broken data is not, decoding goes on at the next key frame, and losses are counted."""

from pathlib import Path

import numpy as np
import pytest

from m2clip.data.decode.keyed_pictures import KeyedPictures
from m2clip.data.video import Video
from tests.odd_videos import VP8, break_packet, encode, packets_of, pattern, remux, sequential, x264

BY_20 = {
    "mp4": ("libx264", x264(keyint=20, bframes=0, scenecut=0), {"movflags": "faststart"}),
    "mkv": ("libx264", x264(keyint=20, bframes=0, scenecut=0), {}),
    "ts": ("libx264", x264(keyint=20, bframes=0, scenecut=0), {}),
    "webm": ("libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"}, {}),
    "avi": ("mpeg4", {"g": "20", "bf": "0", "sc_threshold": "1000000000"}, {}),
}  # a key frame every 20 frames, and each frame shown in the order it is stored


def of_groups(folder: Path, suffix: str, count: int = 100) -> Path:
    codec, options, muxing = BY_20[suffix]
    return encode(folder / f"a.{suffix}", codec, pattern(count), options=options, muxing=muxing)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi"])
def test_decoding_goes_on_at_the_next_key_frame(tmp_path: Path, suffix: str) -> None:
    path = of_groups(tmp_path, suffix)
    whole = sequential(path)
    break_packet(path, 45, lambda payload: b"\xff" * len(payload))
    kept = [*range(45), *range(60, 100)]
    with Video(path) as video:
        video.frames(range(video.info.frame_count))  # damage that the packets do not show is met here
        info = video.info
        assert (info.frame_count, info.lost_frames) == (85, 15)
        np.testing.assert_array_equal(video.frames(range(85)), np.stack([whole[i] for i in kept]))
        np.testing.assert_array_equal(video.frames([84, 50, 3]), np.stack([whole[99], whole[65], whole[3]]))
        np.testing.assert_allclose(info.pts_seconds, np.array(kept) / 25, atol=1e-3)  # where they were
        assert info.fps == pytest.approx(25)
        assert info.duration_seconds == pytest.approx(4, abs=2e-3)


def test_a_broken_first_frame_costs_its_group(tmp_path: Path) -> None:
    path = of_groups(tmp_path, "mp4")
    whole = sequential(path)
    break_packet(path, 0, lambda payload: b"\xff" * len(payload))
    with Video(path) as video:
        assert (video.info.frame_count, video.info.lost_frames) == (80, 20)
        np.testing.assert_array_equal(video.frames([0])[0], whole[20])


def test_leading_frames_of_a_broken_group_are_not_used(tmp_path: Path) -> None:
    options = x264(open_gop=1, keyint=20, min_keyint=20, bframes=3, scenecut=0, b_adapt=0)
    path = encode(tmp_path / "a.mkv", "libx264", pattern(80), options=options)
    whole = sequential(path)
    break_packet(path, 30, lambda payload: b"\xff" * len(payload))
    with Video(path) as video:
        times = np.round(video.info.pts_seconds * 25).astype(int).tolist()
        # The broken picture is 30, which needs 28 and 32: the decoder still holds those back. 37 to 39 are stored behind the
        # key frame 40 and need 36, too.
        assert times == [*range(28), *range(40, 80)]
        np.testing.assert_array_equal(video.frames(range(len(times))), np.stack([whole[time] for time in times]))


def test_damage_that_only_decoding_shows(tmp_path: Path) -> None:
    path = of_groups(tmp_path, "avi")
    whole = sequential(path)
    break_packet(path, 35, lambda payload: b"\x00\x00\x01\x20" + bytes(len(payload) - 4))  # a broken stream header
    with Video(path) as video:
        assert video.info.frame_count == 100
        np.testing.assert_array_equal(video.frames([70])[0], whole[70])  # nothing broken was met yet
        frames = video.frames([99, 3, 34, 35])
        info = video.info
        assert (info.frame_count, info.lost_frames, len(info.pts_seconds)) == (95, 5, 95)
        np.testing.assert_array_equal(frames, np.stack([whole[i] for i in (99, 3, 34, 40)]))  # past the end: the last
        np.testing.assert_array_equal(video.frames([70])[0], whole[75])


@pytest.mark.case("D2")
@pytest.mark.parametrize("in_a_packet", [True, False])
@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "webm"])
def test_a_download_that_broke_off(tmp_path: Path, suffix: str, in_a_packet: bool) -> None:
    path = of_groups(tmp_path, suffix)
    whole = sequential(path)
    data = path.read_bytes()
    payload = packets_of(path)[70]
    path.write_bytes(data[: data.index(payload) + in_a_packet * len(payload) // 2])
    with Video(path) as video:
        assert (video.info.frame_count, video.info.lost_frames, video.info.lost_share) == (70, 30, 0.3)
        assert isinstance(video._frames._pictures, KeyedPictures)  # type: ignore[union-attr]  # not all is decoded to know it
        np.testing.assert_array_equal(video.frames([69, 10]), np.stack([whole[69], whole[10]]))


def test_a_transport_stream_that_broke_off_promises_nothing(tmp_path: Path) -> None:
    path = of_groups(tmp_path, "ts")
    whole = sequential(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with Video(path) as video:
        count = video.info.frame_count
        assert 40 < count < 80
        assert video.info.lost_frames == 0
        np.testing.assert_array_equal(video.frames([count - 1])[0], whole[count - 1])


def test_a_hole_in_a_transport_stream_is_counted_by_its_times(tmp_path: Path) -> None:
    path = of_groups(tmp_path, "ts")
    whole = sequential(path)
    data = path.read_bytes()
    start, end = (data.index(packets_of(path)[i][20:40]) // 188 * 188 for i in (41, 55))
    path.write_bytes(data[:start] + data[end:])
    with Video(path) as video:
        info = video.info
        times = np.round(info.pts_seconds * 25).astype(int).tolist()
        # The packet before the hole is marked, or the one before that: so 40 is not trusted, although it is whole.
        assert times == [*range(39), *range(60, 100)]
        assert info.lost_frames == 21
        np.testing.assert_array_equal(video.frames(range(len(times))), np.stack([whole[time] for time in times]))


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("avi", "mpeg4"),
        ("flv", "flv"),
        ("mkv", "libx264"),
        ("webm", "libvpx"),
        ("webm", "libvpx-vp9"),
        ("mkv", "mpeg2video"),
    ],
)
def test_a_file_whose_beginning_is_missing(tmp_path: Path, suffix: str, codec: str) -> None:
    """What is before the first key frame is built on pictures that are not there."""
    options = {"g": "20", "bf": "0"} if codec in ("mpeg4", "flv", "mpeg2video") else {**VP8, "g": "20"}
    options = x264(keyint=20, bframes=0, scenecut=0) if codec == "libx264" else options
    path = encode(tmp_path / f"whole.{suffix}", codec, pattern(60), options=options)
    whole = sequential(path)
    cut = remux(path, tmp_path / f"cut.{suffix}", packets_of(path)[5:], keys=(15, 35))
    with Video(cut) as video:
        assert (video.info.frame_count, video.info.lost_frames) == (40, 15)
        np.testing.assert_array_equal(video.frames(range(40)), np.stack(whole[20:]))


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_hole_that_the_reader_cannot_pass_is_seen_by_the_declared_end(tmp_path: Path, suffix: str) -> None:
    path = of_groups(tmp_path, suffix)
    whole = sequential(path)
    data = path.read_bytes()
    at = data.index(packets_of(path)[60]) - 6  # in the header of its block
    path.write_bytes(data[:at] + bytes(50_000) + data[at:])
    with Video(path) as video:
        info = video.info
        assert (info.frame_count, info.lost_frames) == (60, 40)
        np.testing.assert_array_equal(video.frames([59, 0]), np.stack([whole[59], whole[0]]))

"""When frames are shown: times that repeat, run backwards, jump, wrap or are missing, and what is then said of rate and duration."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from m2clip.data.video import Video, VideoInfo
from tests.odd_videos import VP8, encode, packets_of, pattern, sequential, x264

EVERY_25TH = np.arange(20) / 25


def with_times(source: Path, target: Path, pts: Sequence[int | None], *, dts: Sequence[int] | None = None) -> Path:
    """The packets of a video at other times, in its packets' order and in 1/25 s."""
    with av.open(str(source)) as model, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(model.streams.video[0])
        packets = [packet for packet in model.demux(video=0) if packet.size]
        for i, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, 1 / model.streams.video[0].average_rate
            packet.pts, packet.dts, packet.duration = pts[i], i if dts is None else dts[i], 1
            container.mux(packet)
    return target


def read(path: Path) -> VideoInfo:
    """The facts, after the frames were found to be those of a decoding from start to end, whichever way they are read."""
    whole = np.stack(sequential(path))
    with Video(path) as video:
        assert video.info.frame_count == len(whole)
        indices = [len(whole) - 1, 0, len(whole) // 2, len(whole) // 3]
        np.testing.assert_array_equal(video.frames(indices), whole[indices])
        np.testing.assert_array_equal(video.frames(range(len(whole))), whole)
        info = video.info
    assert info.lost_frames == 0
    assert info.pts_seconds[0] == 0
    assert not (np.diff(info.pts_seconds) < 0).any()
    return info


@pytest.mark.case("D8")
def test_two_frames_at_one_time(tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mkv", "libvpx", pattern(20), options=VP8)
    times = [i - (i % 5 == 3) for i in range(20)]  # 0 1 2 2 4 5 6 7 7 9 ...
    info = read(with_times(plain, tmp_path / "a.mkv", times, dts=[time - 30 + i for i, time in enumerate(range(20))]))
    np.testing.assert_allclose(info.pts_seconds, np.array(times) / 25, atol=1e-3)


@pytest.mark.case("D8")
@pytest.mark.parametrize("rate", [25, 50])
def test_recordings_that_were_put_one_behind_another(tmp_path: Path, rate: int) -> None:
    """As recorders and `cat` leave program streams: the clock begins anew with each; a player goes on at the rate."""
    one = encode(tmp_path / "one.mpg", "mpeg2video", pattern(30), options={"g": "10", "bf": "2"}, rate=rate)
    other = encode(tmp_path / "other.mpg", "mpeg2video", pattern(20), options={"g": "10"}, rate=rate)
    both = tmp_path / "both.mpg"
    both.write_bytes(one.read_bytes() + other.read_bytes() + one.read_bytes())
    info = read(both)
    gaps = np.diff(info.pts_seconds) * rate
    np.testing.assert_allclose(np.delete(gaps, [28, 29, 48, 49]), 1, atol=0.01)
    assert gaps.min() > 0.99
    assert gaps.max() < 3.01  # at a joint FFmpeg may guess the time of the last picture
    assert info.fps == pytest.approx(rate, rel=0.03)
    assert 80 / rate - 1e-3 < info.duration_seconds < 84 / rate


@pytest.mark.case("D8")
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_times_that_run_backwards(tmp_path: Path, suffix: str) -> None:
    """In VP8 no picture is held back, so frames come in the order they are stored, whatever their times say."""
    codec, options = ("libvpx", VP8) if suffix == "mkv" else ("mpeg4", {"bf": "0", "g": "8"})
    plain = encode(tmp_path / f"plain.{suffix}", codec, pattern(20), options=options)
    times = [i + (2, 0, 1, -3)[i % 4] for i in range(20)]
    info = read(with_times(plain, tmp_path / f"a.{suffix}", times, dts=[i - 4 for i in range(20)]))
    np.testing.assert_allclose(info.pts_seconds, EVERY_25TH, atol=2e-3)  # the times tell nothing: the rate does
    assert info.fps == pytest.approx(25)


@pytest.mark.case("D8", "D11")
def test_two_recordings_one_after_the_other(tmp_path: Path) -> None:
    """Two transport streams in one file: the second begins at the time at which the first does."""
    part = encode(tmp_path / "part.ts", "libx264", pattern(20), options=x264(keyint=8, bframes=2)).read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(part + part)
    with Video(path) as video:
        info = video.info
        assert info.frame_count + info.lost_frames == 40
        assert info.lost_frames <= 3  # between the two, the counter of packets jumps
        whole = sequential(tmp_path / "part.ts")
        np.testing.assert_array_equal(video.frames([0, 12]), np.stack([whole[0], whole[12]]))
        np.testing.assert_array_equal(video.frames([info.frame_count - 1])[0], whole[19])
        assert not (np.diff(info.pts_seconds) < 0).any()


@pytest.mark.case("D8")
def test_the_clock_of_a_transport_stream_wraps(tmp_path: Path) -> None:
    """It has 33 bits, at 90,000 a second: after 26.5 hours it begins anew."""
    first = 2**33 * 25 // 90_000 - 8
    path = encode(tmp_path / "a.ts", "libx264", pattern(20), ticks=range(first, first + 20), options=x264(keyint=8))
    np.testing.assert_allclose(read(path).pts_seconds, EVERY_25TH, atol=1e-3)


@pytest.mark.parametrize("first", [1, 1000, 10**6])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_video_that_begins_late_begins_at_zero(tmp_path: Path, suffix: str, first: int) -> None:
    ticks = range(first, first + 20)
    path = encode(tmp_path / f"a.{suffix}", "libx264", pattern(20), ticks=ticks, options=x264(keyint=8))
    info = read(path)
    np.testing.assert_allclose(info.pts_seconds, EVERY_25TH, atol=1e-3)
    assert (info.fps, info.duration_seconds) == (pytest.approx(25), pytest.approx(0.8, abs=2e-3))


@pytest.mark.case("D8")
@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("ts", "libx264")]
)
def test_a_variable_rate_in_every_container(tmp_path: Path, suffix: str, codec: str) -> None:
    ticks = [*range(10), *range(10, 60, 5)]  # the second half is five times slower
    info = read(encode(tmp_path / f"a.{suffix}", codec, pattern(20), ticks=ticks, options={"g": "8"}))
    np.testing.assert_allclose(info.pts_seconds, np.array(ticks) / 25, atol=1e-3)
    assert info.fps == pytest.approx(19 / (55 / 25), rel=1e-3)


@pytest.mark.case("D8")
def test_a_long_pause(tmp_path: Path) -> None:
    ticks = [*range(10), *range(25 * 3600, 25 * 3600 + 10)]
    info = read(encode(tmp_path / "a.mp4", "libx264", pattern(20), ticks=ticks, options=x264(keyint=8)))
    np.testing.assert_allclose(info.pts_seconds, np.array(ticks) / 25, atol=1e-3)


@pytest.mark.case("D8")
def test_what_an_edit_list_hides_is_no_frame(tmp_path: Path) -> None:
    """Frames before the start of the edit are decoded and not shown, as in a player."""
    path = encode(
        tmp_path / "a.mp4",
        "libx264",
        pattern(30),
        ticks=range(-7, 23),
        options=x264(keyint=12, bframes=2),
        muxing={"avoid_negative_ts": "disabled"},
    )
    assert len(packets_of(path)) == 30
    info = read(path)
    assert info.frame_count == 23
    np.testing.assert_allclose(info.pts_seconds, np.arange(23) / 25, atol=1e-3)


@pytest.mark.case("D8", "D11")
def test_a_raw_stream_has_neither_times_nor_duration(tmp_path: Path) -> None:
    info = read(encode(tmp_path / "a.h264", "libx264", pattern(20), options=x264(keyint=8, bframes=3)))
    assert info.frame_count == 20
    np.testing.assert_allclose(np.diff(info.pts_seconds), 1 / info.fps)
    assert info.duration_seconds == pytest.approx(20 / info.fps)


@pytest.mark.case("D11")
@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_a_live_recording_without_duration(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = encode(tmp_path / f"a.{suffix}", codec, pattern(20), options={"g": "8"}, muxing={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    info = read(path)
    assert (info.fps, info.duration_seconds) == (pytest.approx(25, rel=1e-3), pytest.approx(0.8, abs=2e-3))


@pytest.mark.case("D11")
def test_a_header_that_lies_about_the_count(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", "mpeg4", pattern(20), options={"g": "8"})
    data = bytearray(path.read_bytes())
    for name, offset in ((b"avih", 24), (b"strh", 40)):  # frames of the file, frames of the stream
        at = data.index(name) + offset
        assert int.from_bytes(data[at : at + 4], "little") == 20
        data[at : at + 4] = (9000).to_bytes(4, "little")
    path.write_bytes(data)
    info = read(path)
    assert (info.frame_count, info.duration_seconds) == (20, pytest.approx(0.8))


@pytest.mark.parametrize("rate", [1, 1000])
def test_slow_and_fast_rates(tmp_path: Path, rate: int) -> None:
    info = read(encode(tmp_path / "a.mp4", "libx264", pattern(20), rate=rate, options=x264(keyint=8)))
    assert info.fps == pytest.approx(rate)
    np.testing.assert_allclose(info.pts_seconds, np.arange(20) / rate, atol=1e-4)

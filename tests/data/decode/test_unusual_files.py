"""Files that are no plain video file, names that look like something else, files that change, and pictures of absurd size."""

import contextlib
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from m2clip.data.decode.opening import MOST_PIXELS
from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.odd_videos import VP8, encode, packets_of, pattern, sequential, two_sizes, x264
from tests.small_inputs import write_sound


@pytest.mark.case("D1")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/stdin"])
def test_devices_are_not_waited_for(device: str) -> None:
    if not Path(device).exists():
        pytest.skip(f"there is no {device} here")
    with pytest.raises(VideoError, match=rf"cannot read {device}: it is a pipe or a device; give a video file"):
        Video(Path(device))


@pytest.mark.case("D1")
def test_pipes_and_sockets_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket may only be short
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.mp4")
        for name in ("pipe.mp4", "socket.mp4"):
            with pytest.raises(VideoError, match=f"cannot read {name}: it is a pipe or a device"):
                Video(name)


def test_links(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", "libx264", pattern(3))
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    with Video(tmp_path / "link.mp4") as video:
        assert video.info.frame_count == 3
    (tmp_path / "dead.mp4").symlink_to("nothing.mp4")
    (tmp_path / "ring.mp4").symlink_to("ring.mp4")
    for name in ("dead.mp4", "ring.mp4"):
        with pytest.raises(VideoError, match="there is no such file; check the path"):
            Video(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["x" * 250 + ".mp4", "a\tb.mp4", "%s%n%d.mp4", "--help.mp4", "'\"`$(ls).mp4", " .mp4", "视频.mp4"]
)
def test_more_names(tmp_path: Path, name: str) -> None:
    encode(tmp_path / "a.mp4", "libx264", pattern(3)).rename(tmp_path / name)
    with Video(tmp_path / name) as video:
        assert video.info.frame_count == 3


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".mp4", "a\0b.mp4", "/".join(["x" * 200] * 40), "pipe:0", "concat:a.mp4|b.mp4"]
)
def test_names_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / name):
        with pytest.raises(VideoError, match="cannot read "):
            Video(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(3))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # a test may run as a user whom nothing is forbidden
    with pytest.raises(
        VideoError, match=r"cannot read .*a\.mp4: Permission denied; check the file and its permissions"
    ):
        Video(path)


@pytest.mark.case("D12")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "ICO"])
def test_a_still_image_is_no_video(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.mp4"
    Image.fromarray(pattern(1)[0]).save(path, format=kind)
    with pytest.raises(VideoError, match=r"no video stream in .*odd\.mp4: its format is none that holds a video"):
        Video(path)


@pytest.mark.case("D12")
def test_an_animated_webp_is_told_apart_by_its_sentence(tmp_path: Path) -> None:
    images = [Image.fromarray(picture) for picture in pattern(3)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:])
    with pytest.raises(VideoError, match="its format is none that holds a video"):
        Video(tmp_path / "a.webp")


@pytest.mark.case("D12")
def test_a_still_avif_is_no_video_and_an_animated_one_is(tmp_path: Path) -> None:
    """Both hold a still as a stream of its own; the animation is another."""
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    images = [Image.new("RGB", (64, 64), (level,) * 3) for level in (0, 80, 160, 240)]
    images[0].save(tmp_path / "still.avif")
    images[0].save(tmp_path / "animated.avif", save_all=True, append_images=images[1:], duration=40)
    with pytest.raises(VideoError, match=r"no video stream in .*still\.avif: it is a still image; give a file with"):
        Video(tmp_path / "still.avif")
    with Video(tmp_path / "animated.avif") as video:
        np.testing.assert_allclose(video.frames(range(4))[:, 32, 32, 0], [0, 80, 160, 240], atol=3)
        np.testing.assert_allclose(video.info.pts_seconds, [0, 0.04, 0.08, 0.12], atol=1e-6)


TEXTS = {
    "hls playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "concat script": "ffconcat version 1.0\nfile 'secret.ts'\n",
    "dash manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "page of an error": "<!DOCTYPE html><html><body>404 Not found</body></html>",
    "pointer of git lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123\n",
    "subtitles": "1\n00:00:01,000 --> 00:00:02,000\nhello\n",
}


@pytest.mark.case("D1", "D12")
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_that_calls_itself_a_video(tmp_path: Path, kind: str) -> None:
    encode(tmp_path / "secret.ts", "libx264", pattern(5))
    path = tmp_path / "odd.mp4"
    path.write_text(TEXTS[kind])
    with pytest.raises(VideoError, match=r"odd\.mp4: (it is no video file|its format is none that holds a video)"):
        Video(path)


def with_cover(path: Path, source: Path) -> Path:
    """The first stream of a file behind a cover picture, which comes first."""
    Image.fromarray(np.full((40, 40, 3), 255, np.uint8)).save(path.with_suffix(".png"))
    with (
        av.open(str(path), "w") as out,
        av.open(str(source)) as played,
        av.open(str(path.with_suffix(".png"))) as cover,
    ):
        streams = [out.add_stream_from_template(file.streams[0]) for file in (cover, played)]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for file, stream in zip((cover, played), streams, strict=True):
            for packet in file.demux(file.streams[0]):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return path


def test_the_video_beside_a_cover(tmp_path: Path) -> None:
    video_file = encode(tmp_path / "plain.mkv", "libx264", pattern(6), options=x264(keyint=3))
    path = with_cover(tmp_path / "covered.mp4", video_file)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    with Video(path) as video:
        assert (video.info.frame_count, video.info.width, video.info.height) == (6, 64, 48)


def test_the_first_of_two_video_streams(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    large = pattern(6, height=64, width=96)
    with av.open(str(path), "w") as container:
        streams = []
        for height, width in ((48, 64), (64, 96)):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append(stream)
        for i in range(6):
            for stream, pictures in zip(streams, (pattern(6), large), strict=True):
                frame = av.VideoFrame.from_ndarray(pictures[i], format="rgb24")
                frame.pts = i
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    with Video(path) as video:
        assert (video.info.frame_count, video.info.width, video.info.height) == (6, 64, 48)
        np.testing.assert_array_equal(video.frames([5])[0], sequential(path)[5])


@pytest.mark.case("D12")
def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp4").rename(tmp_path / "a.m4a")
    with pytest.raises(VideoError, match=r"no video stream in .*a\.m4a: it holds audio only"):
        Video(path)


@pytest.mark.case("D12")
def test_a_cover_is_named_where_nothing_else_is_seen(tmp_path: Path) -> None:
    """Sound with a cover, as music has it: "audio, video only" would contradict itself."""
    path = with_cover(tmp_path / "song.mp4", write_sound(tmp_path / "sound.mp4"))
    with pytest.raises(VideoError, match=r"no video stream in .*song\.mp4: it holds audio and a cover only; give"):
        Video(path)


@pytest.mark.case("D2")
def test_an_index_that_is_cut_before_its_video_says_so(tmp_path: Path) -> None:
    """The streams of an MP4 are known as far as its index reaches."""
    whole = encode(tmp_path / "whole.mp4", "libx264", pattern(6)).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: whole.index(b"tkhd") + 10])
    with pytest.raises(VideoError, match=r"cut\.mp4: it holds .* only, and the file is cut; fetch or copy it again"):
        Video(path)


@pytest.mark.case("D2")
def test_a_stream_that_ends_before_its_first_packet(tmp_path: Path) -> None:
    """3,000 zeros hide the start of a transport stream from FFmpeg, which then calls that the end of the file."""
    whole = encode(tmp_path / "whole.ts", "libx264", pattern(6)).read_bytes()
    path = tmp_path / "odd.ts"
    path.write_bytes(bytes(3000) + whole)
    with pytest.raises(VideoError, match=r"odd\.ts: it is no video file, or one whose header is missing"):
        Video(path)


def _vanish(path: Path) -> None:
    path.unlink()


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(path.read_bytes())


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _become_another(path: Path) -> None:
    encode(path, {".avi": "mpeg4", ".mp4": "libx264", ".ts": "libx264"}[path.suffix], pattern(9, height=32, width=32))


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("suffix", ["mp4", "ts", "avi"])
@pytest.mark.parametrize("change", [_vanish, _grow, _shrink, _become_another, _become_a_folder])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, suffix: str, change: Callable[[Path], None]) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = encode(tmp_path / f"a.{suffix}", codec, pattern(60), options={"g": "10"})
    with Video(path) as video:
        video.frames([30])
        change(path)
        with contextlib.suppress(VideoError):
            assert video.frames([50, 2, 31]).shape == (3, 48, 64, 3)
            assert len(video.info.pts_seconds) == video.info.frame_count


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", "libx264", pattern(60), options=x264(keyint=10))
    with Video(path) as video:
        path.unlink()
        for _ in range(2):  # a transport stream is read again from its start
            with pytest.raises(VideoError, match=r"cannot read .*a\.ts: No such file or directory; check the file"):
                video.frames([50, 2, 31])


def test_pictures_are_not_larger_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(3))
    monkeypatch.setattr("m2clip.data.decode.opening.MOST_PIXELS", 64 * 48)
    with Video(path) as video:
        assert video.info.width == 64
    monkeypatch.setattr("m2clip.data.decode.opening.MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="its pictures are 64 x 48 pixels, more than 3,071 in all; make them smaller"):
        Video(path)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("suffix", ["gif", "webm", "vp8 inside", "mp4", "avi"])
def test_a_huge_picture_is_refused_before_it_is_made(tmp_path: Path, suffix: str) -> None:
    """Few bytes that claim 16384 x 16384 pixels or so; as RGB they would be 800 MB."""
    side = 16383
    assert side * side > MOST_PIXELS
    if suffix == "gif":
        data = bytearray(encode(tmp_path / "a.gif", "gif", pattern(3), pix_fmt="rgb8").read_bytes())
        data[6:10] = struct.pack("<HH", side, side)
    elif suffix in ("webm", "vp8 inside"):
        path = encode(tmp_path / "a.webm", "libvpx", pattern(3), options=VP8)
        data = bytearray(path.read_bytes())
        at = data.index(packets_of(path)[0]) + 6  # after the frame tag and the start code
        data[at : at + 4] = struct.pack("<HH", side, side)
        if suffix == "webm":
            for name, old in ((b"\xb0", 64), (b"\xba", 48)):  # PixelWidth, PixelHeight, one byte each
                at = data.index(name + b"\x81" + bytes([old]))
                data[at : at + 3] = name + b"\x81" + b"\xff"
    elif suffix == "mp4":
        data = bytearray(encode(tmp_path / "a.mp4", "mpeg4", pattern(3)).read_bytes())
        at = data.index(b"mp4v") + 28
        data[at : at + 4] = struct.pack(">HH", side, side)
    else:
        data = bytearray(encode(tmp_path / "a.avi", "rawvideo", pattern(3), pix_fmt="bgr24").read_bytes())
        at = data.index(b"strf") + 12
        data[at : at + 8] = struct.pack("<ii", side, side)
    before = resident_mib()
    with contextlib.suppress(VideoError), Video(bytes(data)) as video:
        # The stream itself knows better than its container.
        assert (video.info.width, video.info.height) == (64, 48)
    assert resident_mib() - before < 100


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mkv", "mjpeg", "yuvj420p"),
        ("mov", "png", "rgb24"),
        ("apng", "apng", "rgb24"),
    ],
)
def test_a_clip_of_a_second_in_huge_pictures(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    """Real ones, 200 kB or so. FFmpeg holds 16384 x 16384 for an error, and the encoders go up to 16384 x 16383."""
    path = tmp_path / f"a.{suffix}"
    width, height = 16384, 4112
    assert width * height > MOST_PIXELS
    with av.open(str(path), "w") as container:
        fast = {"preset": "ultrafast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=1, options=fast)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        frame = av.VideoFrame(width, height, pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    before = resident_mib()
    for source in (path, path.read_bytes()):
        with pytest.raises(VideoError, match=r"its pictures are 16384 x 4112 pixels, more than 67,108,864 in all"):
            Video(source)
    assert resident_mib() - before < 100


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt"), [("gif", "gif", "rgb8"), ("mkv", "ffv1", "yuv420p")])
def test_huge_pictures_whose_size_ffmpeg_forgets(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 16384, 4112, pix_fmt
        frame = av.VideoFrame(16384, 4112, pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    before = resident_mib()
    with pytest.raises(
        VideoError, match=r"its pictures have no size, or more than 67,108,864 pixels; make them smaller"
    ):
        Video(path)
    assert resident_mib() - before < 100


def test_a_still_that_claims_more_than_any(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mov", "png", pattern(2), pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    for payload in packets_of(path):
        at = data.index(payload) + 16  # after the signature, the length and name of the first chunk
        data[at : at + 8] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
        data[at + 13 : at + 17] = struct.pack(">I", zlib.crc32(data[at - 4 : at + 13]))
    with pytest.raises(VideoError, match="more than 67,108,864"):
        Video(bytes(data))


def test_pictures_that_become_huge_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2clip.data.decode.opening.MOST_PIXELS", 64 * 48)
    path = two_sizes(tmp_path, 6)  # 64x48, then 96x64
    with Video(path) as video:
        video.frames([0, 11])
        assert (video.info.frame_count, video.info.lost_frames, video.info.width) == (6, 6, 64)

"""Whether a file is whole by its own account, and what an index may claim."""

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from m2clip.data.decode.layout import is_cut
from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.odd_videos import encode, packets_of, pattern, x264

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.fixture(scope="module", params=["mp4", "faststart.mp4", "frag.mp4", "mov", "3gp", "avi", "mkv", "webm"])
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    name = request.param
    codec = {"avi": "mpeg4", "webm": "libvpx-vp9", "3gp": "mpeg4"}.get(name, "libx264")
    muxing = {"faststart.mp4": {"movflags": "faststart"}, "frag.mp4": FRAGMENTS}.get(name, {})
    return encode(tmp_path_factory.mktemp("whole") / f"a.{name}", codec, pattern(30), muxing=muxing).read_bytes()


def test_a_whole_file_and_any_cut_of_it(content: bytes) -> None:
    assert not is_cut(io.BytesIO(content), name="a")
    for share in (0.5, 0.9, 0.99):
        assert is_cut(io.BytesIO(content[: int(len(content) * share)]), name="a")


def test_a_file_laid_out_but_not_filled(tmp_path: Path) -> None:
    """As download programs leave it: the right size, zeros at the end."""
    path = encode(tmp_path / "a.mkv", "libx264", pattern(100, height=96, width=128), options=x264(keyint=10, bframes=0))
    data = path.read_bytes()
    at = data.index(packets_of(path)[60])
    path.write_bytes(data[:at] + bytes(len(data) - at))
    with Video(path) as video:
        assert (video.info.frame_count, video.info.lost_frames) == (60, 40)


@pytest.mark.parametrize("content", [b"", b"\0", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x80", b"\0" * 99])
def test_next_to_nothing_is_not_called_cut(content: bytes) -> None:
    assert not is_cut(io.BytesIO(content), name="a")


def test_a_live_recording_gives_no_size(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.webm", "libvpx-vp9", pattern(5), muxing={"live": "1"})
    assert not is_cut(io.BytesIO(path.read_bytes()[:-20]), name="a")


def _with_samples(path: Path, count: int) -> bytes:
    """The same file with an index that claims `count` frames of a byte each, all in one chunk."""
    data = bytearray(path.read_bytes())
    for kind, offset, values in (("stts", 12, (count,)), ("stsz", 8, (1, count)), ("stsc", 16, (count,))):
        at = data.index(kind.encode()) + offset
        data[at : at + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    return bytes(data)


def test_an_index_that_claims_frames_without_listing_them(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(10), options=x264(bframes=0))
    assert not is_cut(io.BytesIO(_with_samples(path, 1_000_000)), name="a")
    with pytest.raises(VideoError, match="its index claims 50,000,000 frames and lists none of them"):
        Video(_with_samples(path, 50_000_000))  # would take 3.5 GB


def test_a_fragment_that_claims_frames_without_listing_them(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(10), options=x264(bframes=0), muxing=FRAGMENTS)
    data = bytearray(path.read_bytes())
    at = data.index(b"trun") + 4
    data[at : at + 8] = struct.pack(">II", 1, 50_000_000)  # with no field of a sample's own
    with pytest.raises(VideoError, match="its index claims 50,000,000 frames"):
        Video(bytes(data))


def test_an_edit_list_that_repeats_everything(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(10), options=x264(bframes=0))
    for edits, refused in ((2, False), (400_001, True)):
        data = bytearray(path.read_bytes())
        start = data.index(b"edts") - 4
        size = int.from_bytes(data[start : start + 4], "big")
        entries = struct.pack(">IIHH", 400, 0, 1, 0) * edits  # the length in ms, the start, the rate
        data[start : start + size] = _box(b"edts", _box(b"elst", struct.pack(">II", 0, edits) + entries))
        for name in (b"moov", b"trak"):
            at = data.index(name) - 4
            grown = int.from_bytes(data[at : at + 4], "big") + 8 + 16 + len(entries) - size
            data[at : at + 4] = struct.pack(">I", grown)
        if refused:
            with pytest.raises(VideoError, match="its edit list of 400,001 entries repeats 10 frames"):
                Video(bytes(data))
        else:
            with Video(bytes(data)) as video:
                assert video.info.frame_count == 20  # shown twice


def test_a_compressed_index_is_looked_into(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mov", "libx264", pattern(10), options=x264(bframes=0))
    for count, refused in ((10, False), (50_000_000, True)):
        data = _with_samples(path, count) if refused else path.read_bytes()
        at = data.index(b"moov") - 4
        index = data[at:]
        packed = _box(b"cmvd", struct.pack(">I", len(index)) + zlib.compress(index))
        compressed = data[:at] + _box(b"moov", _box(b"cmov", _box(b"dcom", b"zlib") + packed))
        if refused:
            with pytest.raises(VideoError, match="its index claims 50,000,000 frames"):
                Video(compressed)
        else:
            with Video(compressed) as video:
                assert video.info.frame_count == 10


def test_an_hour_of_plain_sound_is_no_absurd_index(tmp_path: Path) -> None:
    """Plain sound has a sample a tick, of one size."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        picture = container.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 16, 16, "yuv420p"
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(picture.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1_200_000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with Video(path) as video:
        assert (video.info.frame_count, video.info.lost_frames) == (1, 0)


def test_more_parts_than_any_file_has() -> None:
    content = io.BytesIO(struct.pack(">I4s", 8, b"free") * 1_000_002)
    with pytest.raises(VideoError, match="more than 1,000,000 parts"):
        is_cut(content, name="a.mp4")


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body

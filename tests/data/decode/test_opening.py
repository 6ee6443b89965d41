"""What cannot be opened: one sentence that names the file and the remedy, never a traceback of another kind."""

import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.odd_videos import encode, pattern, without_frames
from tests.small_inputs import write_sound


def _no_moov(path: Path) -> None:
    whole = encode(path.with_name("whole.mp4"), "libx264", pattern(60)).read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])  # the index, at the file's end, is cut off


def _png(path: Path) -> None:
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "there is no such file; check the path"),
    "folder": (
        lambda path: path.mkdir(),
        "it is a folder that holds no image (.jpg, .png, ...); give a video or a folder of its frames",
    ),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty; fetch or copy it again"),
    "random": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(9000)), "it is no video file"),
    "text": (lambda path: path.write_text("path,label\na.mp4,run\n" * 40), "it is no video file"),
    "cut": (_no_moov, "whose header is missing (a cut download); fetch or export it again"),
    "sound only": (write_sound, "it holds audio only; give a file with moving pictures"),
    "picture": (_png, "its format is none that holds a video"),
    "no frames": (without_frames, "its video is empty or broken; fetch or export it again"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tmp_path: Path, kind: str) -> None:
    make, reason = BAD[kind]
    path = tmp_path / ("odd.avi" if kind == "no frames" else "odd.mp4")
    make(path)
    with pytest.raises(VideoError) as caught:
        Video(path)
    message = str(caught.value)
    assert reason in message
    assert str(path) in message
    assert "\n" not in message
    assert not message.endswith(".")


@pytest.mark.parametrize("kind", ["sound only", "picture"])
def test_files_without_video_say_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.mp4"
    BAD[kind][0](path)
    with pytest.raises(VideoError, match=re.escape(f"no video stream in {path}")):
        Video(path)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    encode(tmp_path / "secret.ts", "libx264", pattern(10))
    playlist = tmp_path / "upload.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n")
    with av.open(str(playlist)) as container:  # by itself, the library would open the other file
        assert next(container.decode(video=0)).width == 64
    with pytest.raises(VideoError, match="format is none that holds a video"):
        Video(playlist)


@pytest.mark.parametrize("name", ["http:a.mp4", "a b%03d.mp4", "läufer ☃.mp4", "-i.mp4"])
def test_any_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    encode(tmp_path / "a.mp4", "libx264", pattern(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, name):
        with Video(path) as video:
            assert video.info.frame_count == 3


def test_a_title_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Xaufer"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"Xaufer", b"L\xe4ufer"[:6]))
    with Video(path) as video:
        assert video.info.frame_count == 1


def test_the_sound_of_a_file_with_a_cover_is_no_video(tmp_path: Path) -> None:
    """An m4a with a cover picture: the picture is a video stream by name only."""
    _png(tmp_path / "cover.png")
    sound = write_sound(tmp_path / "a.m4a").read_bytes()
    picture = (tmp_path / "cover.png").read_bytes()
    data = _box(b"data", (14).to_bytes(4, "big") + bytes(4) + picture)
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    cover = _box(b"udta", _box(b"meta", bytes(4) + handler + _box(b"ilst", _box(b"covr", data))))
    at = sound.rindex(b"moov") - 4
    size = int.from_bytes(sound[at : at + 4], "big")
    body = sound[at + 8 : at + size]
    path = tmp_path / "covered.m4a"
    path.write_bytes(sound[:at] + _box(b"moov", body + cover) + sound[at + size :])
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(VideoError, match="no video stream in"):
        Video(path)


def _box(name: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + name + body

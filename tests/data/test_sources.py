"""Whatever a video is given as, the frames are the same; what cannot be one is told in one sentence."""

import builtins
import gzip
import io
import mmap
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.data import sources
from m2clip.data.places import ShardMember, WebAddress
from m2clip.data.video import Video
from m2clip.data.web import WebLimits
from m2clip.errors import VideoError
from tests.odd_videos import encode, pattern, x264
from tests.web_server import Server, body, serving, status

PICTURES = pattern(9)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("video") / "a.mp4", "libx264", pattern(40), options=x264(keyint=12))


@pytest.fixture(scope="module")
def expected(path: Path) -> np.ndarray:
    with Video(path) as video:
        return video.frames([30, 2])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        running.answers["/a.mp4"] = body(path.read_bytes())
        yield running


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(VideoError) as caught:
        Video(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


# Paths


@pytest.mark.parametrize("kind", [str, Path, lambda path: next(os.scandir(path.parent)), lambda path: Pathlike(path)])
def test_a_path_of_any_kind(path: Path, expected: np.ndarray, kind: Callable[[Path], Any]) -> None:
    with Video(kind(path)) as video:
        np.testing.assert_array_equal(video.frames([30, 2]), expected)
        assert video.name == str(path)


class Pathlike:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


def test_the_home_folder(path: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(path.parent))
    with Video("~/a.mp4") as video:
        np.testing.assert_array_equal(video.frames([30, 2]), expected)
    assert "there is no such file" in refusal("~nobody-of-this-name/a.mp4")
    assert "there is no such file" in refusal("a/~/a.mp4")


def test_a_file_may_be_called_like_the_home_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~a.mp4").write_bytes(path.read_bytes())
    with Video("~a.mp4") as video:
        assert video.info.frame_count == 40


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_name_that_is_no_text(path: Path, tmp_path: Path, expected: np.ndarray) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    Path(odd).write_bytes(path.read_bytes())
    with Video(odd) as video:
        np.testing.assert_array_equal(video.frames([30, 2]), expected)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "the path of a video is empty; give a video file"),
        ("nothing.mp4", "cannot read nothing.mp4: there is no such file; check the path"),
        ("http:x.mp4", "cannot read http:x.mp4: there is no such file"),
        ("a\0b.mp4", "there is no such file"),
        ("x" * 5000, "File name too long"),
        ("-", "there is no such file"),
        ("a\nb.mp4", "cannot read a b.mp4: there is no such file"),
        (Path("a\r\nb\u2028c.mp4"), "cannot read a b c.mp4: there is no such file"),
        ("file:///home/a.mp4", "cannot read file:///home/a.mp4: give the path alone, without file://"),
        (Path("https://host/a.mp4"), "a Path holds no web address, for it merges the slashes; pass a string"),
        ("ftp://host/a.mp4", "only addresses that begin with http:// or https:// are fetched; fetch it first and"),
        ("frames/img_%05d.jpg", "a pattern is no path; give the folder of the images itself"),
        ("frames/%d.png", "a pattern is no path; give the folder of the images itself"),
        ("100%done.mp4", "there is no such file"),
        ("frames/*.jpg", "a pattern is no path; give the folder of the images itself"),
        ("\0ftypisom" * 4000, "no path has 36000 characters; pass the content of a file as bytes"),
        ("s3://bucket/a.mp4", "only addresses that begin with http:// or https:// are fetched"),
        ("rtsp://camera/1", "only addresses that begin with http:// or https:// are fetched"),
        (WebAddress("file:///etc/passwd"), "only addresses that begin with http:// or https:// are"),
        (ShardMember("nothing.tar", "a.mp4", 0, 9), "cannot read nothing.tar/a.mp4"),
    ],
)
def test_paths_that_lead_nowhere(source: object, reason: str) -> None:
    assert reason in refusal(source)


def test_a_file_may_be_called_like_an_address(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ftp:/a.mp4", "http:/a.mp4", "http:a.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(path.read_bytes())
        with Video(name) as video:
            assert video.info.frame_count == 40


def test_an_archive_is_no_video(path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mp4", "w") as archive:
        archive.write(path, "a.mp4")
    for source in (tmp_path / "a.mp4", (tmp_path / "a.mp4").read_bytes()):
        assert "it is a zip archive (as .npz is); unpack it and give the video" in refusal(source)
    assert "it is packed by gzip; unpack it" in refusal(gzip.compress(path.read_bytes()))


# Bytes and open files


def test_bytes_of_any_kind(path: Path, expected: np.ndarray) -> None:
    data = path.read_bytes()
    for source in (data, bytearray(data), memoryview(data), memoryview(np.frombuffer(data, np.uint8)[::-1])[::-1]):
        with Video(source) as video:
            np.testing.assert_array_equal(video.frames([30, 2]), expected)
            assert video.name == f"the video of {len(data)} bytes"


def test_bytes_are_read_again_where_frames_must_be_counted(tmp_path: Path) -> None:
    """What cannot be read by its packets is opened several times."""
    path = encode(tmp_path / "a.h264", "libx264", PICTURES)
    with Video(path) as video:
        expected = video.frames(range(9))
    for source in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        with Video(source) as video:
            np.testing.assert_array_equal(video.frames(range(9)[::-1]), expected[::-1])
            np.testing.assert_array_equal(video.frames([0]), expected[:1])


class Stream(io.RawIOBase):
    """A pipe: no way back, and no more than a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data.read(min(len(buffer), 7000))
        buffer[: len(piece)] = piece
        return len(piece)


class OnlyRead:
    """An object that can do nothing else."""

    def __init__(self, data: Any) -> None:
        self._data = [data]

    def read(self, size: int) -> Any:
        return self._data.pop() if self._data else b""


class ReadAll:
    """An object whose read takes no size."""

    def read(self) -> bytes:
        return b""


def test_an_open_file_wherever_it_stands(path: Path, expected: np.ndarray) -> None:
    for position in (0, 100, path.stat().st_size):
        for buffering in (-1, 0):
            with path.open("rb", buffering=buffering) as file:
                file.seek(position)
                with Video(file) as video:
                    assert video.name == f"the open file {path}"
                    assert file.tell() == position
                    np.testing.assert_array_equal(video.frames([30, 2]), expected)
                assert not file.closed
                assert file.tell() == position


def test_a_file_may_be_closed_once_it_is_given(path: Path, expected: np.ndarray) -> None:
    with path.open("rb") as file:
        video = Video(file)
    np.testing.assert_array_equal(video.frames([30, 2]), expected)
    video.close()


def test_open_files_of_every_kind(path: Path, expected: np.ndarray, tmp_path: Path) -> None:
    data = path.read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.mp4")
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    with (
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        archive.open("a.mp4") as member,
        gzip.open(tmp_path / "a.gz") as unpacked,
        tempfile.NamedTemporaryFile() as named,
        path.open("r+b") as writable,
        mmap.mmap(writable.fileno(), 0) as mapped,
    ):
        named.write(data)
        for file in (io.BytesIO(data), Stream(data), OnlyRead(data), member, unpacked, named, writable, mapped):
            with Video(file) as video:
                np.testing.assert_array_equal(video.frames([30, 2]), expected)


def test_a_large_open_file_goes_to_the_disk(
    path: Path, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PIECE_BYTES", 20)  # 64 of them are held in memory
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert path.stat().st_size > 64 * 20
    with Video(Stream(path.read_bytes())) as video:
        np.testing.assert_array_equal(video.frames([30, 2]), expected)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "No such file or directory" in refusal(Stream(path.read_bytes()))


def test_a_pipe_is_read_from_where_it_stands(path: Path, expected: np.ndarray) -> None:
    stream = Stream(b"header" + path.read_bytes())
    stream.read(6)
    with Video(stream) as video:
        np.testing.assert_array_equal(video.frames([30, 2]), expected)
        assert video.name == "the open file"


def _closed(path: Path) -> io.BufferedReader:
    with path.open("rb") as file:
        return file


def test_open_files_that_are_no_video(path: Path, tmp_path: Path) -> None:
    with path.open("r", encoding="latin-1") as text:
        assert "its read() gives str; open it with 'rb'" in refusal(text)
    with path.open("r", encoding="utf-8") as text:
        assert "'utf-8' codec can't decode byte" in refusal(text)
    with (tmp_path / "new.mp4").open("wb") as writing:
        assert "open it with 'rb' and leave it open" in refusal(writing)
    assert "open it with 'rb' and leave it open" in refusal(_closed(path))
    assert "its read() gives str; open it with 'rb'" in refusal(io.StringIO("text"))
    assert "its read() gives dict; open it with 'rb'" in refusal(OnlyRead({"a": 1}))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    with gzip.open(tmp_path / "cut.gz") as cut:
        assert "pass a whole file that is opened with 'rb'" in refusal(cut)
    assert "pass a whole file that is opened with 'rb'" in refusal(ReadAll())
    assert "there are no bytes; pass a whole video file" in refusal(io.BytesIO())
    assert "there are no bytes; pass a whole video file" in refusal(b"")
    assert "it is no video file" in refusal(io.BytesIO(b"text" * 1000))
    assert "a video cannot be made from type" in refusal(io.BytesIO)


# .npy


@pytest.mark.parametrize("name", ["a.npy", "frames.mp4"])
def test_an_array_in_a_file(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        np.save(file, PICTURES)
    for source in (tmp_path / name, (tmp_path / name).read_bytes(), io.BytesIO((tmp_path / name).read_bytes())):
        with Video(source) as video:
            np.testing.assert_array_equal(video.frames([8, 0]), PICTURES[[8, 0]])
            info = video.info
            assert (info.frame_count, info.codec) == (9, "raw")
    with Video(tmp_path / name) as video:
        assert video.name == str(tmp_path / name)


def test_a_large_array_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 GB that were never written: they can be mapped and not loaded."""
    shape = (33_000, 1024, 1024, 3)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)))
    with Video(tmp_path / "a.npy") as video:
        assert video.info.frame_count == shape[0]
        assert video.frames([shape[0] - 1]).shape == (1, 1024, 1024, 3)


class Harmful:
    """Is run where an array is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_arrays_that_are_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("float.npy", PICTURES / np.float32(255))
    assert "cannot read float.npy: an array of type float32 and shape [9, 48, 64, 3] is no video" in refusal(
        "float.npy"
    )
    np.save("pickled.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    assert "this .npy file holds no whole array of numbers" in refusal("pickled.npy")
    assert not Path("harm").exists()
    np.save("cut.npy", PICTURES)
    data = Path("cut.npy").read_bytes()
    for cut in (data[:-1], data[:300], data[:40], data[:7], data[:10] + b"x" * 300):
        Path("cut.npy").write_bytes(cut)
        assert "this .npy file holds no whole array of numbers" in refusal("cut.npy")
        assert "this .npy file holds no whole array of numbers" in refusal(cut)
    np.savez("many.npz", PICTURES)
    assert "it is a zip archive (as .npz is); unpack it" in refusal("many.npz")


@pytest.mark.parametrize(
    "shape", ["(-4, 6, 5, 3)", "(4, -6, -5, 3)", f"({10**20}, 6, 5, 3)", "(4, 6.0, 5, 3)", "(4, 6", "4", "()"]
)
@pytest.mark.parametrize("kind", ["'|u1'", "'|O'", "[('a', 'u1')]", "3", "'|u1"])
def test_headers_that_are_none(tmp_path: Path, shape: str, kind: str) -> None:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(360)
    (tmp_path / "a.npy").write_bytes(data)
    for source in (data, tmp_path / "a.npy"):
        assert refusal(source).startswith("cannot read ")


def test_broken_headers_are_told(tmp_path: Path) -> None:
    """NumPy raises errors of a dozen kinds."""
    file = io.BytesIO()
    np.save(file, PICTURES)
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(150):
        data = bytearray(file.getvalue())
        for at in rng.integers(6, 128, 2):
            data[at] = rng.choice(list(b"0123456789-,()'[]{}:uO|<> \x00\xff"))
        (tmp_path / "a.npy").write_bytes(data)
        for source in (bytes(data), tmp_path / "a.npy"):
            try:
                with Video(source) as video:
                    read += video.frames([0]).shape[3] == 3
            except VideoError:
                continue
    assert read < 100


def test_an_array_file_that_promises_too_much() -> None:
    """A header of a hundred bytes that asks for a petabyte."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (10**8, 2048, 2048, 3)}
    )
    assert re.search("cannot read .*(do not fit into memory|no whole array)", refusal(file.getvalue() + bytes(100)))


# Web addresses


def test_a_web_address(server: Server, expected: np.ndarray) -> None:
    for url in (
        server.url + "/a.mp4",
        server.url.replace("http", "HTTP") + "/a.mp4",
        WebAddress(server.url + "/a.mp4"),
    ):
        with Video(url) as video:
            np.testing.assert_array_equal(video.frames([30, 2]), expected)
            assert video.name.lower() == f"{server.url}/a.mp4"


def test_what_was_fetched_is_gone_on_close(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[Any] = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: made.append(real()) or made[-1])
    with Video(server.url + "/a.mp4") as video:
        video.frames([3])
        assert not made[0].closed
    assert made[0].closed
    server.answers["/text.mp4"] = body(b"no video" * 100)
    assert f"cannot read {server.url}/text.mp4: it is no video file" in refusal(server.url + "/text.mp4")
    assert made[1].closed
    assert list(tmp_path.iterdir()) == []


def test_an_array_behind_an_address(server: Server) -> None:
    file = io.BytesIO()
    np.save(file, PICTURES)
    server.answers["/a.npy"] = body(file.getvalue(), kind="application/octet-stream")
    with Video(server.url + "/a.npy") as video:
        np.testing.assert_array_equal(video.frames([8]), PICTURES[8:])


def test_addresses_that_lead_to_no_video(server: Server) -> None:
    server.answers["/folder/"] = body(b"<html>", kind="text/html")
    server.answers["/folder"] = status(301, Location="/folder/")
    assert "it is a web page (text/html)" in refusal(server.url + "/folder")
    assert "answers 404" in refusal(server.url + "/b.mp4")
    server.answers["/empty.mp4"] = body(b"")
    assert "there are no bytes" in refusal(server.url + "/empty.mp4")


def test_limits_hold(server: Server) -> None:
    assert "it is larger than 100 bytes" in refusal(server.url + "/a.mp4", web=WebLimits(most_bytes=100))


def test_addresses_can_be_switched_off(server: Server) -> None:
    for source in (server.url + "/a.mp4", WebAddress(server.url + "/a.mp4")):
        message = refusal(source, web=None)
        assert message == (
            f"cannot read {server.url}/a.mp4: web addresses are switched off here; fetch the file first and give its path"
        )
    member = ShardMember(server.url + "/a.tar", "a.mp4", 0, 9)
    assert "web addresses are switched off here" in refusal(member, web=None)
    assert server.seen == []


def test_the_password_of_an_address_is_not_told(server: Server) -> None:
    url = server.url.replace("//", "//anna:secret@")
    with Video(url + "/a.mp4?token=secret") as video:
        assert video.name == f"{server.url}/a.mp4?..."
    assert "secret" not in refusal(url + "/nothing.mp4?token=secret")
    assert "secret" not in refusal(url + "/nothing.mp4?token=secret", web=None)


# Shards


def test_a_member_of_a_shard(path: Path, expected: np.ndarray, tmp_path: Path) -> None:
    data = path.read_bytes()
    (tmp_path / "a.tar").write_bytes(bytes(1000) + data + bytes(512))
    member = ShardMember(str(tmp_path / "a.tar"), "x/a.mp4", 1000, len(data))
    with Video(member) as video:
        np.testing.assert_array_equal(video.frames([30, 2]), expected)
        assert video.name == f"{tmp_path}/a.tar/x/a.mp4"


def test_nothing_is_left_open(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open that fails gives back what it had opened."""
    opened: list[Any] = []
    real = builtins.open
    monkeypatch.setattr(io, "open", lambda *given, **options: opened.append(real(*given, **options)) or opened[-1])
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    refusal(tmp_path / "a.npy")
    assert all(file.closed for file in opened)

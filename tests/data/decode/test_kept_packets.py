"""Kept packet tables: the same table, only for the same file, and never an error."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2clip.data.decode import kept_packets
from m2clip.data.decode.packets import read_packets
from m2clip.data.video import Video
from tests.odd_videos import encode, pattern, sequential, vp8_with_hidden_frames, x264


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The files whose packets were read; tables of short files are kept, too."""
    found: list[str] = []

    def noting(container: object, stream: object) -> object:
        found.append(container.name)  # type: ignore[attr-defined]
        return read_packets(container, stream)  # type: ignore[arg-type]

    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_packets, "read_packets", noting)
    monkeypatch.setattr(kept_packets, "_FEWEST_PACKETS", 20)
    return found


def aged(path: Path) -> Path:
    """As if it had been written long ago."""
    os.utime(path, (10**9, 10**9))
    return path


@pytest.fixture(autouse=True)
def _attributes_count_as_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can set the time of a file's last change of attributes, so the clock is set on."""
    now = kept_packets.time.time
    monkeypatch.setattr(kept_packets.time, "time", lambda: now() + 60)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: encode(p / "a.mp4", "libx264", pattern(50), options=x264(keyint=12, bframes=3)),
        lambda p: encode(p / "a.avi", "mpeg4", pattern(50)),
        lambda p: vp8_with_hidden_frames(p, 50),
    ],
    ids=["h264", "mpeg4", "vp8"],
)
def test_a_second_opening_reads_no_packets(tmp_path: Path, reads: list[str], make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    pictures = sequential(path)
    facts = []
    for _ in range(2):
        with Video(path) as video:
            facts.append(video.info)
            asked = [len(pictures) - 1, 0, 17]
            np.testing.assert_array_equal(video.frames(asked), np.stack([pictures[i] for i in asked]))
    assert len(reads) == 1
    first, second = (info.__dict__ for info in facts)
    assert {name for name in first if not np.array_equal(first[name], second[name])} == set()


def test_a_changed_file_is_read_anew(tmp_path: Path, reads: list[str]) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(50), options=x264(keyint=12))
    other = encode(tmp_path / "b.mp4", "libx264", pattern(40), options=x264(keyint=10))
    aged(path)
    for _ in range(2):
        with Video(path) as video:
            assert video.info.frame_count == 50
    # Another content of the same size with the same time, as a careless copy leaves it
    data = other.read_bytes()
    path.write_bytes(data + b"\0" * (path.stat().st_size - len(data)))
    aged(path)
    with Video(path) as video:
        assert video.info.frame_count == 40
    assert len(reads) == 2


def test_a_file_that_was_written_just_now_is_not_kept(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(30))
    monkeypatch.setattr(kept_packets.time, "time", lambda: path.stat().st_mtime + 0.5)
    for _ in range(2):
        Video(path).close()
    assert len(reads) == 2


def test_what_is_not_kept(tmp_path: Path, reads: list[str]) -> None:
    """Short files, bytes, and files whose packets cannot be relied on."""
    short = encode(tmp_path / "short.mp4", "libx264", pattern(19))
    doubted = encode(tmp_path / "a.h264", "libx264", pattern(40))
    for source in (short, doubted, encode(tmp_path / "a.mp4", "libx264", pattern(40)).read_bytes()):
        Video(source).close()
    assert len(reads) == 3
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(4000)])
def test_a_broken_table_is_read_anew(tmp_path: Path, reads: list[str], content: bytes) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(30))
    with Video(path) as video:
        key = kept_packets._key(video._frames._file)  # type: ignore[union-attr]
    assert key is not None
    kept_packets._KEPT.put(key, content)  # whole, but no table
    with Video(path) as video:
        assert video.info.frame_count == 30
    assert len(reads) == 2


def test_a_table_of_another_version_is_not_used(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", pattern(30))
    Video(path).close()
    monkeypatch.setattr(kept_packets, "_FORMAT", kept_packets._FORMAT + 1)
    Video(path).close()
    assert len(reads) == 2


def test_a_folder_that_cannot_be_written_changes_nothing(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "file"))
    path = encode(tmp_path / "a.mp4", "libx264", pattern(30))
    for _ in range(2):
        Video(path).close()
    assert len(reads) == 2

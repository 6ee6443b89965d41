"""What is kept comes back whole or not at all, and never makes anything fail."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from m2clip.kept_files import KeptFiles


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "part"


def test_what_was_put_is_got(folder: Path) -> None:
    kept = KeptFiles("part", most_bytes=1000)
    assert kept.get("a") is None
    assert not folder.exists()
    kept.put("a", b"content")
    kept.put("name \udcff of a file", b"")
    assert KeptFiles("part", most_bytes=1000).get("a") == b"content"
    assert kept.get("name \udcff of a file") == b""
    assert KeptFiles("other", most_bytes=1000).get("a") is None
    kept.put("a", b"newer")
    assert kept.get("a") == b"newer"
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("at", [0, 31, 32, 38])
def test_a_flipped_bit_or_a_cut_is_noticed(folder: Path, at: int) -> None:
    kept = KeptFiles("part", most_bytes=1000)
    kept.put("a", b"content")
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    for broken in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
        path.write_bytes(broken)
        assert kept.get("a") is None
    kept.put("a", b"content")
    assert kept.get("a") == b"content"


def test_the_longest_unused_go_first(folder: Path) -> None:
    kept = KeptFiles("part", most_bytes=3 * 132)
    for age, key in enumerate("abc"):
        kept.put(key, b"x" * 100)
        path = kept._path(key)
        os.utime(path, (1000 + age, 1000 + age))
    assert kept.get("a") is not None  # which makes it the newest
    kept.put("d", b"x" * 100)
    assert [kept.get(key) is not None for key in "abcd"] == [True, False, True, True]
    kept.put("e", b"x" * 1000)  # larger than all there may be
    assert kept.get("e") is None
    assert kept.get("d") is not None


def test_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "file"))
    kept = KeptFiles("part", most_bytes=1000)
    kept.put("a", b"content")
    assert kept.get("a") is None


def test_a_full_disk_leaves_no_draft(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    kept = KeptFiles("part", most_bytes=1000)
    monkeypatch.setattr("os.replace", full)
    kept.put("a", b"content")
    assert list(folder.iterdir()) == []


def test_many_writers_at_once(folder: Path) -> None:
    kept = KeptFiles("part", most_bytes=20 * 132)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: kept.put(str(i % 40), b"x" * 100), range(400)))
    assert all(kept.get(str(i)) in (None, b"x" * 100) for i in range(40))
    assert 0 < len(list(folder.iterdir())) <= 28  # those at work at the same time may exceed the limit a little


def test_what_a_killed_process_left_is_swept_away(folder: Path) -> None:
    kept = KeptFiles("part", most_bytes=3 * 132)
    folder.mkdir(parents=True)
    (folder / "abc.draft").write_bytes(b"x" * 1000)
    kept.put("a", b"content")
    assert [path.name.endswith(".draft") for path in folder.iterdir()] == [False]
    assert kept.get("a") == b"content"

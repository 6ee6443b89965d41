"""Drafts: whole files or none, and what a killed writer leaves is swept away while a living one's stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2clip import drafts
from m2clip.drafts import DRAFT, draft, sweep

WRITER = """
import sys
from pathlib import Path
from m2clip.drafts import draft
with draft(Path(sys.argv[1])) as file:
    file.write(b"half of it")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def left(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{DRAFT}"))


def test_a_file_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with draft(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
        assert len(left(tmp_path)) == 1
    assert path.read_bytes() == b"after"
    assert left(tmp_path) == []
    with pytest.raises(ZeroDivisionError), draft(path) as file:
        file.write(b"x" * (1 // 0))
    assert path.read_bytes() == b"after"
    assert left(tmp_path) == []


def test_the_draft_of_a_killed_writer_is_swept_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    (found,) = left(tmp_path)
    sweep(str(found))
    assert found.read_bytes() == b"half of it"
    writer.kill()
    writer.communicate()
    sweep(str(found))
    assert left(tmp_path) == []
    sweep(str(found))  # another process was faster


def test_without_locks_only_what_is_old_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_lock", lambda descriptor: False)
    with draft(tmp_path / "a") as file:
        (found,) = left(tmp_path)
        sweep(str(found))
        assert found.exists()
        file.write(b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    old = tmp_path / f"b{DRAFT}"
    old.touch()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    sweep(str(old))
    assert not old.exists()


def test_a_draft_that_was_swept_before_it_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = drafts._lock, []

    def sweep_first(descriptor: int) -> bool:
        if not swept:
            swept.extend(left(tmp_path))
            swept[0].unlink()
        return lock(descriptor)

    monkeypatch.setattr(drafts, "_lock", sweep_first)
    with draft(tmp_path / "a") as file:
        file.write(b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert len(swept) == 1

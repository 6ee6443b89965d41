"""Uploads lie where nobody else can look, and are gone afterwards, at the latest when the next server starts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2clip.app.upload_folder import UploadFolder

_KILLED = """
import os, signal, sys
from pathlib import Path
from m2clip.app.upload_folder import UploadFolder
folder = UploadFolder(Path(sys.argv[1]))
with folder.new_file() as path:
    path.write_bytes(b"somebody's video")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_lives_as_long_as_it_is_used(tmp_path: Path) -> None:
    with UploadFolder(tmp_path) as folder:
        assert folder.path.parent == tmp_path
        assert folder.path.stat().st_mode & 0o777 == 0o700
        with folder.new_file() as path:
            assert not path.exists()
            path.write_bytes(b"x")
        assert not path.exists()
        with pytest.raises(ZeroDivisionError), folder.new_file() as path:  # noqa: PT012
            path.write_bytes(b"x")
            raise ZeroDivisionError
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_goes_when_another_starts(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    [left] = tmp_path.iterdir()
    assert {path.stat().st_size for path in left.iterdir()} == {0, 16}
    (tmp_path / "m2clip-serve-file").touch()
    (tmp_path / "other").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (tmp_path / "m2clip-serve-link").symlink_to(outside)
    (tmp_path / "m2clip-serve-new").mkdir()  # of a server that has not got to its lock yet
    old = tmp_path / "m2clip-serve-old"
    old.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)
    with UploadFolder(tmp_path) as first:
        assert not left.exists()
        assert not old.exists()
        with UploadFolder(tmp_path) as second:  # the first one lives
            kept = {path.name for path in tmp_path.iterdir()}
    own = {first.path.name, second.path.name}
    assert kept - own == {"m2clip-serve-file", "other", "outside", "m2clip-serve-link", "m2clip-serve-new"}
    assert own <= kept
    assert (outside / "keep").exists()

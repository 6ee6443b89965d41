"""The program where there is no home, no cache and no UTF-8: by itself, since all of this is fixed when Python starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.small_inputs import class_folders, moving_square, write_video


def ran(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the program with nothing but PATH and `environment` around it."""
    surroundings = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "m2clip", *map(str, arguments)]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, encoding="utf-8", timeout=300)


def test_a_video_is_recognised_where_nothing_can_be_kept(tmp_path: Path) -> None:
    # A home below a device takes no folder, from root neither.
    video = write_video(tmp_path / "video.mp4", moving_square())
    done = ran("classify", video, "--labels", "a red circle,a square", "--json", HOME="/dev/null")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(json.loads(done.stdout)["videos"]) == 1


def test_names_are_utf8_where_the_locale_is_the_plain_one(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", ["fußball", "跳舞"], each=1)
    listed = ran("data", "list", tmp_path / "data", "--json", LC_ALL="C", HOME="/dev/null")
    assert listed.returncode == 0, listed.stderr
    assert [one["name"] for one in json.loads(listed.stdout)["classes"]] == ["fußball", "跳舞"]
    assert listed.stderr == ""


def test_an_encoding_that_misreads_names_is_told() -> None:
    said = ran("--version", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert said.returncode == 0
    assert said.stderr == (
        "m2clip: warning: names of files are read as ascii here, which misreads those in UTF-8: set PYTHONUTF8=1\n"
    )

"""The processes of a study: they answer, a crash costs one cell, and they do not outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2clip.study.cell import LOG
from m2clip.study.lanes import Lane, ready
from tests.processes import alive
from tests.study.small_study import small_study

pytestmark = pytest.mark.slow


def test_a_crash_costs_the_cell_and_the_lane_goes_on(tmp_path: Path) -> None:
    _, cells = small_study(tmp_path)
    lane = Lane(threads=1)
    try:
        lane.begin(cells[0])
        lane._process.kill()
        assert ready([lane]) == [lane]
        cell, answer = lane.end()
        assert cell is cells[0]
        assert answer == "the process of the cell was ended by SIGKILL, perhaps for want of memory; run the study again"
        lane.begin(cells[1])
        cell, answer = lane.end()
        assert cell is cells[1]
        assert not isinstance(answer, str)
        assert (answer["method"], answer["machine"]["threads"]) == ("st", 1)
        bad = cells[2].__class__(**{**vars(cells[2]), "protocol": None})
        lane.begin(bad)
        _, answer = lane.end()
        assert isinstance(answer, str)
        assert answer.startswith("AttributeError: ")
        assert "Traceback" in (cells[2].folder / LOG).read_text()
    finally:
        process = lane._process.pid
        lane.close()
    assert process is not None
    assert not alive(process)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")
def test_processes_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from m2clip.study.lanes import Lane\n"
        "if __name__ == '__main__':\n"
        "    print(Lane(threads=1)._process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    ends = time.monotonic() + 60
    while alive(child) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not alive(child)

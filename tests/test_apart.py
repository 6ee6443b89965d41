"""Jobs whose children crash, hang, eat memory or fail are told from those that are done, and the others go on."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.apart import Alive, Ended, run_apart
from m2clip.errors import ConfigError
from tests.processes import alive
from tests.served import until

GIB = 2**30


def act(job: tuple[str, float], alive: Alive) -> Any:
    """A job that says what becomes of its process."""
    deed, value = job
    if deed == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if deed == "raise":
        raise ZeroDivisionError
    if deed == "memory":
        try:
            return len(np.ones(int(value), dtype=np.uint8))
        except MemoryError:
            return "no memory"
    if deed == "work":
        until = time.monotonic() + value
        while time.monotonic() < until:
            time.sleep(0.05)
            alive()
    return [deed, value, os.getpid()]


def test_what_ends_a_child_costs_its_own_job() -> None:
    jobs = [("a", 0), ("die", 0), ("b", 1), ("stop", 0), ("raise", 0), ("c", 2), ("memory", 4 * GIB), ("memory", 1000)]
    found = dict(run_apart(act, jobs, workers=2, silence_seconds=6, memory_bytes=GIB))
    assert sorted(found) == list(range(len(jobs)))
    assert found[1] == Ended("crashed", "ended by SIGSEGV")
    assert found[3] == Ended("silent", "gave no sign of life for 6 s")
    assert found[4] == Ended("crashed", "ended with exit code 1")
    assert [found[i][:2] for i in (0, 2, 5)] == [["a", 0], ["b", 1], ["c", 2]]
    assert (found[6], found[7]) == ("no memory", 1000)


def test_long_work_that_gives_signs_is_waited_for() -> None:
    [(number, result)] = run_apart(act, [("work", 8.0)], workers=3, silence_seconds=6, memory_bytes=GIB)
    assert (number, result[0]) == (0, "work")


class Poison:
    """Ends the process that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_children_that_cannot_start_end_the_work() -> None:
    with pytest.raises(ConfigError, match="ended with exit code 3 at its start"):
        list(run_apart(Poison(), [1, 2], workers=2, silence_seconds=60, memory_bytes=GIB))  # type: ignore[arg-type]


def test_no_job_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2clip.apart._JobChild", None)
    assert list(run_apart(act, [], workers=2, silence_seconds=1, memory_bytes=GIB)) == []


def test_children_end_when_the_results_are_no_longer_wanted() -> None:
    results = run_apart(
        act, [("a", 0), ("b", 0), ("stop", 0), ("stop", 0)], workers=1, silence_seconds=60, memory_bytes=GIB
    )
    _, (_, _, pid) = next(results)
    os.kill(pid, 0)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


HANGS = """
import os, sys, time
from pathlib import Path
from m2clip.apart import run_apart

def hang(job, alive):
    Path(job + ".part").write_text(str(os.getpid()))
    os.replace(job + ".part", job)
    time.sleep(600)

if __name__ == "__main__":
    list(run_apart(hang, [sys.argv[1]], workers=1, silence_seconds=600, memory_bytes=2**30))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_child_that_hangs_ends_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    note = tmp_path / "note"
    parent = subprocess.Popen([sys.executable, str(tmp_path / "hangs.py"), str(note)])
    try:
        until(note.exists)
    finally:
        parent.kill()
        parent.wait()
    child = int(note.read_text())
    try:
        until(lambda: not alive(child))
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

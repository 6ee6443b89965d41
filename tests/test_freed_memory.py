"""Freed memory stays with a process that asked for it, and goes back from any other."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from pathlib import Path
from m2clip.freed_memory import keep_freed_memory

def mebibytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20

if sys.argv[1] == "keep":
    keep_freed_memory()
before = mebibytes()
block = bytearray(64 << 20)
block[::4096] = bytes([1]) * (len(block) // 4096)  # touch each page
during = mebibytes()
del block
print(during - before, mebibytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the process through /proc")
def test_freed_memory_is_kept_on_request() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library")
    for how, stays in (("keep", True), ("plain", False)):
        run = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        used, left = map(int, run.stdout.split())
        assert used >= 60
        assert (left >= 60) == stays, how


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from m2clip import freed_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a C library without the functions of glibc
    freed_memory.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)
    freed_memory.keep_freed_memory()


_ARENAS = """
import ctypes, sys, threading
from m2clip.freed_memory import share_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
if sys.argv[1] == "shared":
    share_freed_memory()
meeting = threading.Barrier(4)
def work():
    meeting.wait()
    libc.malloc(5000)
    meeting.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_threads_share_what_is_freed() -> None:
    def places(how: str) -> int:
        run = subprocess.run([sys.executable, "-c", _ARENAS, how], capture_output=True, text=True, check=True)
        return run.stdout.count("<heap nr=")

    assert places("shared") == 1
    assert places("own") > 1

"""Keeping the memory that a process has freed, for its next tensors.

glibc hands large blocks back to the system as soon as they are free, and the system hands them out again page by page, each
filled with zeros. A model frees and asks for the same large blocks in every step, so that on a CPU an activation over a large
tensor can spend most of its time there.
"""

import ctypes
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_freed_memory() -> None:
    """Let this process, and those it forks, keep what it frees until it ends. Only glibc heeds it.

    It then holds the most that it ever needed, and a little more, since free pieces lie between used ones (in training 1 to 3 %).
    For programs that compute and then end, such as the command line; m2clip as a library leaves the memory of its host alone.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_MAX, 0)  # no block gets pages of its own, which would go back with it
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


def share_freed_memory() -> None:
    """Let all threads that begin from now on take memory from one place. Only glibc heeds it.

    Else each has a place of its own, and what one has freed is of no use to the others. A server that hands its work from thread to
    thread grew by 2 to 3 MB a minute under load, and with this by nothing.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, 1)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None

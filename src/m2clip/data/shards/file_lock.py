"""A lock that processes of one machine share through a file; it ends with the process that holds it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Hold the file, which is made where it is not there, for this process alone; gives its open descriptor.

    Raises BlockingIOError where another holds it and `wait` is False, OSError where the file or the system takes no locks.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError("this system has no flock") from None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)

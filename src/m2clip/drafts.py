"""Files on their way into a folder that several processes fill: each is written under another name, and there whole or not at all.

A process that is killed leaves its draft behind. It held a lock on it while it lived, so the next one can tell, and sweeps it away.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

DRAFT = ".draft"
"""The ending of their names."""
_DEAD_SECONDS = 24 * 3600.0  # where a file system knows no locks: after this a draft belongs to nobody who lives


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the folder of `path`, which it replaces when the block has ended and all of it is on the disk.

    After an error it is gone. Raises OSError where it cannot be written.
    """
    descriptor, name = _locked(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the name with nothing behind it
            os.replace(name, path)
    finally:
        with suppress(OSError):
            os.unlink(name)


def sweep(path: str) -> None:
    """Remove a draft if the process that wrote it has ended."""
    with suppress(OSError):  # another process sweeps, too
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _lock(descriptor) or time.time() - os.fstat(descriptor).st_mtime > _DEAD_SECONDS:
                os.unlink(path)
        finally:
            os.close(descriptor)


def _locked(folder: Path) -> tuple[int, str]:
    """A new draft, open and held."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder, suffix=DRAFT)
        _lock(descriptor)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(name)):
                return descriptor, name
        except FileNotFoundError:  # swept between its making and its locking
            pass
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Hold a file for this process alone. False where another does, or the system takes no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True

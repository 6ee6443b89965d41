"""Files that come to their place whole or not at all: each is written under another name first.

Where one process writes, a file is `replacing` another, and what a killed process leaves is overwritten by the next. Into a folder that
several processes fill goes a `draft`: its process holds a lock on it while it lives, so others can tell when it is dead, and sweep it
away.
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
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, in place of any before; afterwards its bytes are on the disk, so that it can get another name."""
    path.unlink(missing_ok=True)  # a link, too, which would lead elsewhere
    with path.open("xb") as file:
        yield file
        _sync(file)


@contextmanager
def replacing(path: Path, *, draft: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that replaces `path` when the block has ended and all of it is on the disk; for one process at a time.

    Until then it is called `draft`, by default beside `path`. After an error it is gone. Raises OSError where it cannot be written.
    """
    draft = path.with_name(path.name + DRAFT) if draft is None else draft
    try:
        with synced(draft) as file:
            yield file
        os.replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the folder of `path`, which it replaces when the block has ended and all of it is on the disk.

    After an error it is gone. Raises OSError where it cannot be written.
    """
    descriptor, name = _locked(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            _sync(file)
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


def _sync(file: BinaryIO) -> None:
    """Without it a power cut could leave the new name with nothing behind it."""
    file.flush()
    os.fsync(file.fileno())


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

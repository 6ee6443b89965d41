"""A private folder for what a server has received; it is gone with the server, or when the next one starts."""

import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

_PREFIX = "m2clip-serve-"
_LOCK = "lock"
_BEING_MADE_SECONDS = 60.0  # younger folders without a lock belong to a server that starts now


class UploadFolder:
    """A new folder that only this user can enter. Removes those that killed servers of this user have left behind.

    A living server holds a lock on its folder, so no number of a process has to be believed.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_leftovers(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # mode 0700
        self._lock: IO[bytes] = (self.path / _LOCK).open("wb")
        _take_lock(self._lock)

    @contextmanager
    def new_file(self) -> Iterator[Path]:
        """A name for a file that is nobody's; what stands there is deleted at the end, whatever happens."""
        path = self.path / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_leftovers(parent: Path) -> None:
    """Delete the folders of servers that are no more: this user's own, no links, and locked by nobody."""
    if sys.platform == "win32":
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            lock = folder / _LOCK
            if not lock.exists():
                if time.time() - found.st_mtime > _BEING_MADE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with lock.open("rb") as held:
                if _take_lock(held):
                    shutil.rmtree(folder, ignore_errors=True)


def _take_lock(file: IO[bytes]) -> bool:
    """Whether the lock was free; it is held until the file is closed, or this process ends."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

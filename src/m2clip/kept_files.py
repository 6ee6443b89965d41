"""Small results kept on disk across processes: bytes by a key, in a part of the cache folder. Any fault means that there is none."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from m2clip.cache_folder import cache_folder
from m2clip.drafts import DRAFT, draft, sweep

_DIGEST_BYTES = 32


class KeptFiles:
    """The part `name` of the cache folder; holds at most `most_bytes`, the longest unused go first.

    Everything that a content depends on must stand in its key. A content comes back whole or not at all: files are written
    under another name first, and carry their SHA-256. A folder that cannot be written keeps nothing, without a word.
    """

    def __init__(self, name: str, *, most_bytes: int) -> None:
        self._name, self._most_bytes = name, most_bytes

    def get(self, key: str) -> bytes | None:
        """What was put under this key, or None."""
        try:
            path = self._path(key)
            data = path.read_bytes()
            if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
                path.unlink()
                return None
            os.utime(path)  # used now
        except OSError:
            return None
        return data[_DIGEST_BYTES:]

    def put(self, key: str, content: bytes) -> None:
        """Keep this content."""
        if _DIGEST_BYTES + len(content) > self._most_bytes:
            return
        with contextlib.suppress(OSError):
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(path.parent, _DIGEST_BYTES + len(content))
            with draft(path) as file:
                file.write(hashlib.sha256(content).digest() + content)

    def _path(self, key: str) -> Path:
        return cache_folder() / self._name / hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()

    def _make_room(self, folder: Path, size: int) -> None:
        found = []
        for entry in os.scandir(folder):
            if entry.name.endswith(DRAFT):
                sweep(entry.path)
                continue
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        remove_oldest(found, until=self._most_bytes - size)


def remove_oldest(found: Iterable[tuple[int, int, str]], *, until: int) -> None:
    """Remove files (time of last use, bytes, path), those not used for the longest time first, until `until` bytes are left."""
    files = sorted(found)
    held = sum(size for _, size, _ in files)
    for _, size, path in files:
        if held <= until:
            return
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            os.unlink(path)
        held -= size

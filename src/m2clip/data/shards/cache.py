"""Shards behind web addresses: each is fetched once a machine, checked, and kept in a folder that has a bound.

Processes share the folder through file locks. A shard that is being read stays readable when it makes room for others: its bytes go
when the last reader closes it.
"""

import contextlib
import hashlib
import json
import os
import time
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from m2clip.cache_folder import cache_folder
from m2clip.data.shards.file_lock import file_lock
from m2clip.data.web import WebLimits, fetch, shown_address
from m2clip.errors import ConfigError, VideoError
from m2clip.kept_files import remove_oldest

MOST_GIB = "M2CLIP_SHARDS_GIB"
_DEFAULT_GIB = 20.0
_LIMITS = WebLimits(most_bytes=2**36, total_seconds=3600.0, wait_seconds=30.0)
_WAITS_SECONDS = (1.0, 4.0, 10.0)  # before each further try
_PAUSE_SECONDS = 300.0  # for which a shard that could not be fetched is not asked for again
_FORMAT = 1


def most_bytes() -> int:
    """How large the folder may grow: $M2CLIP_SHARDS_GIB, in GiB, else 20. Raises ConfigError."""
    text = os.environ.get(MOST_GIB, "")
    try:
        gib = float(text) if text else _DEFAULT_GIB
        if not 0 < gib < 2**33:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{MOST_GIB} is {text!r}: give the size of the cache of shards in GiB, such as 20") from None
    return round(gib * 2**30)


def opened(url: str, *, sha256: str = "") -> BufferedReader:
    """The tar file behind an address, open for reading, fetched where it is not here yet.

    `sha256`: what its bytes must sum to; "" takes whatever the server sends. A server that fails is asked four times; then, for
    five minutes, every process that wants this shard gets the same VideoError at once, so that a run goes on without it.
    """
    try:
        folder = cache_folder() / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(folder / f"{_name(url, sha256)}.tar") if sha256 else None
        if file is None:
            with file_lock(folder / f"{_name(url, sha256)}.lock") as lock:
                # Another process may have fetched it while this one waited; without a sum, it noted which one it got.
                note = _note(lock)
                file = _open(folder / f"{_name(url, sha256 or str(note.get('sha256', '')))}.tar")
                if file is None:
                    _need_no_pause(note)
                    file = _fetched(url, sha256, folder, lock)
    except OSError as error:
        reason = error.strerror or error
        raise VideoError(
            f"{shown_address(url)} cannot be kept in the cache ({reason}): make room, or set M2CLIP_CACHE to another folder"
        ) from error
    return file


def _name(url: str, sha256: str) -> str:
    """A shard is found by its sum wherever it comes from: the keys in signed addresses change."""
    return hashlib.sha256(repr((_FORMAT, sha256 or url)).encode()).hexdigest()


def _open(path: Path) -> BufferedReader | None:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now
    return file


def _note(lock: int) -> dict[str, Any]:
    """What became of the last try to fetch a shard; it stands in the file that locks it."""
    try:
        note = json.loads(os.pread(lock, 8192, 0))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(lock: int, **note: Any) -> None:
    os.truncate(lock, 0)
    os.pwrite(lock, json.dumps(note).encode(), 0)


def _need_no_pause(note: dict[str, Any]) -> None:
    """Raise what the last try raised, where that is not long ago."""
    failed_at = note.get("failed_at")
    if isinstance(failed_at, float) and 0 <= time.time() - failed_at < _PAUSE_SECONDS:
        raise VideoError(str(note.get("reason")))


def _fetched(url: str, sha256: str, folder: Path, lock: int) -> BufferedReader:
    draft = folder / f"{_name(url, sha256)}.draft"
    try:
        for tries, wait in enumerate((*_WAITS_SECONDS, None), start=1):
            try:
                found = _fetch_checked(url, sha256, draft)
                break
            except VideoError as error:
                if wait is None:
                    reason = f"{error} (asked {tries} times)"
                    _write_note(lock, failed_at=time.time(), reason=reason[:3000])
                    raise VideoError(reason) from None
                time.sleep(wait)
        path = folder / f"{_name(url, found)}.tar"
        _make_room(folder, draft.stat().st_size, but=draft)
        os.replace(draft, path)
        _write_note(lock, sha256=found)
    finally:
        draft.unlink(missing_ok=True)
    return open(path, "rb")


class _Summed:
    """A file that is written, and the sum of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def write(self, piece: bytes) -> int:
        self._digest.update(piece)
        return self._file.write(piece)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _fetch_checked(url: str, sha256: str, draft: Path) -> str:
    """Fetch a shard and return its sum."""
    with open(draft, "wb") as file:
        summed = _Summed(file)
        fetch(url, limits=_LIMITS, to=summed)  # type: ignore[arg-type]
    if sha256 and summed.sha256 != sha256:
        raise VideoError(
            f"{shown_address(url)} is not the file that its index was made of (SHA-256 {summed.sha256[:12]}... instead of "
            f"{sha256[:12]}...): put the shard and the index of one set there; if it has no index, remove shard-contents from the "
            "cache folder"
        )
    return summed.sha256


def _make_room(folder: Path, size: int, *, but: Path) -> None:
    """Remove the shards that were not used for the longest time, and drafts that nobody writes any more."""
    with file_lock(folder / "room.lock"):
        found = []
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".tar"):
                    found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
                elif entry.name.endswith(".draft") and entry.path != str(but):
                    _remove_if_dead(Path(entry.path))
        remove_oldest(found, until=most_bytes() - size)


def _remove_if_dead(draft: Path) -> None:
    with contextlib.suppress(BlockingIOError), file_lock(draft.with_suffix(".lock"), wait=False):
        draft.unlink(missing_ok=True)

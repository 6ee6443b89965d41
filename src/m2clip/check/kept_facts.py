"""Facts of files as lines of JSON, written as they come: a check that was broken off, even by kill -9, goes on from there."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import FileIO
from pathlib import Path

import av
from pydantic import ValidationError

from m2clip import __version__
from m2clip.check.reading import FileFacts, ReadJob, facts_of
from m2clip.data.places import Place, ShardMember
from m2clip.errors import M2CLIPError
from m2clip.report.files import append, whole_file

_FORMAT = 2  # to be raised when `read_file` reads anything else than before
_AGAIN = ("crashes-decoder", "takes-too-long", "too-large")
"""What may have been the machine's state, and is read anew each time."""


class KeptFacts:
    """A file of lines `{"key": ..., "path": ..., "facts": {...}}`; the last line with a key counts, broken lines are passed over."""

    def __init__(self, path: Path | None) -> None:
        """None keeps nothing."""
        self._path = path
        self._known: dict[str, FileFacts] = {}
        self._file: FileIO | None = None
        if path is None:
            return
        whole = True
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    self._take(line)
                    whole = line.endswith(b"\n")
        with self._told():
            self._file = FileIO(path, "a")  # unbuffered: a line is with the system as soon as it is written
        if not whole:
            self._write(b"\n")

    def find(self, key: str, job: ReadJob) -> FileFacts | None:
        """The facts under this key, if they tell of all parts that are asked for."""
        facts = self._known.get(key) if key else None
        if facts is None or (facts.bad is not None and facts.bad[0] in _AGAIN):
            return None
        if facts.bad is None and not set(job.parts) <= {part[:2] for part in facts.parts}:
            return None
        return facts

    def keep(self, key: str, place: Place, facts: FileFacts) -> None:
        """Write a line. M2CLIPError for a full disk."""
        if self._file is not None:
            self._write(_line(key, place, facts))

    def finish(self, rows: Iterable[tuple[str, Place, FileFacts]]) -> None:
        """Write the whole file anew: one line a video, in this order. M2CLIPError for a full disk."""
        self.close()
        if self._path is None:
            return
        with whole_file(self._path) as file:
            file.writelines(_line(*row) for row in rows)

    def close(self) -> None:
        """Give the file back."""
        self._known = {}
        if self._file is not None:
            self._file.close()

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        with self._told():
            append(self._file, line)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise M2CLIPError(
                f"{self._path} cannot be written ({error.strerror or error}); free space or give another folder: what was read is kept"
            ) from error

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            self._known[str(record["key"])] = facts_of(record["facts"])
        except (ValueError, ValidationError, KeyError, TypeError, RecursionError):
            return  # torn by a kill, or not ours


def keys_of(places: Sequence[Place]) -> list[str]:
    """What the facts of each video depend on; empty for what cannot be told from another content of the same name."""
    libraries = "/".join(str(part) for part in av.library_versions["libavcodec"])
    return [_key(place, libraries) for place in places]


def _key(place: Place, libraries: str) -> str:
    inside: tuple[object, ...] = ()
    if isinstance(place, ShardMember):
        inside = (place.name, place.offset, place.size)
    elif not isinstance(place, Path):
        return ""
    path = os.path.abspath(place.shard if isinstance(place, ShardMember) else place)
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if not os.path.isfile(path):
        return ""  # the pictures in a folder change without it
    facts = (_FORMAT, __version__, libraries, path, found.st_size, found.st_mtime_ns, *inside)
    return json.dumps(facts)


def _line(key: str, place: Place, facts: FileFacts) -> bytes:
    return json.dumps({"key": key, "path": str(place), "facts": asdict(facts)}).encode() + b"\n"

"""A tar file that is written piece by piece, the same bytes for the same content: no times, no owners, no order but that of the calls."""

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

_BLOCK = 512  # bytes


@dataclass(frozen=True)
class Written:
    """A member as it was written."""

    offset: int
    """Where its bytes begin in the tar file."""
    size: int
    sha256: str
    """Of its bytes."""


def member_space(size: int) -> int:
    """Bytes that a member of this size takes; a few more from 8 GiB on."""
    return _BLOCK + -(-size // _BLOCK) * _BLOCK


class TarWriter:
    """Writes to `file`, which is empty and open for writing, and sums what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest: Any = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> Written:
        """Add a member. Raises ValueError where the pieces are not `size` bytes; `undo` then takes back what was written."""
        info = tarfile.TarInfo(name)
        info.size = size
        self._write(info.tobuf(format=tarfile.PAX_FORMAT))
        offset, digest = self.size, hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
            self._write(piece)
        if self.size - offset != size:
            raise ValueError(f"{name} has {self.size - offset} bytes, not {size}")
        self._write(bytes(-size % _BLOCK))
        return Written(offset, size, digest.hexdigest())

    def mark(self) -> tuple[int, Any]:
        """Where the file stands now, for `undo`."""
        return self.size, self._digest.copy()

    def undo(self, mark: tuple[int, Any]) -> None:
        """Take back all that was added since."""
        self.size, self._digest = mark[0], mark[1].copy()
        self._file.seek(self.size)
        self._file.truncate()

    def finish(self) -> str:
        """Write the end mark and return the SHA-256 of the whole file."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))
        return str(self._digest.hexdigest())

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

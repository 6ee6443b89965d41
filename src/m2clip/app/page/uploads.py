"""The videos that visitors send: in one private folder, bounded in bytes and in age, known by tokens that cannot be guessed."""

import asyncio
import re
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from m2clip.app.limits import Busy, LimitError, room
from m2clip.errors import VideoError

MOST_SECONDS_KEPT = 30 * 60
UPLOADS_KEPT = 8  # of the greatest size that is taken; the oldest go first
MOST_FILES_KEPT = 500  # however small
MOST_RECEIVED_AT_ONCE = 8


@dataclass
class Uploads:
    """Files by token. A file is deleted when its visitor goes, after half an hour, or to make room for newer ones."""

    most_bytes: int
    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="m2clip-page-", ignore_cleanup_errors=True)
    )
    _kept: dict[str, Path] = field(default_factory=dict)
    _lent: dict[str, Path] = field(default_factory=dict)
    _receiving: int = 0

    @property
    def folder(self) -> Path:
        """Where they lie; nobody else's, and gone with the server."""
        return Path(self._folder.name)

    def lend(self, token: str, path: Path) -> None:
        """A file that every visitor may use by this token, and that is never dropped."""
        self._lent[token] = path

    async def receive(self, pieces: AsyncIterator[bytes], *, name: str) -> str:
        """Write what comes to a file and return its token. LimitError as soon as it is too long, VideoError where it is empty.

        Busy where so many are on their way that the disk may not hold them all.
        """
        if self._receiving >= MOST_RECEIVED_AT_ONCE:
            raise Busy(f"{self._receiving} videos are on their way here; try again in a moment")
        self._receiving += 1
        try:
            with room():
                return await self._received(pieces, name)
        finally:
            self._receiving -= 1

    async def _received(self, pieces: AsyncIterator[bytes], name: str) -> str:
        # The name stays the visitor's; of it, only a plain suffix reaches the disk.
        suffix = Path(name).suffix.lower()
        token = secrets.token_urlsafe(16)
        path = Path(self._folder.name, token + (suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""))
        taken = 0
        try:
            with path.open("xb") as file:
                async for piece in pieces:
                    taken += len(piece)
                    if taken > self.most_bytes:
                        raise LimitError(
                            f"{name} is larger than the {size_text(self.most_bytes)} that are taken here: cut it, or send a smaller copy"
                        )
                    await asyncio.to_thread(file.write, piece)
            if not taken:
                raise VideoError(f"{name} is empty: choose a file that holds a video")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._kept[token] = path
        self._make_room()
        asyncio.get_running_loop().call_later(MOST_SECONDS_KEPT, self.drop, token)
        return token

    def path(self, token: object) -> Path:
        """The file of a token; VideoError where it is gone (or never was)."""
        path = self._lent.get(token, self._kept.get(token)) if isinstance(token, str) else None
        if path is None or not path.is_file():
            raise VideoError("the server no longer has this video: choose it again")
        return path

    def drop(self, token: str | None) -> None:
        """Delete the file of a token, if it is still there."""
        path = self._kept.pop(token, None) if token is not None else None
        if path is not None:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete all of them."""
        self._kept.clear()
        self._folder.cleanup()

    def _make_room(self) -> None:
        sizes = {token: path.stat().st_size for token, path in self._kept.items() if path.is_file()}
        total = sum(sizes.values())
        for token in list(sizes)[:-1]:
            if total <= UPLOADS_KEPT * self.most_bytes and len(self._kept) <= MOST_FILES_KEPT:
                break
            total -= sizes[token]
            self.drop(token)


def size_text(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"

"""The videos of the index that searches have found, each under a key of its own: nothing else of the disk is ever served."""

import hashlib
import io
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2clip.errors import VideoError

MOST_KEYS = 20_000
MOST_PICTURES = 500
PICTURE_SIDE = 360  # pixels, the longer side

Draw = Callable[[Path, int], Awaitable[NDArray[np.uint8]]]
"""(a video, pixels of the longer side at most) -> a picture of it, RGB [H, W, 3]."""


@dataclass
class Shelf:
    """Paths by keys that say nothing of the path and differ from one start of the server to the next."""

    _salt: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    _paths: "OrderedDict[str, Path]" = field(default_factory=OrderedDict)
    _pictures: "OrderedDict[str, bytes]" = field(default_factory=OrderedDict)

    def offer(self, path: str) -> str | None:
        """The key of a video file that the index lists; None for what is no file here (an address, a member of a shard)."""
        place = Path(path)
        if not place.is_file():
            return None
        key = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=16).hexdigest()
        self._paths[key] = place
        self._paths.move_to_end(key)
        while len(self._paths) > MOST_KEYS:
            self._paths.popitem(last=False)
        return key

    def path(self, key: str) -> Path:
        """The file of a key. VideoError where there is none (any more)."""
        path = self._paths.get(key)
        if path is None or not path.is_file():
            raise VideoError("this video is not here any more: search again")
        return path

    async def picture(self, key: str, draw: Draw) -> bytes:
        """A JPEG of the video's middle frame, drawn once. Raises VideoError, and what `draw` raises."""
        kept = self._pictures.get(key)
        if kept is None:
            buffer = io.BytesIO()
            Image.fromarray(await draw(self.path(key), PICTURE_SIDE)).save(buffer, "JPEG", quality=85)
            kept = self._pictures[key] = buffer.getvalue()
            while len(self._pictures) > MOST_PICTURES:
                self._pictures.popitem(last=False)
        return kept

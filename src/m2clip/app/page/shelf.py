"""The videos of the index that searches have found, each under a key of its own: nothing else of the disk is ever served."""

import hashlib
import io
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from m2clip.errors import VideoError

MOST_KEYS = 20_000
MOST_PICTURES = 500
_PICTURE_SIDE = 360  # pixels, the longer side


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

    def picture(self, key: str) -> bytes:
        """A JPEG of the video's middle frame; decoded once. Raises VideoError."""
        kept = self._pictures.get(key)
        if kept is None:
            kept = self._pictures[key] = _middle_frame(self.path(key))
            while len(self._pictures) > MOST_PICTURES:
                self._pictures.popitem(last=False)
        return kept


def _middle_frame(path: Path) -> bytes:
    from m2clip.data.video import Video

    with Video(path, web=None) as video:
        frame = video.frames(np.array([video.info.frame_count // 2]))[0]
    picture = Image.fromarray(np.asarray(frame))
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()

"""The bytes of a listed video, wherever it lies, to be packed into a shard."""

import io
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from m2clip.data.decode.opening import VideoFile, naming_errors
from m2clip.data.lists.listed_rows import VIDEO_SUFFIXES
from m2clip.data.places import Place, ShardMember, WebAddress
from m2clip.data.shards.members import member_bytes
from m2clip.data.shards.tar_members import utf8
from m2clip.data.web import WebLimits, fetch, shown_address
from m2clip.errors import VideoError

_PIECE = 2**20  # bytes read at a time
_WEB = WebLimits(most_bytes=2**32, total_seconds=600.0)


@contextmanager
def opened(place: Place, *, scratch: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A video's bytes, open for reading, and how many they are. What is fetched lies in `scratch` meanwhile.

    Raises VideoError, one sentence with the video's name, for what is no file that can be read. A file whose name, or the name behind
    a link, is not that of a video must open as one.
    """
    if isinstance(place, ShardMember):
        data = member_bytes(place)
        yield io.BytesIO(data), len(data)
    elif isinstance(place, WebAddress):
        with tempfile.TemporaryFile(dir=scratch) as fetched:
            fetch(place.url, limits=_WEB, to=fetched)
            size = fetched.tell()
            fetched.seek(0)
            yield fetched, size
    else:
        try:
            file = _open(place)
        except OSError as error:
            raise VideoError(
                f"cannot read {place}: {error.strerror or error}; check the path and its permissions"
            ) from None
        with file:
            yield file, os.fstat(file.fileno()).st_size


def _open(path: Path) -> BinaryIO:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode) or path.suffix.lower() == ".npy":
        what = "a folder of images" if stat.S_ISDIR(mode) else "an array"
        raise VideoError(
            f"{path} is {what}, and shards hold video files only: make a video file of it, or train from it as it is"
        )
    if not stat.S_ISREG(mode):  # to open a pipe could wait for ever
        raise VideoError(f"cannot read {path}: it is no file; give a video file")
    file = open(path, "rb")  # noqa: SIM115
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise VideoError(f"cannot read {path}: the file is empty; fetch or copy it again")
    try:
        # A stranger's list, or a link in a stranger's folder, may name any file of whoever packs it and then gives the shards away.
        if not {os.path.splitext(name)[1].lower() for name in (path, os.path.realpath(path))} <= VIDEO_SUFFIXES:
            with naming_errors(str(path)):
                VideoFile(file, name=str(path)).close()
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def pieces(file: BinaryIO, place: Place, *, size: int) -> Iterator[bytes]:
    """The bytes of an opened video, some at a time. Raises VideoError, also where they are not `size`."""
    left = size
    try:
        while left >= 0 and (piece := file.read(_PIECE)):
            left -= len(piece)
            yield piece
    except OSError as error:
        raise VideoError(f"cannot read {place}: {error.strerror or error}; check its disk, or copy it again") from None
    if left:
        raise VideoError(f"cannot read {place}: it changes while it is read; pack it when nothing writes it")


def noted(place: Place, base: Path) -> str:
    """How a shard records where a video came from: relative to `base`, so that the same data elsewhere makes the same shard."""
    if isinstance(place, ShardMember):
        return str(place)
    if isinstance(place, WebAddress):
        return shown_address(place.url)
    text = str(place.relative_to(base)) if place.is_relative_to(base) else str(place)
    return utf8(text)


def suffix_of(place: Place) -> str:
    """The ending of a video's name, in lower case, without the dot; what tells nothing becomes `video`."""
    name = place.name if isinstance(place, Path | ShardMember) else place.url.partition("?")[0]
    found = re.search(r"\.([a-z0-9]{1,5})$", name.lower())
    return found[1] if found else "video"

"""What a video can be given as -> its frames: a file, a folder of images, a web address, open files, pictures in memory."""

import contextlib
import io
import os
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from m2clip.data.array_frames import ArrayFrames, pictures_of
from m2clip.data.decode.decoding import FileFrames
from m2clip.data.decode.opening import naming_errors
from m2clip.data.decode.portions import Each
from m2clip.data.image_folder import FolderFrames
from m2clip.data.places import ShardMember, WebAddress
from m2clip.data.shards.members import member_bytes, named_member
from m2clip.data.web import WebLimits, fetch, is_web_address, shown_address
from m2clip.errors import VideoError

_ACCEPTED = (
    "a path (of a video file, a folder of images or an .npy file), a web address, the bytes of a video file, a file opened as "
    "'rb', a uint8 array [T, H, W, 3], a uint8 tensor [T, 3, H, W] or a list of equally large images"
)
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive (as .npz is)",
    b"\x1f\x8b": "packed by gzip",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
}
_PIECE_BYTES = 2**20
_LONGEST_PATH = 32_767  # of any system; a longer text is something else, and a message should not repeat it


class Frames(Protocol):
    """The frames of one video, wherever they come from; `FileFrames` says what each part means."""

    @property
    def frame_count(self) -> int:
        """How many can be had."""

    @property
    def lost_frames(self) -> int:
        """How many damage has taken."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""

    @property
    def rotation_degrees(self) -> int:
        """By how much stored pictures are turned clockwise."""

    @property
    def codec(self) -> str:
        """What they are stored as."""

    def times(self) -> tuple[np.ndarray, float, float]:
        """Seconds of each frame, frames a second, seconds to the end."""

    def read(self, ranks: np.ndarray, each: Each | None = None) -> np.ndarray:
        """The frames of these ranks, or what `each` makes of them."""

    def close(self) -> None:
        """Give the source back."""


def frames_of(source: Any, *, web: WebLimits | None, held: ExitStack) -> tuple[str, Frames]:
    """The name of a video in messages, and its frames. What must be given back with them is left to `held`.

    `web`: what a fetch may take; None: addresses are refused. Raises VideoError.
    """
    if isinstance(source, str) and is_web_address(source):
        source = WebAddress(source)
    if isinstance(source, WebAddress):
        name = shown_address(source.url)
        return name, _frames_of_open_file(_fetched(source.url, name, web, held), name)
    if isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        source = named_member(name)
        if source is None:
            return name, _frames_of_path(name)
    if isinstance(source, ShardMember):
        name = str(source)
        if web is None and is_web_address(source.shard):
            raise VideoError(f"cannot read {name}: web addresses are switched off here; fetch the shard first")
        return name, _frames_of_open_file(io.BytesIO(member_bytes(source)), name)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        name = f"the video of {len(data)} bytes"
        return name, _frames_of_open_file(io.BytesIO(data), name)
    if callable(getattr(source, "read", None)) and not isinstance(source, type):
        own = getattr(source, "name", None)
        name = f"the open file {own}" if isinstance(own, str) else "the open file"
        return name, _frames_of_open_file(_copied(source, name, held), name)
    frames = ArrayFrames(pictures_of(source, accepted=_ACCEPTED))
    return f"the array of {frames.frame_count} frames", frames


def _frames_of_path(name: str) -> Frames:
    if not name:
        raise VideoError("the path of a video is empty; give a video file")
    path = Path(name)
    if name.startswith("~") and not os.path.exists(path):
        with contextlib.suppress(RuntimeError):  # there is no such user
            path = path.expanduser()
    with naming_errors(name):
        if path.is_dir():
            return FolderFrames(path, name=name)
        _check_is_path(name, path)
        if path.is_file():
            with path.open("rb") as file:
                if _is_npy(file, name):
                    return _frames_of_npy(path, name)
    return FileFrames(path, name=name)


def _check_is_path(name: str, path: Path) -> None:
    """What is no path gets a better sentence than that there is no such file."""
    if len(name) > _LONGEST_PATH:
        raise VideoError(f"no path has {len(name)} characters; pass the content of a file as bytes")
    if os.path.exists(path):
        return
    address = re.match(r"([a-z][a-z0-9+.-]+):/", name, re.IGNORECASE)
    if address is None:
        if re.search(r"[*?]|%(0?\d+)?d\.", path.name):
            raise VideoError(f"cannot read {name}: a pattern is no path; give the folder of the images itself")
        return
    scheme = address[1].lower()
    if scheme in ("http", "https"):
        remedy = "a Path holds no web address, for it merges the slashes; pass a string"
    elif scheme == "file":
        remedy = "give the path alone, without file://"
    else:
        remedy = "only addresses that begin with http:// or https:// are fetched; fetch it first and give its path"
    raise VideoError(f"cannot read {name}: {remedy}")


def _frames_of_open_file(file: BinaryIO, name: str) -> Frames:
    with naming_errors(name):
        return _frames_of_npy(file, name) if _is_npy(file, name) else FileFrames(file, name=name)


def _is_npy(file: BinaryIO, name: str) -> bool:
    """Whether an open file holds an array, by its first bytes; it is at its start again afterwards. Archives are refused."""
    start = file.read(8)
    file.seek(0)
    for magic, what in _ARCHIVES.items():
        if start.startswith(magic):
            raise VideoError(
                f"cannot read {name}: it is {what}; unpack it and give the video or the folder of images in it"
            )
    return start.startswith(b"\x93NUMPY")


def _frames_of_npy(file: Path | BinaryIO, name: str) -> Frames:
    try:
        # A file by its path is mapped into memory: only the frames that are asked for are read from the disk.
        array = np.load(file, mmap_mode="r" if isinstance(file, Path) else None, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a broken header is parsed as Python's literals, which fail in many ways
        reason = " ".join(str(error).split())[:200]
        raise VideoError(f"cannot read {name}: this .npy file holds no whole array of numbers ({reason})") from error
    try:
        return ArrayFrames(pictures_of(array, accepted=_ACCEPTED))
    except VideoError as error:
        raise VideoError(f"cannot read {name}: {error}") from error


def _fetched(url: str, name: str, web: WebLimits | None, held: ExitStack) -> BinaryIO:
    """A copy of what lies at the address, in a file without a name, which is gone when it is closed, or with this process."""
    if web is None:
        raise VideoError(
            f"cannot read {name}: web addresses are switched off here; fetch the file first and give its path"
        )
    with naming_errors(name):
        file = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        fetch(url, limits=web, to=file)
        file.seek(0)
    return file


def _copied(source: Any, name: str, held: ExitStack) -> BinaryIO:
    """A copy of an open file: from its start, or where it cannot go back, from where it stands. It is left as it was."""
    with naming_errors(name):
        copy = held.enter_context(tempfile.SpooledTemporaryFile(max_size=64 * _PIECE_BYTES))  # noqa: SIM115
        try:
            position = source.tell() if getattr(source, "seekable", lambda: hasattr(source, "tell"))() else None
            if position is not None:
                source.seek(0)
            while piece := source.read(_PIECE_BYTES):
                if not isinstance(piece, bytes | bytearray | memoryview):
                    raise VideoError(f"cannot read {name}: its read() gives {type(piece).__name__}; open it with 'rb'")
                copy.write(piece)
            if position is not None:
                source.seek(position)
        except VideoError:
            raise
        except ValueError as error:  # closed, or not open for reading
            raise VideoError(f"cannot read {name}: {error}; open it with 'rb' and leave it open") from error
        except (OSError, MemoryError):
            raise
        except Exception as error:
            # An object of another library raises what it likes where what it unpacks or fetches is broken.
            what = " ".join(str(error).split()) or type(error).__name__
            raise VideoError(f"cannot read {name}: {what}; pass a whole file that is opened with 'rb'") from error
        copy.seek(0)
    return copy  # type: ignore[return-value]

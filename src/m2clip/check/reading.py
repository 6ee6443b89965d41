"""One video read to its end, and what that told. Runs in a child process (`apart.py`), so results are plain JSON values."""

import base64
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from m2clip.apart import Alive
from m2clip.check.header import Header, read_header, times_out_of_order
from m2clip.check.oddities import oddities, oddities_of_pictures
from m2clip.data.decode.opening import VideoFile
from m2clip.data.parts import frames_between
from m2clip.data.places import Place, ShardMember, WebAddress, absence, is_absent
from m2clip.data.shards.members import member_bytes
from m2clip.data.video import Video, VideoInfo
from m2clip.errors import ConfigError, VideoError

T = TypeVar("T")

_CHUNK_FRAMES = 64  # read between two signs of life
_GRID = 16  # a frame's fingerprint: pixels of a grid of 16x16
_BLOCK_BYTES = 1 << 20
_THUMBNAIL_PIXELS = 160


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What reading a file to its end told; all about pictures is 0 or empty where `bad` says why there are none."""

    size_bytes: int = 0
    sha256: str = ""
    """Of the bytes, in hex; empty for what is not one file (a folder of pictures, a web address)."""
    pictures: str = ""
    """Fingerprint of the decoded pictures, in hex: equal for a video in two containers."""
    frames: int = 0
    lost_frames: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration_seconds: float = 0.0
    codec: str = ""
    bad: tuple[str, str] | None = None
    """Code word and sentence."""
    odd: tuple[tuple[str, str], ...] = ()
    parts: tuple[tuple[float | None, float | None, int], ...] = ()
    """Of each listed part: start, end, and how many frames it has; 0: it is not in the video."""

    @property
    def lost_share(self) -> float:
        """0..1: of the frames that the file promises."""
        return self.lost_frames / max(1, self.frames + self.lost_frames)


_FACTS = TypeAdapter(FileFacts)


def facts_of(values: dict[str, Any]) -> FileFacts:
    """The facts that JSON brought; raises pydantic's ValidationError."""
    return _FACTS.validate_python(values)


def bounds_of(start_seconds: float | None, end_seconds: float | None) -> tuple[float, float]:
    """A part's bounds as numbers: 0 and infinity for the video's own."""
    return start_seconds or 0.0, math.inf if end_seconds is None else end_seconds


@dataclass(frozen=True)
class ReadJob:
    """A video to read, and the parts of it that lists name."""

    place: Place
    parts: tuple[tuple[float | None, float | None], ...] = ()


def read_file(job: ReadJob, alive: Alive) -> dict[str, Any]:
    """Read all frames of a video: the fields of FileFacts."""
    size_bytes, sha256 = 0, ""
    try:
        if is_absent(job.place):
            raise _Unusable("missing", absence(job.place))
        size_bytes, sha256 = _identity(job.place, alive)
        if not size_bytes and sha256:
            raise _Unusable("empty", "the file has no bytes; fetch or copy it again")
        facts = FileFacts(size_bytes=size_bytes, sha256=sha256, **_picture_facts(job, alive))
    except _Unusable as error:
        facts = FileFacts(size_bytes=size_bytes, sha256=sha256, bad=(error.code, _sentence(error, job.place)))
    return asdict(facts)


def read_thumbnail(place: Place, alive: Alive) -> str:
    """The middle frame as a small JPEG in base64; empty where there is none."""
    from PIL import Image

    try:
        with Video(place) as video:
            alive()
            frame = video.frames([video.info.frame_count // 2])[0]
    except VideoError:
        return ""
    picture = Image.fromarray(np.ascontiguousarray(frame))
    picture.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=75)
    return base64.b64encode(content.getvalue()).decode("ascii")


class _Unusable(Exception):
    """Why a video cannot be used."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def _identity(place: Place, alive: Alive) -> tuple[int, str]:
    """Bytes of the file, and their SHA-256; (0, "") for what is not one file."""
    digest = hashlib.sha256()
    size = 0
    try:
        if isinstance(place, WebAddress) or (isinstance(place, Path) and not place.is_file()):
            return 0, ""
        for block in [member_bytes(place)] if isinstance(place, ShardMember) else _blocks(place):
            digest.update(block)
            size += len(block)
            alive()
    except OSError as error:
        raise _Unusable("unreadable", f"cannot read {place}: {error.strerror or error}") from error
    except VideoError as error:
        raise _Unusable("unreadable", str(error)) from error
    return size, digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _picture_facts(job: ReadJob, alive: Alive) -> dict[str, Any]:
    opened = False
    try:
        header = _of_container(job.place, read_header, alive)
        opened = header is not None
        with Video(job.place) as video:
            alive()
            pictures = _fingerprint(video, alive)
            info = video.info  # after all frames were read: damage may only have shown then
        disorder = None
        if header is not None and _may_be_out_of_order(header, info):
            disorder = _of_container(job.place, times_out_of_order, alive)
    except VideoError as error:
        raise _Unusable(_code(error, opened=opened), str(error)) from error
    return {
        "pictures": pictures,
        "frames": info.frame_count,
        "lost_frames": info.lost_frames,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "duration_seconds": info.duration_seconds,
        "codec": info.codec,
        "odd": tuple(oddities_of_pictures(info) if header is None else oddities(info, header, disorder)),
        "parts": tuple((start, end, _part_frames(info, start, end)) for start, end in job.parts),
    }


def _code(error: VideoError, *, opened: bool) -> str:
    if isinstance(error.__cause__, MemoryError):
        return "too-large"
    if str(error).startswith("no video stream in "):
        return "no-video-stream"
    return "no-frames" if opened else "unreadable"


def _of_container(place: Place, read: Callable[[VideoFile, Alive], T], alive: Alive) -> T | None:
    """What `read` tells of the video's container; None for a folder of pictures, an array or a web address, which have none."""
    if isinstance(place, ShardMember):
        file = VideoFile(member_bytes(place), name=str(place))
    elif isinstance(place, Path) and not place.is_dir() and place.suffix.lower() != ".npy":
        file = VideoFile(place, name=str(place))
    else:
        return None
    try:
        return read(file, alive)
    finally:
        file.close()


def _fingerprint(video: Video, alive: Alive) -> str:
    """Read all frames; a digest of their number, their size and the pixels of a grid of each."""
    info = video.info
    rows = np.linspace(0, info.height - 1, _GRID).astype(np.int64)[:, None]
    columns = np.linspace(0, info.width - 1, _GRID).astype(np.int64)
    digest = hashlib.sha256()
    start = 0
    while start < (count := video.info.frame_count):
        stop = min(start + _CHUNK_FRAMES, count)
        pixels = video.frames(np.arange(start, stop), each=lambda frames: frames[:, rows, columns])
        # Damage that shows now takes frames away: what was asked past the new end is the last frame again.
        digest.update(np.ascontiguousarray(pixels[: max(0, video.info.frame_count - start)]).data)
        start = stop
        alive()
    digest.update(repr((video.info.frame_count, info.width, info.height)).encode())
    return digest.hexdigest()


def _may_be_out_of_order(header: Header, info: VideoInfo) -> bool:
    """AVI stores no times of presentation; elsewhere reading by packets has compared every time, unless packets were doubtful."""
    promised = info.frame_count + info.lost_frames
    return header.container == "avi" or header.odd_times or header.shown_packets != promised


def _part_frames(info: VideoInfo, start: float | None, end: float | None) -> int:
    try:
        first, stop = frames_between(info.pts_seconds, start_seconds=start, end_seconds=end)
    except ConfigError:
        return 0
    return stop - first


def _sentence(error: _Unusable, place: Place) -> str:
    """The message with the file's name alone: a report has its path beside. File names need not be valid Unicode; a report is."""
    name = place.name if isinstance(place, Path | ShardMember) else str(place)
    return str(error).replace(str(place), name).encode("utf-8", "backslashreplace").decode("utf-8")

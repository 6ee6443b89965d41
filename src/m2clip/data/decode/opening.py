"""Opens the first video stream of a file, and turns what goes wrong into one sentence that names the file."""

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from m2clip.data.decode.layout import is_cut
from m2clip.data.places import absence
from m2clip.errors import VideoError

MOST_PIXELS = 8192 * 8192  # of a picture; one of them takes 200 MB as RGB
_MOST_STREAMS = 100
_STILLS = {"mjpeg": "JPEG", "png": "PNG"}  # FFmpeg's names and Pillow's

# Only containers of moving pictures, and only the file itself: a playlist or script that calls itself .mp4 must not
# make the decoder open other files or addresses (videos also come from strangers, through the server).
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,gif,apng,ogg,asf,nut,rm,mxf,dv,"
    "yuv4mpegpipe,mjpeg,wtv"
)
_OPTIONS = {
    "format_whitelist": CONTAINERS,
    "protocol_whitelist": "file",
    "max_streams": str(_MOST_STREAMS),
    "max_pixels": str(MOST_PIXELS),  # for the decoders that FFmpeg opens to look at a file
}
# MP4s of images: FFmpeg gives each still, and each tile of one, as a stream of one frame, also beside an animation.
_IMAGE_BRANDS = ("avif", "avis", "heic", "heix", "hevc", "mif1", "msf1")
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class VideoFile:
    """A file by its path, its bytes or open for reading (it stays open), from its start. `name` stands in messages; raises VideoError."""

    def __init__(self, source: Path | BinaryIO | bytes, *, name: str) -> None:
        self.source = source = io.BytesIO(source) if isinstance(source, bytes) else source
        self.name = name
        _check_present(source, name)
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as content:
            self.is_cut = is_cut(content, name=name)
            """Whether the file ends before its outermost parts do, as they give their sizes."""
        self.container, self.stream = _open(source, name, is_cut=self.is_cut)

    def reopen(self) -> None:
        """Go back to the start: a new container is there for certain; seeking back is not exact in every format."""
        with naming_errors(self.name):  # a file that is gone is no broken data, which those who read go on after
            container, stream = _open(self.source, self.name, is_cut=self.is_cut)
        self.close()
        self.container, self.stream = container, stream

    def close(self) -> None:
        """Give the file back."""
        self.container.close()


def refuse_hidden_size(file: VideoFile) -> None:
    """Raise VideoError for pictures that are too large where FFmpeg, which may not decode one, does not say why."""
    if file.stream.codec_context.codec.canonical_name not in _STILLS:
        if not file.stream.codec_context.width:  # FFmpeg forgets a size that is too large, and one that makes no sense
            raise VideoError(
                f"cannot read {file.name}: its pictures have no size, or more than {MOST_PIXELS:,} pixels; make them smaller, or fetch it "
                "again"
            )
        return
    file.reopen()
    packet = next(file.container.demux(file.stream), None)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(bytes(packet or b"")), formats=tuple(_STILLS.values())) as image,
        ):
            width, height = image.size  # opening a picture reads its header
    except Image.DecompressionBombError:
        raise VideoError(
            f"cannot read {file.name}: its pictures have more than {MOST_PIXELS:,} pixels; make them smaller"
        ) from None
    except (OSError, ValueError, SyntaxError):  # it is no such picture
        return
    _check_size(width, height, file.name)


@contextmanager
def naming_errors(name: str) -> Iterator[None]:
    """Turn what the decoder or the system raises into a VideoError that names the file."""
    try:
        yield
    except MemoryError as error:
        raise VideoError(f"cannot read {name}: its pictures do not fit into memory; make them smaller") from error
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        raise VideoError(f"cannot read {name}: {reason}; check the file and its permissions") from error


def _open(source: Path | BinaryIO, name: str, *, is_cut: bool) -> tuple[InputContainer, VideoStream]:
    if not isinstance(source, Path):
        source.seek(0)
    # The prefix keeps a name such as "http:x.mp4" a file name.
    file = f"file:{os.fspath(source)}" if isinstance(source, Path) else source
    try:
        container = av.open(file, "r", options=_OPTIONS, metadata_errors="replace")  # titles come in any encoding
    except av.ArgumentError as error:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as content:
            _refuse_huge_png(content, name)
        raise VideoError(
            f"no video stream in {name}: its format is none that holds a video "
            "(mp4, mov, mkv, webm, avi, mpeg, flv, wmv, gif); convert it"
        ) from error
    except (av.InvalidDataError, av.EOFError) as error:
        raise VideoError(
            f"cannot read {name}: it is no video file, or one whose header is missing (a cut download); "
            "fetch or export it again"
        ) from error
    try:
        return container, _video_stream(container, name, is_cut=is_cut)
    except BaseException:
        container.close()
        raise


def _refuse_huge_png(content: BinaryIO, name: str) -> None:
    """An animated PNG that is too large is told from other formats by its first bytes alone: FFmpeg does not open it."""
    content.seek(0)
    start = content.read(24)
    if len(start) == 24 and start.startswith(b"\x89PNG\r\n\x1a\n") and start[12:16] == b"IHDR":
        width, height = struct.unpack(">II", start[16:24])
        _check_size(width, height, name)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        raise VideoError(
            f"cannot read {name}: its pictures are {width} x {height} pixels, more than {MOST_PIXELS:,} in all; make them smaller"
        )


def _check_present(source: Path | BinaryIO, name: str) -> None:
    if not isinstance(source, Path):
        if not source.seek(0, os.SEEK_END):
            raise VideoError(f"cannot read {name}: there are no bytes; pass a whole video file")
    elif not source.exists():
        raise VideoError(f"cannot read {name}: {absence(source)}")
    elif not stat.S_ISREG((found := source.stat()).st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise VideoError(f"cannot read {name}: it is {what}; give a video file")
    elif found.st_size == 0:
        raise VideoError(f"cannot read {name}: the file is empty; fetch or copy it again")


def _video_stream(container: InputContainer, name: str, *, is_cut: bool) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
    if not streams:
        kinds = {"a cover" if stream.type == "video" else stream.type for stream in container.streams}
        what = f"it holds {' and '.join(sorted(kinds, reverse=True))} only" if kinds else "it holds no stream at all"
        remedy = ", and the file is cut; fetch or copy it again" if is_cut else "; give a file with moving pictures"
        raise VideoError(f"no video stream in {name}: {what}{remedy}")
    if container.metadata.get("major_brand") in _IMAGE_BRANDS:
        streams = [stream for stream in streams if stream.frames > 1]
        if not streams:
            raise VideoError(f"no video stream in {name}: it is a still image; give a file with moving pictures")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(f"cannot read {name}: PyAV has no decoder for its codec; convert it to h264 in mp4")
    _check_size(stream.codec_context.width, stream.codec_context.height, name)
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # they may grow on the way
    # Many workers decode at once: one thread each is fastest, and what broken data decodes to depends on nothing else.
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream

"""What a decoding process does: read one upload after another, and send plain bytes, never pickles, for it has read strangers' files.

Each message is JSON, {"document": ..., "blocks": [[dtype, shape], ...]}, followed by the bytes of its blocks. A job ends with
{"end": true} or {"error": [kind, sentence]}.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from m2clip.apart import confine, end_with_parent
from m2clip.data.clip_reader import ClipReader
from m2clip.data.timeline_reader import TimelineReader, WindowClips
from m2clip.data.video import Video, VideoInfo
from m2clip.errors import M2CLIPError

Part = tuple[dict[str, Any], Sequence[np.ndarray]]
"""A document and arrays beside it."""


@dataclass(frozen=True)
class VideoLimits:
    """What a video may have to be decoded."""

    most_seconds: float
    most_pixels: int
    most_frames: int

    def check(self, info: VideoInfo) -> None:
        """Raise OverLimit, one sentence without a name, for a video that has more."""
        if info.width * info.height > self.most_pixels:
            raise OverLimit(
                f"its frames have {info.width} x {info.height} pixels; {self.most_pixels:,} in all are allowed; make them smaller"
            )
        if info.duration_seconds > self.most_seconds:
            raise OverLimit(f"it lasts {info.duration_seconds:.1f} s; {self.most_seconds:g} s are allowed; cut it")
        if info.frame_count > self.most_frames:
            raise OverLimit(f"it has {info.frame_count:,} frames; {self.most_frames:,} are allowed; cut it")


class OverLimit(M2CLIPError):
    """A video is larger than may be decoded."""


@dataclass(frozen=True)
class ClipsJob:
    """Read a video once as each of these readers does: facts and times first, then three arrays a reader."""

    path: Path
    name: str
    """The client's name for it, which stands in messages; where the file lies here is nobody's business."""
    limits: VideoLimits
    readers: Mapping[str, ClipReader]

    def run(self) -> Iterator[Part]:
        """Yield one part for each reader, then the facts, which are certain only when all is read."""
        with Video(self.path, web=None) as video:
            self.limits.check(video.info)
            for name, reader in self.readers.items():
                clips = reader.read(video)
                yield {"reader": name}, (clips.pixels.numpy(), clips.frame_indices, clips.frame_seconds)
            yield _facts(video.info)


@dataclass(frozen=True)
class TimelineJob:
    """Read a video for the windows of its timeline: a part for each chunk that the reader gives."""

    path: Path
    name: str
    limits: VideoLimits
    reader: TimelineReader
    most_windows: int

    def run(self) -> Iterator[Part]:
        """Yield windows that are clips of their own, or frames and the windows that begin in them, as the reader does."""
        with Video(self.path, web=None) as video:
            self.limits.check(video.info)
            windows = video.info.duration_seconds / self.reader.step_seconds
            if windows > self.most_windows:
                raise OverLimit(
                    f"it makes {windows:,.0f} windows; {self.most_windows:,} are allowed; give a longer step"
                )
            for chunk in self.reader.read(video):
                if isinstance(chunk, WindowClips):
                    clips = chunk.clips
                    yield {"spans": chunk.spans}, (clips.pixels.numpy(), clips.frame_indices, clips.frame_seconds)
                else:
                    yield {"windows": chunk.windows}, (chunk.frames.pixels.numpy(), chunk.frames.seconds)


@dataclass(frozen=True)
class PictureJob:
    """Draw a video's middle frame small."""

    path: Path
    name: str
    limits: VideoLimits
    side: int
    """Pixels that the longer side of the picture has at most."""

    def run(self) -> Iterator[Part]:
        """Yield the picture, uint8 RGB [H, W, 3]."""
        with Video(self.path, web=None) as video:
            self.limits.check(video.info)
            frame = video.frames(np.array([video.info.frame_count // 2]))[0]
        picture = Image.fromarray(frame)
        picture.thumbnail((self.side, self.side))
        yield {}, (np.asarray(picture),)


Job = ClipsJob | TimelineJob | PictureJob


def _facts(info: VideoInfo) -> Part:
    document = {name: value for name, value in vars(info).items() if name != "pts_seconds"}
    return document, (info.pts_seconds,)


def serve_decoding(connection: Connection, memory_bytes: int) -> None:
    """The process: one job after the other, until the parent is gone."""
    end_with_parent()
    confine(memory_bytes, writes_files=False)
    with suppress(EOFError, OSError):
        connection.send_bytes(json.dumps({"ready": True}).encode())
        while True:
            job = connection.recv()
            _do(connection, job)


def _do(connection: Connection, job: Job) -> None:
    try:
        for document, arrays in job.run():
            arrays = [np.ascontiguousarray(array) for array in arrays]
            blocks = [[array.dtype.name, list(array.shape)] for array in arrays]
            connection.send_bytes(json.dumps({"document": document, "blocks": blocks}).encode())
            for array in arrays:
                connection.send_bytes(array.tobytes())
        last: dict[str, Any] = {"end": True}
    except M2CLIPError as error:
        last = {
            "error": ["limit" if isinstance(error, OverLimit) else "video", str(error).replace(str(job.path), job.name)]
        }
    except MemoryError:
        last = {
            "error": [
                "video",
                f"cannot read {job.name}: decoding it takes more memory than is allowed; make it smaller",
            ]
        }
    connection.send_bytes(json.dumps(last).encode())

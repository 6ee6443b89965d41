"""A folder of decoded frames, for training that sees the same videos in many epochs on a machine with few cores.

Each file holds all frames of one sample, uint8 [N, H, W, 3], in NumPy's format, and behind them their times. It is mapped
into memory, so only the frames that a clip takes are read, and processes share them. Frames are kept at their own size, so
that a clip from the cache is a clip from the video to the last bit; only with `short_side` are larger ones shrunk.
"""

import contextlib
import hashlib
import logging
import os
import stat
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import PIL
import torch

from m2clip.data.manifest import Sample
from m2clip.data.parts import Part
from m2clip.data.places import Place, ShardMember
from m2clip.data.transforms import shrunk
from m2clip.data.video import Video
from m2clip.data.web import is_web_address
from m2clip.drafts import DRAFT, draft, sweep
from m2clip.errors import ConfigError

_FORMAT = 3  # to be raised when the same settings give other frames than before
_FRAMES_AT_A_TIME = 16  # held in memory while a file is written
_SCAN_SECONDS = 10.0  # how old a look at the folder's size may be
_log = logging.getLogger("m2clip")


class _DamageShowed(Exception):
    """Frames are missing that nobody knew of before; they are counted anew, and nothing is kept."""


class CachedFrames(NamedTuple):
    """The frames of a sample, without the rest of its video."""

    pixels: np.ndarray
    """uint8 [N, H, W, 3], read from the disk as they are used."""
    part: Part
    """Their times in the video; frames count from 0 here."""


class FrameCache:
    """Frames of samples in `folder`, about `most_bytes` of them at most; what does not fit is decoded each time.

    `short_side`: pixels that the short side of larger frames is shrunk to; None: frames are kept as they are. A file is
    found by the video's path, size and time, the sample's part, these settings and the versions that made it. It is written
    under another name first, so that it is there whole or not at all, whoever is killed or writes at the same time. Where
    the folder cannot be written to, a sentence tells so once, and training goes on.
    """

    def __init__(self, folder: str | Path, *, most_bytes: int, short_side: int | None = None) -> None:
        self._folder, self._most_bytes, self._short_side = Path(folder), most_bytes, short_side
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"data.cache: {folder} cannot be made ({reason}); give another folder, or none"
            ) from error
        self._told = torch.zeros((), dtype=torch.int64).share_memory_()  # shared, so that not every worker says it
        self._used, self._scanned = 0, -_SCAN_SECONDS

    def frames(self, sample: Sample) -> CachedFrames | None:
        """The frames of a sample; None where they are not kept."""
        path = self._path(sample)
        if path is None:
            return None
        try:
            frames = np.load(path, mmap_mode="r", allow_pickle=False)
            times = np.fromfile(path, np.float64, offset=frames.offset + frames.nbytes)
            size = frames.offset + frames.nbytes + times.nbytes
            if frames.dtype != np.uint8 or frames.ndim != 4 or size != path.stat().st_size:
                raise ValueError("it holds something else")
            if len(times) != len(frames) + 1:
                raise ValueError("its times are cut off")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            self._tell(f"{path}: this file of the cache cannot be used ({error}) and is made anew")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return CachedFrames(frames, Part(0, times[:-1], float(times[-1])))

    def keep(self, sample: Sample, part: Part) -> CachedFrames | None:
        """Keep the frames of a part of a video as those of a sample, and give them back as `frames` does.

        None where they are not kept: they do not fit, cannot be written, or the video turns out to be damaged.
        """
        path = self._path(sample)
        if path is None:
            return None
        with Video(sample.path) as video:
            kept = self._write(path, video, part)
        return self.frames(sample) if kept else None

    def _write(self, path: Path, video: Video, part: Part) -> bool:
        info = video.info
        each = None
        height, width = info.height, info.width
        if self._short_side is not None and min(height, width) > self._short_side:
            each = partial(shrunk, size=self._short_side)
            height, width = each(np.zeros((1, height, width, 3), np.uint8)).shape[1:3]
        shape = (part.stop - part.first, height, width, 3)
        size = int(np.prod(shape))
        if self._bytes_used() + size > self._most_bytes:
            self._tell(
                f"{self._folder}: the cache holds what data.cache_gib allows; other videos are decoded each time"
            )
            return False
        try:
            with draft(path) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for first in range(part.first, part.stop, _FRAMES_AT_A_TIME):
                    some = range(first, min(first + _FRAMES_AT_A_TIME, part.stop))
                    file.write(video.frames(some, each=each).data)
                    if video.info.frame_count != info.frame_count:
                        raise _DamageShowed
                file.write(np.append(part.pts_seconds, part.end_seconds).data)
        except _DamageShowed:
            return False
        except OSError as error:
            reason = error.strerror or error
            self._tell(f"{self._folder}: the cache cannot be written ({reason}); videos are decoded each time")
            return False
        self._used += size
        return True

    def _path(self, sample: Sample) -> Path | None:
        """The file of a sample; None where nobody can tell whether its video is still the same."""
        video = _identity(sample.path)
        if video is None:
            return None
        part = (sample.start_seconds, sample.end_seconds)
        versions = [av.library_versions[name] for name in ("libavcodec", "libavformat", "libswscale")]
        facts = (_FORMAT, video, part, self._short_side, versions)
        return self._folder / f"{hashlib.sha256(repr(facts).encode()).hexdigest()}.npy"

    def _bytes_used(self) -> int:
        if time.monotonic() - self._scanned > _SCAN_SECONDS:  # others write here, too
            self._used = 0
            with contextlib.suppress(OSError):
                for entry in os.scandir(self._folder):
                    with contextlib.suppress(OSError):
                        found = entry.stat()
                        if entry.name.endswith(DRAFT):
                            sweep(entry.path)
                        else:
                            self._used += found.st_size
            self._scanned = time.monotonic()
        return self._used

    def _tell(self, sentence: str) -> None:
        if not self._told:
            self._told.fill_(1)
            _log.warning(sentence)


def _identity(place: Place) -> tuple[object, ...] | None:
    """What changes where a video changes; None where nothing is known to."""
    member: tuple[object, ...] = ()
    if isinstance(place, ShardMember):
        member = (place.offset, place.size)
        if is_web_address(place.shard):
            return (place.shard_sha256, *member) if place.shard_sha256 else None
    elif not isinstance(place, Path):
        return None
    try:
        path = os.path.abspath(place.shard if isinstance(place, ShardMember) else place)
        found = os.stat(path)
        # The time of a folder of images does not change where an image in it is written anew.
        images = _facts_of_images(path) if stat.S_ISDIR(found.st_mode) else ()
    except (OSError, ValueError):
        return None
    return (path, found.st_size, found.st_mtime_ns, images, *member)


def _facts_of_images(folder: str) -> tuple[object, ...]:
    with os.scandir(folder) as entries:
        files = sorted((entry.name, (found := entry.stat()).st_size, found.st_mtime_ns) for entry in entries)
    return PIL.__version__, files

"""Frames that lie in a folder as images (frame_00001.jpg, frame_00002.jpg, ...); only the asked-for ones are read.

Pillow decodes them: JPEG as most software of the field does, PNG exactly. What it can read is narrowed to formats of plain
pixels, by content, so that no name makes it run another program.
"""

import os
import re
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from m2clip.data.decode.opening import MOST_PIXELS
from m2clip.data.decode.portions import Each, in_portions
from m2clip.errors import VideoError

IMAGES_FPS = 25.0  # images in a folder or in memory carry no times
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
_ORIENTATION = 0x0112  # EXIF
_TURNED = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}  # by the value of the orientation, degrees clockwise


class _BrokenImage(Exception):
    """An image that cannot be read, by its position among the ones that could."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(reason)
        self.rank = rank


class _Opened(NamedTuple):
    pixels: np.ndarray  # uint8 [H, W, 3], upright
    codec: str
    rotation_degrees: int


class FolderFrames:
    """The same face as FileFrames for a folder of images, in the order of the numbers in their names.

    Gaps in the numbers are no frames. A broken image is a lost frame: those behind it move up, and keep their times.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self._name = name
        self._images = _images(folder, name)
        self._promised = len(self._images)
        self._positions = np.arange(self._promised)  # of the images that can be read, among all
        first = self._first()
        height, width, _ = first.pixels.shape
        self.size = width, height
        self.codec, self.rotation_degrees = first.codec, first.rotation_degrees

    @property
    def frame_count(self) -> int:
        """How many images can be read, as far as they were tried."""
        return len(self._images)

    @property
    def lost_frames(self) -> int:
        """How many of those that were tried cannot be read."""
        return self._promised - len(self._images)

    def times(self) -> tuple[np.ndarray, float, float]:
        """As of FileFrames, at IMAGES_FPS."""
        since_first = self._positions - self._positions[0]
        return since_first / IMAGES_FPS, IMAGES_FPS, int(since_first[-1] + 1) / IMAGES_FPS

    def read(self, ranks: np.ndarray, each: Each | None = None) -> np.ndarray:
        """As of FileFrames. Where an image turns out to be broken, frames are counted anew and read again."""
        while True:
            wanted, places = np.unique(np.minimum(ranks, self.frame_count - 1), return_inverse=True)
            try:
                return in_portions(self._pictures(wanted.tolist()), len(wanted), each)[places]
            except _BrokenImage as broken:
                self._lose(broken)

    def close(self) -> None:
        """Nothing to give back: no image stays open."""

    def _first(self) -> _Opened:
        while True:
            try:
                return _open(self._images[0], rank=0)
            except _BrokenImage as broken:
                self._lose(broken)

    def _pictures(self, ranks: list[int]) -> Iterator[np.ndarray]:
        for rank in ranks:
            pixels = _open(self._images[rank], rank=rank).pixels
            height, width, _ = pixels.shape
            if (width, height) != self.size:
                pixels = np.asarray(Image.fromarray(pixels).resize(self.size, Image.Resampling.BICUBIC))
            yield pixels

    def _lose(self, broken: _BrokenImage) -> None:
        if len(self._images) == 1:
            raise VideoError(
                f"no image of {self._name} can be read ({self._images[0].name}: {broken}); extract its frames again"
            )
        del self._images[broken.rank]
        self._positions = np.delete(self._positions, broken.rank)


def rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an image, uint8 RGB [H, W, 3]; of 16 bits the upper 8 are taken, and alpha is left out, as ffmpeg does."""
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}, whose values are not brightness from 0 to 255")
    return np.asarray(image.convert("RGB"))


def _grey(values: np.ndarray) -> np.ndarray:
    """Brightness of 16 bits [H, W] -> uint8 RGB [H, W, 3]."""
    return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1)


def _images(folder: Path, name: str) -> list[Path]:
    """The images of a folder in the order of their numbers; hidden files and those of other kinds are no frames."""
    # By series: flow_x_00012.jpg belongs to "flow_x_#" and stands there at ["flow_x_", 12, ""].
    found: dict[str, list[tuple[list[str | int], str]]] = {}
    folders = 0
    for entry in os.scandir(folder):
        stem, suffix = os.path.splitext(entry.name.lower())
        if entry.name.startswith("."):
            continue
        if suffix in IMAGE_SUFFIXES and _may_be_image(entry):
            parts = re.split(r"(\d+)", stem)
            place = [int(part) if part.isdecimal() else part for part in parts]
            found.setdefault("#".join(parts[::2]), []).append((place, entry.name))
        elif suffix not in IMAGE_SUFFIXES:
            folders += os.path.isdir(entry.path)
    if not found:
        what = (
            "other folders; give one of them"
            if folders
            else "no image (.jpg, .png, ...); give a video or a folder of its frames"
        )
        raise VideoError(f"cannot read {name}: it is a folder that holds {what}")
    if any(len(files) > 1 for files in found.values()):
        found = _one_series(found, name)
    ordered = sorted(file for files in found.values() for file in files)
    for (place, one), (next_place, other) in pairwise(ordered):
        if place == next_place:
            raise VideoError(
                f"cannot read {name}: {one} and {other} are the same frame by their names; keep one of them"
            )
    return [folder / file for _, file in ordered]


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    """A link that leads nowhere is a lost frame; a pipe with the name of an image would be waited for without end."""
    try:
        return entry.is_file() or not os.path.exists(entry.path)
    except OSError:  # a link that leads to itself
        return True


def _one_series(found: dict[str, list[tuple[list[str | int], str]]], name: str) -> dict[str, Any]:
    """The series that is the video: a cover without a number is no frame, and optical flow is often kept beside its images."""
    numbered = {series: files for series, files in found.items() if "#" in series} or found
    kept = {series: files for series, files in numbered.items() if not series.startswith("flow")} or numbered
    if len(kept) > 1:
        examples = " and ".join(sorted(min(files)[1] for files in kept.values())[:3])
        raise VideoError(
            f"cannot read {name}: the folder holds {len(kept)} series of images ({examples}); keep one in a folder"
        )
    return kept


def _open(path: Path, *, rank: int) -> _Opened:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken notes on a picture, mostly; they would come once an image
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                return _pixels_of(image)
    except Exception as error:  # Pillow raises whatever its readers meet in broken data
        raise _BrokenImage(rank, " ".join(str(getattr(error, "strerror", None) or error).split())) from error


def _pixels_of(image: Image.Image) -> _Opened:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,} in all")
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        upright = ImageOps.exif_transpose(image)
    except Exception:  # broken notes on a picture do not make it a broken picture
        orientation, upright = 1, image
    # Files of 16 bits come as mode I, too; there the values end at 65535.
    deep = upright.mode == "I" and image.format in ("PNG", "PPM")
    pixels = _grey(np.asarray(upright)) if deep else rgb(upright)
    return _Opened(pixels, (image.format or "").lower(), _TURNED.get(orientation, 0))

"""What is unusual about a video that can be read: worth knowing before a model is blamed for it."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from m2clip.check.header import Header
from m2clip.data.video import VideoInfo

_TINY_PIXELS = 64
_STRETCHED = Fraction(1, 100)  # scaling to whole pixels leaves a shape such as 640:639, which no one sees
_SURE_SECONDS = 1.0  # by how much a declared duration must be wrong
_SURE_SHARE = 0.1


def oddities(info: VideoInfo, header: Header, disorder: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """(code word, sentence) for all that is unusual about a readable video, in the order of `findings.CODES`.

    `disorder`: frames without a later time than the one before, and all frames, where that was counted.
    """
    if not info.lost_frames:
        yield from _lies(info, header)
    if disorder is not None and disorder[0]:
        yield "times-not-increasing", f"{disorder[0]} of {disorder[1]} frames have no later time than the one before"
    yield from _rates(info, header)
    if not header.has_duration:
        yield "no-duration", "the header has no duration"
    if not header.has_rate:
        yield "no-frame-rate", "the header has no frame rate"
    if info.rotation_degrees:
        yield "rotated", f"stored pictures are turned by {info.rotation_degrees} degrees"
    if len(header.sizes) > 1:
        yield "changes-size", "pictures of " + ", ".join(f"{width}x{height}" for width, height in header.sizes[:5])
    if header.is_interlaced:
        yield "interlaced", "two half pictures in a frame"
    if abs(header.pixel_shape - 1) > _STRETCHED:
        shape = header.pixel_shape
        yield "non-square-pixels", f"the width of a pixel is to its height as {shape.numerator} to {shape.denominator}"
    yield from oddities_of_pictures(info)
    if header.video_streams > 1:
        yield "several-video-streams", f"{header.video_streams} video streams"
    if header.has_alpha:
        yield "alpha", f"an alpha layer ({header.pixel_format})"
    if header.bits > 8:
        yield "high-bit-depth", f"{header.bits} bits a colour ({header.pixel_format})"
    if header.is_full_range:
        yield "full-range", f"full range ({header.pixel_format})"
    if header.subsampling not in ("", "4:2:0"):
        yield "rare-chroma", f"colour as {header.subsampling} ({header.pixel_format})"


def oddities_of_pictures(info: VideoInfo) -> Iterator[tuple[str, str]]:
    """What is unusual about the pictures themselves."""
    size = f"{info.width}x{info.height} pixels"
    if info.width % 2 or info.height % 2:
        yield "odd-size", size
    if min(info.width, info.height) < _TINY_PIXELS:
        yield "tiny", size


def _lies(info: VideoInfo, header: Header) -> Iterator[tuple[str, str]]:
    declared, seconds = header.declared_frames, header.declared_seconds
    if declared is not None:
        if declared != info.frame_count:
            yield "header-lies", f"the header promises {declared} frames, {info.frame_count} can be decoded"
    elif seconds is not None and info.frame_count > 1:
        wrong = abs(seconds - info.duration_seconds)
        if wrong > max(_SURE_SECONDS, _SURE_SHARE * info.duration_seconds):
            yield "header-lies", f"the header promises {seconds:.2f} s, the frames last {info.duration_seconds:.2f} s"


def _rates(info: VideoInfo, header: Header) -> Iterator[tuple[str, str]]:
    if info.frame_count < 3:
        return
    gaps = np.diff(info.pts_seconds)
    usual = float(np.median(gaps))
    # Times are rounded to the time base: 30 frames a second are 33 and 34 ms in Matroska. A tick of a whole frame rounds nothing.
    rounding = 2 * header.tick_seconds if header.tick_seconds <= usual / 2 else 0.0
    if gaps.max() - gaps.min() > rounding + 0.05 * usual:
        yield "variable-rate", f"gaps from {1000 * gaps.min():.0f} to {1000 * gaps.max():.0f} ms"

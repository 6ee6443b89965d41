"""What a video file says of itself before its frames are read: what `VideoInfo` has no need of, and a check wants to know."""

from dataclasses import dataclass
from fractions import Fraction

import av
from av.stream import Disposition

from m2clip.apart import Alive
from m2clip.data.decode.opening import VideoFile
from m2clip.data.decode.packets import BROKEN_DATA

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True)
class Header:
    """Facts of a file's container, of its first video stream and of that stream's packets."""

    container: str
    """Its format by FFmpeg's names, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
    declared_frames: int | None
    """What the header promises, without the frames that an edit list hides; None: it promises no number."""
    declared_seconds: float | None
    """Duration by the header; None: none is given, or none for the video alone."""
    has_duration: bool
    has_rate: bool
    tick_seconds: float
    """The time base: no time of the file is finer."""
    pixel_shape: Fraction
    """Width of a pixel by its height."""
    pixel_format: str
    bits: int
    """Of the deepest colour."""
    has_alpha: bool
    is_full_range: bool
    """Whether a YUV picture uses 0..255."""
    subsampling: str
    """Of the chroma of a YUV picture, "4:2:0", "4:2:2", "4:4:4" or "other"; empty for RGB and gray."""
    video_streams: int
    shown_packets: int
    """Packets that are not empty and that no edit list hides."""
    odd_times: bool
    """Whether packets lack times or share one."""
    sizes: tuple[tuple[int, int], ...]
    """Width and height of the stored pictures that decoding can start at, each once, in the order of the file."""
    is_interlaced: bool
    """Whether one of these says that it holds two half pictures."""


def read_header(file: VideoFile, alive: Alive) -> Header:
    """Read the facts of a just opened file: all its packets, and the pictures of its key frames, up to where it breaks off."""
    sizes, is_interlaced = _key_pictures(file, alive)
    file.reopen()
    container, stream = file.container, file.stream
    times: set[int] = set()
    shown = hidden = timed = 0
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            alive()
            hidden += packet.is_discard
            shown += not packet.is_discard
            if packet.pts is not None:
                timed += 1
                times.add(packet.pts)
    except BROKEN_DATA:
        pass  # the loss shows when frames are read
    tick = stream.time_base or Fraction(0)
    own_seconds = None if stream.duration is None else float(stream.duration * tick)
    whole_seconds = None if container.duration is None else container.duration / av.time_base
    alone = len(container.streams) == 1
    pixels = stream.codec_context.format
    components = () if pixels is None else pixels.components
    name = "" if pixels is None else pixels.name
    is_yuv = pixels is not None and not pixels.is_rgb and len(components) > 0
    return Header(
        container=container.format.name,
        declared_frames=stream.frames - hidden if stream.frames else None,
        declared_seconds=own_seconds if own_seconds is not None or not alone else whole_seconds,
        has_duration=own_seconds is not None or whole_seconds is not None,
        has_rate=bool(stream.average_rate),
        tick_seconds=float(tick),
        pixel_shape=stream.sample_aspect_ratio or Fraction(1),
        pixel_format=name,
        bits=max((component.bits for component in components), default=8),
        has_alpha=any(component.is_alpha for component in components) or stream.metadata.get("alpha_mode") == "1",
        is_full_range=is_yuv and (stream.codec_context.color_range == 2 or name.startswith("yuvj")),
        subsampling=_subsampling(name) if is_yuv else "",
        video_streams=sum(1 for one in container.streams.video if not one.disposition & _PICTURES),
        shown_packets=shown,
        odd_times=timed < shown + hidden or len(times) < timed,
        sizes=sizes,
        is_interlaced=is_interlaced,
    )


def _key_pictures(file: VideoFile, alive: Alive) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Another size of pictures begins with a key frame, so these are enough, and cost little."""
    sizes: dict[tuple[int, int], None] = {}
    is_interlaced = False
    file.stream.codec_context.skip_frame = "NONKEY"
    try:
        for picture in file.container.decode(file.stream):
            alive()
            sizes[picture.width, picture.height] = None
            is_interlaced |= bool(picture.interlaced_frame)
    except BROKEN_DATA:
        pass
    return tuple(sizes), is_interlaced


def times_out_of_order(file: VideoFile, alive: Alive) -> tuple[int, int]:
    """Decode a just opened file and count (frames without a later time than the one before, frames)."""
    count = wrong = 0
    last: int | None = None
    try:
        for frame in file.container.decode(file.stream):
            alive()
            count += 1
            wrong += frame.pts is None or (last is not None and frame.pts <= last)
            last = frame.pts if frame.pts is not None else last
    except BROKEN_DATA:
        pass
    return wrong, count


def _subsampling(pixel_format: str) -> str:
    """By the size of the chroma planes of a picture of 64x64; empty for gray."""
    chroma = [one for one in av.VideoFormat(pixel_format, 64, 64).components[1:] if not one.is_alpha]
    if not chroma:
        return ""
    sizes = {(32, 32): "4:2:0", (32, 64): "4:2:2", (64, 64): "4:4:4"}
    return sizes.get((chroma[0].width, chroma[0].height), "other")

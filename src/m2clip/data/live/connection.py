"""One connection to a live source: opened within a time, its pictures with the moments at which they came."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import cast

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from m2clip.data.decode.opening import MOST_PIXELS
from m2clip.data.decode.packets import BROKEN_DATA
from m2clip.data.live.addresses import LiveAddress
from m2clip.errors import ConfigError, VideoError

# Their times are counted at 25 a second, whatever the rate is at which pictures are sent.
_WITHOUT_TIMES = ("mpjpeg", "mjpeg")
# These are handed out a piece at a time, as fast as they can be read: a player shows them at their own pace.
_IN_PIECES = ("hls",)
_MOST_HELD_BACK = 64  # pictures that a decoder keeps to put them into their order


@dataclass(frozen=True)
class LiveLimits:
    """How long a live source may take, and how hard it is tried; seconds. ConfigError where one is not above 0."""

    open_seconds: float = 10.0
    """For a connection, until it is known what it sends."""
    stall_seconds: float = 10.0
    """Without a packet or a whole picture, after which the connection is given up."""
    first_wait_seconds: float = 0.5
    """Before the first new try; each further wait is twice as long."""
    most_wait_seconds: float = 30.0
    """The longest of these waits."""
    tries: int = 3
    """Of a source that has never given a picture; one that has is tried again for ever."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise ConfigError(f"{one.name} is {getattr(self, one.name)}: a limit of a live source must be above 0")


class LostError(Exception):
    """A connection has come to its end; the text says how. `stalled`: nothing came any more."""

    def __init__(self, how: str, *, stalled: bool = False) -> None:
        super().__init__(how)
        self.stalled = stalled


@dataclass(frozen=True)
class LivePicture:
    """A decoded picture."""

    picture: VideoFrame
    seconds: float
    """By the source's own clock, or by ours where it has none; only differences mean something."""
    arrived: float
    """`time.monotonic()` when its packet was here."""


class Connection:
    """A live source that has been opened. Raises LostError where it cannot be, VideoError where another try is of no use."""

    def __init__(self, address: LiveAddress, limits: LiveLimits) -> None:
        self._limits = limits
        self.received = 0
        """Packets of the video that came."""
        self.decoded = 0
        """Whole pictures among them."""
        self.broken = 0
        """Packets and pictures that were damaged, and left out."""
        try:
            self._container = av.open(
                address.url,
                "r",
                format=address.format,
                options=address.options,
                timeout=(limits.open_seconds, limits.stall_seconds),
                metadata_errors="replace",
            )
        except av.ExitError:
            raise LostError(f"it does not answer within {limits.open_seconds:g} s", stalled=True) from None
        except (av.FFmpegError, OSError) as error:
            raise LostError(_reason(error)) from None
        try:
            self._stream = self._video_stream(address.shown)
        except BaseException:
            self.close()
            raise
        name = self._container.format.name
        self._has_times = name not in _WITHOUT_TIMES
        self.paced = address.ends or name in _IN_PIECES
        """Whether pictures come as fast as they are read, and must be held to their own pace."""

    def _video_stream(self, shown: str) -> VideoStream:
        streams = self._container.streams.video
        if not streams:
            raise VideoError(f"no video in {shown}: what it sends has no pictures; check the address")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"cannot read {shown}: PyAV has no decoder for its codec; let it send h264")
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        stream.thread_type = "NONE"  # threads that share pictures out among them give each one later
        return stream

    def close(self) -> None:
        """End the connection."""
        self._container.close()

    def pictures(self) -> Iterator[LivePicture]:
        """Whole pictures as they come, in the order of their times, to the end of the source. Raises LostError where it breaks.

        What is damaged is left out; a player would show it, but nobody should judge by it.
        """
        arrivals: dict[int, float] = {}
        last = time.monotonic()
        for packet in self._packets():
            now = time.monotonic()
            if packet is not None:
                if packet.pts is not None:
                    arrivals[packet.pts] = now
                    if len(arrivals) > _MOST_HELD_BACK:
                        del arrivals[next(iter(arrivals))]
                for picture in self._decoded(packet):
                    self.decoded += 1
                    arrived = now if picture.pts is None else arrivals.pop(picture.pts, now)
                    seconds = picture.time if self._has_times else None
                    yield LivePicture(picture, arrived if seconds is None else seconds, arrived)
                    last = now = time.monotonic()
            if now - last > self._limits.stall_seconds:
                raise LostError(f"no whole picture came for {self._limits.stall_seconds:g} s", stalled=True)

    def _packets(self) -> Iterator["Packet[VideoStream] | None"]:
        """The video's packets; None for one of another stream, which is read to know how time goes by."""
        try:
            for packet in self._container.demux():
                if packet.stream.index != self._stream.index:
                    yield None
                    continue
                self.received += bool(packet.size)
                yield cast("Packet[VideoStream]", packet)
        except av.ExitError:
            raise LostError(f"nothing came for {self._limits.stall_seconds:g} s", stalled=True) from None
        except BROKEN_DATA as error:
            raise LostError(_reason(error)) from None

    def _decoded(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        try:
            pictures = packet.decode()
        except BROKEN_DATA:
            self.broken += 1
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        self.broken += len(pictures) - len(whole)
        return whole


def _reason(error: Exception) -> str:
    """What the system says, without the address, which may hold a password."""
    if isinstance(error, av.InvalidDataError | av.ArgumentError):
        return "what it sends is no video that can be read"
    text = getattr(error, "strerror", None) or type(error).__name__
    return "the connection failed or ended" if text == "Input/output error" else str(text)

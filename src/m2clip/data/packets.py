"""What the packets of a video say about its frames, before any is decoded.

A container's own frame count and a seek by time are both wrong often enough (old AVI, WebM, edit lists, variable
rate) that neither is relied on. Reading every packet once, without decoding, gives the presentation times and the
places where decoding can start. Where the packets themselves cannot be relied on, `PacketTable.doubt` says why, and the
reader counts frames by decoding them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

# An MPEG-4 picture that carries no image ("not coded") is 1 to 8 bytes: XviD and DivX put one after each packet that holds
# two pictures, and nothing is shown for it. A real picture this small is possible (16x16 pixels, all skipped), and then
# only costs the slower count.
_NOT_CODED_BYTES = 8


# What reading broken data raises. PyAV answers with IndexError when a transport stream starts a new stream halfway.
BROKEN_DATA = (av.FFmpegError, IndexError)


@dataclass(frozen=True)
class PacketTable:
    """The packets of one video stream. A *rank* is a frame's place in presentation order, an *ordinal* a packet's in the file."""

    pts: tuple[int, ...]  # presentation time of the frame of each rank, increasing, in the stream's time base
    ordinals: tuple[int, ...]  # the packet that carries the frame of each rank
    keys: tuple[tuple[int, int], ...]  # (ordinal, presentation time) of every packet that decoding can start at
    packet_count: int  # packets that should give a frame
    last_duration: int  # how long the last frame is shown, in the time base; 0 where the file does not say
    doubt: str = ""  # why the above may not match what decoding gives; empty where it should
    damaged: bool = False  # whether the doubt comes from broken data, not from an odd format

    def __post_init__(self) -> None:
        if not self.doubt and len(self.pts) != len(self.ordinals):
            raise AssertionError(f"{len(self.pts)} times but {len(self.ordinals)} packets")

    def start_for(self, rank: int) -> tuple[int, int]:
        """The key packet (ordinal, time) from which decoding gives the frame of this rank exactly.

        A frame shown before the key picture that precedes it in the file (a leading frame of an open group) still
        needs the group before.
        """
        place = bisect_right(self.keys, (self.ordinals[rank], float("inf"))) - 1
        while place > 0 and self.keys[place][1] > self.pts[rank]:
            place -= 1
        return self.keys[place]

    def rank_at(self, pts: int) -> int:
        """The rank of the first frame shown at this time or later."""
        return bisect_left(self.pts, pts)


def read_packets(container: InputContainer, stream: VideoStream) -> PacketTable:
    """Demux the stream to its end, decoding nothing."""
    shown: list[tuple[int, int, int]] = []  # pts, ordinal, duration
    keys: list[tuple[int, int]] = []
    check = _PacketCheck(stream)
    doubt, damaged = "", False
    count = 0
    try:
        for ordinal, packet in enumerate(_packets(container, stream)):
            if packet.is_corrupt:
                doubt, damaged = "a packet is cut or broken", True
            if not check.is_shown(packet):
                continue
            # What an edit list hides is no frame, but shown frames can build on it, so decoding can start there.
            count += not packet.is_discard
            if packet.pts is None:
                doubt = doubt or "a packet has no time"
                continue
            if packet.is_keyframe:
                keys.append((ordinal, packet.pts))
            if not packet.is_discard:
                shown.append((packet.pts, ordinal, packet.duration or 0))
    except BROKEN_DATA:
        doubt, damaged = "the file breaks off", True
    shown.sort()
    pts = tuple(row[0] for row in shown)
    return PacketTable(
        pts=pts,
        ordinals=tuple(row[1] for row in shown),
        keys=tuple(keys),
        packet_count=count,
        last_duration=shown[-1][2] if shown else 0,
        doubt=doubt or check.doubt or _timing_doubt(pts, keys),
        damaged=damaged or check.damaged,
    )


def _packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    # An empty packet is PyAV's signal to flush the decoder, or a frame that an AVI writer dropped: neither gives a frame.
    return (packet for packet in container.demux(stream) if packet.size)


def _timing_doubt(pts: tuple[int, ...], keys: list[tuple[int, int]]) -> str:
    if len(set(pts)) != len(pts):
        return "two frames have one time"
    if len({key[1] for key in keys}) != len(keys):
        return "two key frames have one time"
    if pts and (not keys or keys[0][0] != 0):
        return "the file does not begin with a key frame"
    if pts and keys[0][1] > pts[0]:
        return "frames are shown before the first key frame"
    return ""


class _PacketCheck:
    """Looks into the packets of those codecs where a packet is not always a frame."""

    def __init__(self, stream: VideoStream) -> None:
        self.doubt = ""
        self.damaged = False
        self._codec = stream.codec_context.codec.canonical_name
        self._length_bytes = _nal_length_bytes(self._codec, stream.codec_context.extradata or b"")

    def is_shown(self, packet: "Packet[VideoStream]") -> bool:
        """Whether the packet gives a frame; what raises doubt is noted on the way."""
        if self._codec == "mpeg4" and packet.size <= _NOT_CODED_BYTES:
            self.doubt = "it has MPEG-4 packets without a picture"
        elif self._codec == "vp8":
            return bool(memoryview(packet)[0] & 0x10)  # bit 4 of the frame tag: show_frame (RFC 6386, section 9.1)
        elif self._codec == "vp9":
            first = memoryview(packet)[0]
            # Bits from the top: marker (2), profile (2), show_existing_frame, frame_type, show_frame. Hidden frames
            # normally ride in a superframe with a shown one; its last byte is 0b110xxxxx (VP9 bitstream, annex B).
            superframe = memoryview(packet)[-1] & 0xE0 == 0xC0
            if not superframe and not first & 0x08 and not first & 0x02:
                self.doubt = "it has VP9 packets without a shown frame"
        elif self._length_bytes and not _nals_fit(packet, self._length_bytes):
            self.doubt, self.damaged = "a packet is broken", True
        return True


def _nal_length_bytes(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit of an H.264 or H.265 packet in MP4 or Matroska; 0 where start codes part them."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0


def _nals_fit(packet: "Packet[VideoStream]", length_bytes: int) -> bool:
    """Whether the units' lengths add up to the packet: data that was written over nearly always breaks this."""
    data = memoryview(packet)
    end = len(data)
    at = 0
    while at + length_bytes <= end:
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
    return at == end

"""What the packets of a video say about its frames, before any is decoded.

A container's own frame count and a seek by time are both wrong often enough (old AVI, WebM, edit lists, variable
rate) that neither is relied on. Reading every packet once, without decoding, gives the presentation times, the
places where decoding can start, and the frames that no other frame is built on. Where the packets themselves cannot be
relied on, `PacketTable.doubt` says why, and the reader counts frames by decoding them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

# An MPEG-4 picture that carries no image ("not coded") is 1 to 8 bytes: XviD and DivX put one after each packet that holds
# two pictures, and nothing is shown for it. A real picture this small is possible (16x16 pixels, all skipped), and then
# only costs the slower count.
_NOT_CODED_BYTES = 8
_MPEG4_PICTURE = b"\x00\x00\x01\xb6"

# What reading broken data raises. PyAV answers with IndexError when a transport stream starts a new stream halfway.
BROKEN_DATA = (av.FFmpegError, IndexError)
_MOST_ERRORS = 100  # in a row, with no packet between them; then there is nothing more to come


class UnexpectedFrameError(Exception):
    """Decoding gave something else than the packets, or an earlier decoding, promised."""


@dataclass(frozen=True, eq=False)
class PacketTable:
    """The packets of one video stream. A *rank* is a frame's place in presentation order, an *ordinal* a packet's in the file."""

    pts: np.ndarray
    """int64 [N]: presentation time of the frame of each rank, increasing, in the stream's time base."""
    ordinals: np.ndarray
    """int64 [N]: the packet that carries the frame of each rank."""
    spare: np.ndarray
    """bool [N]: whether the frame of a rank is one that no other frame is built on, in a codec where leaving out its packet
    changes no other picture."""
    key_ordinals: np.ndarray
    """int64 [K]: every packet that decoding can start at."""
    key_pts: np.ndarray
    """int64 [K]: the presentation times of these packets."""
    packet_count: int
    """Packets that should give a frame."""
    last_duration: int
    """How long the last frame is shown, in the time base; 0 where the file does not say."""
    doubt: str = ""
    """Why the above may not match what decoding gives; empty where it should."""
    damaged: bool = False
    """Whether the doubt comes from broken data, not from an odd format."""

    def __post_init__(self) -> None:
        shapes = [self.pts.shape, self.ordinals.shape, self.spare.shape, self.key_ordinals.shape, self.key_pts.shape]
        if any(len(shape) != 1 for shape in shapes) or len(set(shapes[:3])) > 1 or len(set(shapes[3:])) > 1:
            raise ValueError(f"a packet table needs columns [N], [N], [N], [K] and [K], not {shapes}")

    def start_for(self, rank: int) -> tuple[int, int]:
        """The key packet (ordinal, time) from which decoding gives the frame of this rank exactly.

        A frame shown before the key picture that precedes it in the file (a leading frame of an open group) still
        needs the group before.
        """
        place = int(np.searchsorted(self.key_ordinals, self.ordinals[rank], side="right")) - 1
        while place > 0 and self.key_pts[place] > self.pts[rank]:
            place -= 1
        return int(self.key_ordinals[place]), int(self.key_pts[place])

    def rank_at(self, pts: int) -> int:
        """The rank of the first frame shown at this time or later."""
        return int(np.searchsorted(self.pts, pts))

    def ranks_of_packets(self) -> np.ndarray:
        """int64 [packets up to the last that carries a frame]: the rank of the frame that each packet carries, -1 for none."""
        ranks = np.full(int(self.ordinals.max(initial=-1)) + 1, -1)
        ranks[self.ordinals] = np.arange(len(self.ordinals))
        return ranks


def packets_past_breaks(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream] | None"]:
    """The stream's packets from where the container stands to the end of the file; None wherever data between them is broken.

    A packet that the container itself calls cut or broken comes as it is, with `is_corrupt`.
    """
    errors = 0
    while errors < _MOST_ERRORS:
        try:
            for packet in container.demux(stream):
                errors = 0
                yield packet
            return
        except BROKEN_DATA:
            errors += 1
            yield None


def read_packets(container: InputContainer, stream: VideoStream) -> PacketTable:
    """Demux the stream to its end, decoding nothing."""
    shown: list[tuple[int, int, int, bool]] = []  # pts, ordinal, duration, spare
    keys: list[tuple[int, int]] = []
    look = _PacketLook(stream)
    doubt, damaged = "", False
    count, ordinal = 0, -1
    for packet in packets_past_breaks(container, stream):
        if packet is None:
            doubt, damaged = "the data breaks off", True
            continue
        # An empty packet is PyAV's signal to flush the decoder, or a frame that an AVI writer dropped: neither gives one.
        if not packet.size:
            continue
        ordinal += 1
        if packet.is_corrupt:
            doubt, damaged = "a packet is cut or broken", True
        gives_frame, spare = look.at(packet)
        if not gives_frame:
            continue
        # What an edit list hides is no frame, but shown frames can build on it, so decoding can start there.
        hidden = packet.is_discard
        count += not hidden
        pts = packet.pts
        if pts is None:
            doubt = doubt or "a packet has no time"
            continue
        if packet.is_keyframe:
            keys.append((ordinal, pts))
        if not hidden:
            shown.append((pts, ordinal, packet.duration or 0, spare))
    shown.sort()
    rows = np.array(shown, dtype=np.int64).reshape(-1, 4)
    key_rows = np.array(keys, dtype=np.int64).reshape(-1, 2)
    return PacketTable(
        pts=rows[:, 0].copy(),
        ordinals=rows[:, 1].copy(),
        spare=(rows[:, 3] > 0) & (not look.has_layers),
        key_ordinals=key_rows[:, 0].copy(),
        key_pts=key_rows[:, 1].copy(),
        packet_count=count,
        last_duration=int(rows[-1, 2]) if shown else 0,
        doubt=doubt or look.doubt or _timing_doubt(rows[:, 0], key_rows),
        damaged=damaged or look.damaged,
    )


def _timing_doubt(pts: np.ndarray, keys: np.ndarray) -> str:
    if (np.diff(pts) == 0).any():
        return "two frames have one time"
    if len(np.unique(keys[:, 1])) != len(keys):
        return "two key frames have one time"
    if len(pts) and (not len(keys) or keys[0, 0] != 0):
        return "the file does not begin with a key frame"
    if len(pts) and keys[0, 1] > pts[0]:
        return "frames are shown before the first key frame"
    return ""


class _PacketLook:
    """Looks into the packets of those codecs where a packet is not always a frame, or says whether others build on it.

    Frames that nothing is built on are known for H.264, H.265 and MPEG-4 part 2. In VP8, VP9 and AV1 a picture also hands on
    its statistics, so there every packet counts.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.doubt = ""
        self.damaged = False
        self.has_layers = False
        """Whether an H.265 stream has temporal layers: then a picture may carry those of a higher layer."""
        self._codec = stream.codec_context.codec.canonical_name
        self._length_bytes = _nal_length_bytes(self._codec, stream.codec_context.extradata or b"")

    def at(self, packet: "Packet[VideoStream]") -> tuple[bool, bool]:
        """Whether the packet gives a frame, and whether no other frame builds on it; what raises doubt is noted on the way."""
        if self._length_bytes:
            return True, self._spare_nals(memoryview(packet))
        if self._codec == "mpeg4":
            if packet.size <= _NOT_CODED_BYTES:
                self.doubt = "it has MPEG-4 packets without a picture"
            # Nothing in it but one picture of coding type 2: bidirectional (ISO/IEC 14496-2, 6.3.5).
            data = memoryview(packet)
            bidirectional = data[:4] == _MPEG4_PICTURE and len(data) > 4 and data[4] >> 6 == 2
            return True, bidirectional and _MPEG4_PICTURE not in bytes(data[5:])
        if self._codec == "vp8":
            shown = memoryview(packet)[0] & 0x10  # bit 4 of the frame tag: show_frame (RFC 6386, section 9.1)
            return bool(shown), False
        if self._codec == "vp9":
            first = memoryview(packet)[0]
            # Bits from the top: marker (2), profile (2), show_existing_frame, frame_type, show_frame. Hidden frames
            # normally ride in a superframe with a shown one; its last byte is 0b110xxxxx (VP9 bitstream, annex B).
            superframe = memoryview(packet)[-1] & 0xE0 == 0xC0
            if not superframe and not first & 0x08 and not first & 0x02:
                self.doubt = "it has VP9 packets without a shown frame"
        return True, False

    def _spare_nals(self, data: memoryview) -> bool:
        """Whether an H.264 or H.265 packet holds nothing but slices that no picture refers to, and remarks.

        The units' lengths must add up to the packet: data that was written over nearly always breaks this.
        """
        length_bytes, end, at = self._length_bytes, len(data), 0
        spare = True
        while at + length_bytes <= end:
            first = data[at + length_bytes] if at + length_bytes < end else 0
            if self._codec == "h264":
                # nal_ref_idc (2 bits) and nal_unit_type (5): a slice that is no reference, or SEI, delimiter, filler
                spare = spare and first & 0x7F in (1, 6, 9, 12)
            else:
                kind = first >> 1 & 0x3F
                spare = spare and (
                    kind in (35, 38, 39, 40) or (kind < 16 and kind % 2 == 0)
                )  # even: "_N", no reference
                self.has_layers |= at + length_bytes + 1 < end and data[at + length_bytes + 1] & 7 != 1
            at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        if at != end:
            self.doubt, self.damaged = "a packet is broken", True
        return spare


def _nal_length_bytes(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit of an H.264 or H.265 packet in MP4 or Matroska; 0 where start codes part them."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0

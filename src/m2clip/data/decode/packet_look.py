"""What one packet tells without being decoded: whether it gives a frame, whether others build on it, whether it is broken."""

from typing import NamedTuple

from av.packet import Packet
from av.video.stream import VideoStream

# An MPEG-4 picture that carries no image ("not coded") is 1 to 8 bytes: XviD and DivX put one after each packet that holds
# two pictures, and nothing is shown for it. A real picture this small is possible (16x16 pixels, all skipped), and then
# only costs the slower count.
_NOT_CODED_BYTES = 8
_MPEG4_PICTURE = b"\x00\x00\x01\xb6"

# A stretch that was never written, or that a disk could not give back: these codecs have no long rows of zeros. (MPEG-2 pads
# with them, and a plain JPEG may consist of them.)
_HOLE = bytes(256)
_CODECS_WITHOUT_ZEROS = ("h264", "hevc", "vp8", "vp9", "av1")

# Codecs whose files were seen to decode the same from any packet that is marked as a key frame (tests/data/decode/test_formats.py), beside
# those where every picture stands alone. In H.261 the mark is on pictures that are none.
_KEYED_CODECS = frozenset(
    [
        *(
            "h264",
            "hevc",
            "vp8",
            "vp9",
            "av1",
            "mpeg4",
            "mpeg1video",
            "mpeg2video",
            "h263",
            "flv1",
            "msmpeg4v2",
            "msmpeg4v3",
        ),
        *("wmv1", "wmv2", "rv10", "rv20", "svq1", "gif", "apng", "png", "qtrle", "cinepak", "msvideo1", "ffv1", "snow"),
    ]
)


class Look(NamedTuple):
    """What is seen of a packet."""

    gives_frame: bool = True
    is_spare: bool = False
    """No other frame is built on it."""
    is_broken: bool = False


class PacketLook:
    """Looks into the packets of those codecs where a packet is not always a frame, or says whether others build on it.

    Frames that nothing is built on are known for H.264, H.265 and MPEG-4 part 2. In VP8, VP9 and AV1 a picture also hands on
    its statistics, so there every packet counts.
    """

    def __init__(self, stream: VideoStream) -> None:
        codec = stream.codec_context.codec
        is_known = codec.canonical_name in _KEYED_CODECS or codec.intra_only
        self.doubt = "" if is_known else f"where {codec.canonical_name} can be started is not known"
        self.has_layers = False
        """Whether an H.265 stream has temporal layers: then a picture may carry those of a higher layer."""
        self._codec = codec.canonical_name
        self._length_bytes = _nal_length_bytes(self._codec, stream.codec_context.extradata or b"")

    def at(self, packet: "Packet[VideoStream]") -> Look:
        """What a packet that is not empty tells; what raises doubt in the whole stream is noted on the way."""
        data = memoryview(packet)
        if self._codec in _CODECS_WITHOUT_ZEROS and len(data) > len(_HOLE) and _HOLE in bytes(data):
            return Look(is_broken=True)
        if self._length_bytes:
            return self._at_units(data)
        if self._codec == "mpeg4":
            return self._at_mpeg4(data)
        if self._codec == "vp8":
            # Frame tag (RFC 6386, section 9.1): bit 0 is 0 for a key frame, then a start code follows; bit 4 is show_frame.
            is_broken = not data[0] & 1 and data[3:6] != b"\x9d\x01\x2a"
            return Look(gives_frame=is_broken or bool(data[0] & 0x10), is_broken=is_broken)
        if self._codec == "vp9":
            # Bits from the top: marker (2), profile (2), show_existing_frame, frame_type, show_frame. Hidden frames
            # normally ride in a superframe with a shown one; its last byte is 0b110xxxxx (VP9 bitstream, annex B).
            is_superframe = data[-1] & 0xE0 == 0xC0
            if not is_superframe and not data[0] & 0x08 and not data[0] & 0x02:
                self.doubt = "it has VP9 packets without a shown frame"
            return Look(is_broken=data[0] >> 6 != 2)
        if self._codec == "mjpeg":
            return Look(is_broken=data[:2] != b"\xff\xd8")
        return Look()

    def _at_mpeg4(self, data: memoryview) -> Look:
        if len(data) <= _NOT_CODED_BYTES:
            self.doubt = "it has MPEG-4 packets without a picture"
            return Look()
        # Nothing in it but one picture of coding type 2: bidirectional (ISO/IEC 14496-2, 6.3.5).
        is_bidirectional = data[:4] == _MPEG4_PICTURE and data[4] >> 6 == 2
        return Look(
            is_spare=is_bidirectional and _MPEG4_PICTURE not in bytes(data[5:]), is_broken=data[:3] != b"\x00\x00\x01"
        )

    def _at_units(self, data: memoryview) -> Look:
        """Spare is an H.264 or H.265 packet that holds nothing but slices that no picture refers to, and remarks.

        The units' lengths must add up to the packet: data that was written over nearly always breaks this.
        """
        length_bytes, end, at = self._length_bytes, len(data), 0
        is_spare = True
        while at + length_bytes <= end:
            first = data[at + length_bytes] if at + length_bytes < end else 0
            if self._codec == "h264":
                # nal_ref_idc (2 bits) and nal_unit_type (5): a slice that is no reference, or SEI, delimiter, filler
                is_spare = is_spare and first & 0x7F in (1, 6, 9, 12)
            else:
                kind = first >> 1 & 0x3F  # even below 16: "_N", no reference
                is_spare = is_spare and (kind in (35, 38, 39, 40) or (kind < 16 and kind % 2 == 0))
                self.has_layers |= at + length_bytes + 1 < end and data[at + length_bytes + 1] & 7 != 1
            at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        return Look(is_spare=is_spare, is_broken=at != end)


def _nal_length_bytes(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit of an H.264 or H.265 packet in MP4 or Matroska; 0 where start codes part them."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0

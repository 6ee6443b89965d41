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

from m2clip.data.decode.packet_look import PacketLook

# What reading broken data raises. PyAV answers with IndexError when a transport stream starts a new stream halfway.
BROKEN_DATA = (av.FFmpegError, IndexError)
NEVER = 2**62
"""An ordinal that no packet has."""
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
    """Whether broken data was met, or the beginning is missing."""
    end_ordinal: int = NEVER
    """The first packet of a broken end, as a download leaves it that broke off: no frame of the table needs it or what follows."""

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
    look = PacketLook(stream)
    doubt, goes_on = "", False
    count, ordinal, end_ordinal = 0, -1, NEVER
    for packet in packets_past_breaks(container, stream):
        # An empty packet is PyAV's signal to flush the decoder, or a frame that an AVI writer dropped: neither gives one.
        if packet is not None and not packet.size:
            continue
        ordinal += packet is not None
        gives_frame, spare, broken = (False, False, True) if packet is None else look.at(packet)
        if packet is None or broken or packet.is_corrupt:
            end_ordinal = min(end_ordinal, ordinal + (packet is None))
            count += gives_frame
            continue
        if end_ordinal != NEVER:
            doubt, goes_on = "the data is broken in the middle", True
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
        damaged=end_ordinal != NEVER or (bool(shown) and not (keys and keys[0][0] == 0)),
        end_ordinal=NEVER if goes_on else end_ordinal,
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

"""Pictures of a file by its packet table: from the key frame that a picture needs, and no more than it is built on."""

from collections.abc import Iterator

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from m2clip.data.decode.counted_pictures import is_made_up
from m2clip.data.decode.opening import VideoFile
from m2clip.data.decode.packets import BROKEN_DATA, NEVER, PacketTable, UnexpectedFrameError, packets_past_breaks


class KeyedPictures:
    """Pictures by rank. The decoder stays where it is between calls, so that what comes next goes on from there.

    `leaves_out`: whether packets are left out that carry neither a wanted picture nor one that others are built on.
    """

    def __init__(self, file: VideoFile, table: PacketTable, *, leaves_out: bool) -> None:
        self._file, self._table, self._leaves_out = file, table, leaves_out
        self._ranks_of_packets = table.ranks_of_packets()
        # Pictures seem to come in the order of their packets, though they may be built on later ones: AVI does not say.
        in_order = bool((np.diff(table.ordinals) > 0).all())
        self._order_is_unknown = in_order and file.stream.codec_context.has_b_frames
        # Where the decoder stands: what it goes on with, the last picture it gave, and the packet that it gets next.
        self._pictures: Iterator[tuple[int, VideoFrame]] | None = None
        self._picture: VideoFrame | None = None
        self._rank = -1
        self._next_ordinal = 0
        self._left_out = np.zeros(len(table.pts), dtype=bool)  # by rank, since the decoder last started at a key frame
        # What is wanted: its packets, the last of them, and for each rank the packet after which its stretch ends.
        self._wanted: set[int] = set()
        self._last_wanted = -1
        self._ends: dict[int, int] = {}
        self._end = NEVER

    def rising(self, ranks: list[int]) -> Iterator[VideoFrame]:
        """The pictures of these ranks, which rise. Raises UnexpectedFrameError."""
        self._plan(ranks)
        for rank in ranks:
            yield self._go_to(rank)

    def _plan(self, ranks: list[int]) -> None:
        """Note what is wanted, and where each stretch of packets that gives some of it ends.

        After the last packet of a stretch the decoder gives out what it holds back, instead of being fed until it does. It
        cannot go on afterwards, so the last stretch has no end: the next call may go on from there.
        """
        ordinals = self._table.ordinals[ranks].tolist()
        self._wanted, self._last_wanted = set(ordinals), max(ordinals, default=-1)
        stretches: list[list[int]] = []
        ends: list[int] = []
        for rank, ordinal in zip(ranks, ordinals, strict=True):
            if not ends or self._table.start_for(rank)[0] > ends[-1] + 1:
                stretches.append([])
                ends.append(-1)
            stretches[-1].append(rank)
            ends[-1] = max(ends[-1], ordinal)
        ends[-1:] = [NEVER]
        if (
            self._order_is_unknown
        ):  # the packet that seems to carry a picture may be another one's, and its own come later
            ends = [NEVER] * len(ends)
        self._ends = {rank: end for stretch, end in zip(stretches, ends, strict=False) for rank in stretch}

    def _go_to(self, rank: int) -> VideoFrame:
        """Decode until the picture of this rank, going on from where the last call stopped where that is less work."""
        key_ordinal, key_pts = self._table.start_for(rank)
        if (
            self._pictures is None
            or rank < self._rank
            or key_ordinal > self._next_ordinal
            or self._left_out[rank]
            or self._table.ordinals[rank] > self._end
        ):
            self._pictures, self._rank = self._from_key(key_ordinal, key_pts), -1
            self._left_out[:] = False
        self._end = self._ends[rank]
        while self._rank < rank:
            following = next(self._pictures, None)
            if following is None:
                raise UnexpectedFrameError
            self._rank, self._picture = following
        assert self._picture is not None
        return self._picture

    def _from_key(self, key_ordinal: int, key_pts: int) -> Iterator[tuple[int, VideoFrame]]:
        """Pictures from a key packet on, each compared with the packet table."""
        pts, expected = self._table.pts, self._table.rank_at(key_pts)
        self._next_ordinal = key_ordinal
        is_fresh = True
        try:
            for pictures in self._decoded_from(key_ordinal, key_pts):
                for picture in pictures:
                    while expected < len(pts) and self._left_out[expected]:
                        expected += 1
                    if picture.pts is None or expected >= len(pts):
                        raise UnexpectedFrameError
                    if picture.pts < key_pts:
                        continue  # a leading picture of an open group, built on a group that was not decoded
                    if picture.pts != pts[expected] or is_made_up(picture, is_fresh=is_fresh and not key_ordinal):
                        raise UnexpectedFrameError
                    is_fresh &= picture.is_corrupt
                    yield expected, picture
                    expected += 1
        except BROKEN_DATA as error:
            raise UnexpectedFrameError from error

    def _decoded_from(self, key_ordinal: int, key_pts: int) -> Iterator[list[VideoFrame]]:
        """What the decoder gives for each packet from the key packet to the end of the stretch, or to the end of the file."""
        for packet in self._packets_from(key_ordinal, key_pts):
            if self._next_ordinal > self._end or self._next_ordinal >= self._table.end_ordinal:
                self._left_out |= self._table.ordinals >= self._next_ordinal
                yield self._file.stream.codec_context.decode(None)  # what it holds back
                return
            if packet is None:
                raise UnexpectedFrameError
            ordinal = self._next_ordinal
            self._next_ordinal += bool(packet.size)  # as in the table: an empty packet has no ordinal
            if packet.size and self._is_left_out(ordinal):
                self._left_out[self._ranks_of_packets[ordinal]] = True
            else:
                yield packet.decode()

    def _is_left_out(self, ordinal: int) -> bool:
        # Behind the last wanted packet nothing is left out: the next call may want it.
        if not self._leaves_out or ordinal >= self._last_wanted or ordinal in self._wanted:
            return False
        rank = self._ranks_of_packets[ordinal]
        return bool(rank >= 0 and self._table.spare[rank])

    def _packets_from(self, key_ordinal: int, key_pts: int) -> Iterator["Packet[VideoStream] | None"]:
        """The packets from the key packet to the end of the file; None wherever data between them is broken."""
        file, table = self._file, self._table
        unknown = key_ordinal + 1
        ordinal = unknown
        try:
            file.container.seek(key_pts, stream=file.stream)
            packets = packets_past_breaks(file.container, file.stream)
            packet = next(packets, None)
            if packet is not None and packet.pts is not None:
                found = np.flatnonzero(table.key_pts == packet.pts)
                ordinal = int(table.key_ordinals[found[0]]) if len(found) else unknown
        except BROKEN_DATA:
            pass  # not every format can seek
        if ordinal > key_ordinal:  # the seek went too far or to a place unknown: read on from the start of the file
            file.reopen()
            packets = packets_past_breaks(file.container, file.stream)
            packet, ordinal = next(packets, None), 0
        while packet is not None and ordinal < key_ordinal:
            packet = next(packets, None)
            ordinal += packet is not None and bool(packet.size)
        if packet is None or packet.pts != key_pts:
            raise UnexpectedFrameError
        yield packet
        yield from packets

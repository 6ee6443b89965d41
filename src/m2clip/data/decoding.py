"""Frames of a video file by their place in presentation order, exact and upright.

Frame i is the i-th picture that decoding the file from its start to its end gives. Two ways lead there. Where the
packets can be relied on (nearly always), decoding starts at the last key frame that the wanted frame needs, and every
decoded time is compared with the expected one. Where they cannot (see `packets.py`), or where that comparison fails,
frames are counted from the start of the file: slower, never wrong.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from m2clip.data.opening import naming_errors, open_video
from m2clip.data.packets import BROKEN_DATA, PacketTable, read_packets
from m2clip.errors import VideoError

_UNKNOWN_FPS = 25.0  # for a file with neither rate nor times


class _UnexpectedFrameError(Exception):
    """Decoding gave something else than the packets promised."""


class FileFrames:
    """The frames of one video file or of its bytes. `name` stands in every message."""

    def __init__(self, source: Path | bytes, *, name: str) -> None:
        self._source, self._name = source, name
        self._reformatter = VideoReformatter()
        with naming_errors(name):
            self._container, self._stream = open_video(source, name=name)
            try:
                self._read_table()
                first = self._first_picture()
            except BaseException:
                self.close()
                raise
        self._matrix = _display_matrix(first)
        self._stored_size = first.width, first.height

    def _read_table(self) -> None:
        table = read_packets(self._container, self._stream)
        self._table: PacketTable | None = table  # None: frames are counted from the start of the file
        self._promised = max(self._stream.frames or 0, table.packet_count)
        self._damaged = table.damaged
        self._last_duration = table.last_duration
        self._pts: tuple[int | None, ...] = table.pts
        # Where the decoder stands: what it goes on with, the last picture it gave, and the packet that it gets next.
        self._pictures: Iterator[tuple[int, VideoFrame]] | None = None
        self._picture: VideoFrame | None = None
        self._rank = -1
        self._next_ordinal = 0
        if table.doubt:
            self._count_by_decoding()

    def close(self) -> None:
        """Give the file back; frames cannot be read afterwards."""
        self._pictures = self._picture = None
        self._container.close()

    @property
    def frame_count(self) -> int:
        """How many frames can be decoded."""
        return len(self._pts)

    @property
    def lost_frames(self) -> int:
        """How many frames the file promises that its damage has taken."""
        return max(0, self._promised - self.frame_count) if self._damaged else 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        width, height = self._stored_size
        return (height, width) if _swaps_axes(self._matrix) else (width, height)

    @property
    def rotation_degrees(self) -> int:
        """By how much the stored picture is turned clockwise to be upright: 0, 90, 180 or 270."""
        a, b, _, d = self._matrix
        if _swaps_axes(self._matrix):
            return 90 if b > 0 else 270
        return 180 if a < 0 and d < 0 else 0

    @property
    def codec(self) -> str:
        """The name of the codec, such as h264."""
        return self._stream.codec_context.codec.canonical_name

    def times(self) -> tuple[np.ndarray, float, float]:
        """Seconds of each frame from the first, float64 [frame_count]; frames a second; seconds to the last one's end."""
        tick = float(self._stream.time_base or 0)
        count = self.frame_count
        fps = float(self._stream.average_rate or 0)
        seconds = None
        if None not in self._pts:
            seconds = (np.array(self._pts, dtype=np.float64) - float(self._pts[0] or 0)) * tick
            if count > 1 and (np.any(np.diff(seconds) < 0) or seconds[-1] <= 0):
                seconds = None  # times that run backwards (AVI with packed frames) tell nothing
        if seconds is not None and count > 1:
            measured = (count - 1) / float(seconds[-1])
            # Where the rate varies, the declared one is nominal; times rounded to milliseconds only look varied.
            if abs(measured - fps) > 0.02 * measured:
                fps = measured
        last_seconds = self._last_duration * tick
        if fps <= 0:
            fps = 1 / last_seconds if last_seconds > 0 else _UNKNOWN_FPS
        if seconds is None:
            seconds = np.arange(count) / fps
        return seconds, fps, float(seconds[-1]) + (last_seconds if last_seconds > 0 else 1 / fps)

    def read(self, ranks: np.ndarray) -> np.ndarray:
        """The frames of these ranks, uint8 [T, H, W, 3]; ranks in any order, each needed frame decoded once.

        Where damage only shows now, frames are counted anew (`frame_count` shrinks) and a rank past the end gives the
        last frame.
        """
        width, height = self.size
        with naming_errors(self._name):
            frames = np.empty((len(ranks), height, width, 3), dtype=np.uint8)
            while True:
                wanted, places = np.unique(np.minimum(ranks, self.frame_count - 1), return_inverse=True)
                try:
                    for k, rank in enumerate(wanted.tolist()):
                        frames[places == k] = self._upright(self._go_to(rank))
                    return frames
                except _UnexpectedFrameError as error:
                    if self._table is None:
                        raise VideoError(f"cannot read {self._name}: it changed meanwhile; open it again") from error
                    self._count_by_decoding()

    def _first_picture(self) -> VideoFrame:
        while self.frame_count:
            try:
                return self._go_to(0)
            except _UnexpectedFrameError:
                if self._table is None:
                    break
                self._count_by_decoding()
        raise VideoError(
            f"no frame of {self._name} can be decoded: its video is empty or broken; fetch or export it again"
        )

    def _count_by_decoding(self) -> None:
        """Decode the whole file once and keep only the times; from now on frames are counted from the start."""
        self._table = None
        self._restart()
        self._pts = tuple(picture.pts for _, picture in self._from_start())
        self._restart()

    def _restart(self) -> None:
        self._pictures, self._picture, self._rank = None, None, -1
        self._reopen()

    def _reopen(self) -> None:
        # A new container is at its start for certain; seeking back is not exact in every format.
        self._container.close()
        self._container, self._stream = open_video(self._source, name=self._name)

    def _go_to(self, rank: int) -> VideoFrame:
        """Decode until the picture of this rank, going on from where the last call stopped where that is less work."""
        behind = rank < self._rank
        if self._table is not None:
            key_ordinal, key_pts = self._table.start_for(rank)
            if self._pictures is None or behind or key_ordinal > self._next_ordinal:
                self._pictures, self._rank = self._from_key(self._table, key_ordinal, key_pts), -1
        elif self._pictures is None or behind:
            if behind:
                self._restart()
            self._pictures = self._from_start()
        pictures = self._pictures
        assert pictures is not None
        while self._rank < rank:
            following = next(pictures, None)
            if following is None:
                raise _UnexpectedFrameError
            self._rank, self._picture = following
        assert self._picture is not None
        return self._picture

    def _from_start(self) -> Iterator[tuple[int, VideoFrame]]:
        """Every picture of a just opened file until the data breaks; what is broken before the first one is passed over."""
        rank = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except BROKEN_DATA:
                    self._damaged = True
                    if rank:
                        return
                    continue
                for picture in pictures:
                    yield rank, picture
                    rank += 1
        except BROKEN_DATA:
            self._damaged = True

    def _from_key(self, table: PacketTable, key_ordinal: int, key_pts: int) -> Iterator[tuple[int, VideoFrame]]:
        """Pictures from a key packet on, each compared with the packet table."""
        expected = table.rank_at(key_pts)
        self._next_ordinal = key_ordinal
        try:
            for packet in self._packets_from(table, key_ordinal, key_pts):
                self._next_ordinal += 1
                for picture in packet.decode():
                    if picture.pts is None or expected >= len(table.pts):
                        raise _UnexpectedFrameError
                    if picture.pts < key_pts:
                        continue  # a leading picture of an open group, built on a group that was not decoded
                    # A picture marked corrupt shows a "key" frame that did not refresh the whole picture.
                    if picture.pts != table.pts[expected] or (picture.is_corrupt and key_ordinal):
                        raise _UnexpectedFrameError
                    yield expected, picture
                    expected += 1
        except BROKEN_DATA as error:
            raise _UnexpectedFrameError from error

    def _packets_from(self, table: PacketTable, key_ordinal: int, key_pts: int) -> Iterator["Packet[VideoStream]"]:
        """The packets from the key packet to the end of the file."""
        unknown = key_ordinal + 1
        ordinal = unknown
        try:
            self._container.seek(key_pts, stream=self._stream)
            packets = self._container.demux(self._stream)
            packet = next(packets, None)
            if packet is not None:
                ordinal = next((k for k, pts in table.keys if pts == packet.pts), unknown)
        except BROKEN_DATA:
            pass  # not every format can seek
        if ordinal > key_ordinal:  # the seek went too far or to a place unknown: read on from the start of the file
            self._reopen()
            packets = self._container.demux(self._stream)
            packet, ordinal = next(packets, None), 0
        while packet is not None and ordinal < key_ordinal:
            packet = next(packets, None)
            ordinal += packet is not None and bool(packet.size)
        if packet is None or packet.pts != key_pts:
            raise _UnexpectedFrameError
        yield packet
        yield from packets

    def _upright(self, picture: VideoFrame) -> np.ndarray:
        """RGB as a player shows it: by the frame's own colour matrix and range, at the first frame's size, upright."""
        width, height = self._stored_size
        rgb = self._reformatter.reformat(picture, width, height, "rgb24", threads=1).to_ndarray()
        a, b, c, d = self._matrix
        if _swaps_axes(self._matrix):
            return rgb.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
        return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(picture: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d): the stored pixel (x, y), y downwards, is shown at (a x + c y, b x + d y), shifted and scaled."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _swaps_axes(matrix: tuple[int, int, int, int]) -> bool:
    return abs(matrix[1]) > abs(matrix[0])

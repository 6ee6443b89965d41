"""Pictures of a file whose packets cannot be relied on: counted by decoding the whole file, read from its start."""

from collections.abc import Iterator

from av.video.frame import VideoFrame

from m2clip.data.decode.opening import VideoFile
from m2clip.data.decode.packet_look import PacketLook
from m2clip.data.decode.packets import BROKEN_DATA, NEVER, UnexpectedFrameError, packets_past_breaks

# Decoders that give nothing before they are given what the first picture is built on. Others make something up.
_WAITING_DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video")
_MOST_PASSES = 5  # over a file, until no picture is built on a broken one; two are nearly always enough


class CountedPictures:
    """Whole pictures by rank. Making one decodes the whole file once and keeps only the times.

    A picture is used while the data is whole. What is built on broken data is not: after it, decoding goes on at the next key
    frame.
    """

    def __init__(self, file: VideoFile, *, end_ordinal: int = NEVER) -> None:
        """`end_ordinal`: as of `PacketTable`."""
        self._file, self._end_ordinal = file, end_ordinal
        self.damaged = False
        """Whether broken data was met."""
        self._broken_times: set[int] = set()  # of pictures that the decoder made something up for
        self._waits = file.stream.codec_context.codec.canonical_name not in _WAITING_DECODERS
        self.pts: tuple[int | None, ...] = self._times()
        """The time of each picture in the stream's time base, as the file has it."""
        if not self.pts and self._waits:  # no packet is marked as a key frame
            self._waits = False
            self.pts = self._times()
        self._restart()

    def _times(self) -> tuple[int | None, ...]:
        for _ in range(_MOST_PASSES):
            known = len(self._broken_times)
            self._file.reopen()
            times = tuple(picture.pts for picture in self._from_start())
            if len(self._broken_times) == known:
                break
        return times

    def _restart(self) -> None:
        self._file.reopen()
        self._pictures = self._from_start()
        self._rank = -1
        self._picture: VideoFrame | None = None

    def rising(self, ranks: list[int]) -> Iterator[VideoFrame]:
        """The pictures of these ranks, which rise. Raises UnexpectedFrameError where the file has changed and lacks one."""
        for rank in ranks:
            if rank < self._rank:
                self._restart()
            while self._rank < rank:
                self._picture = next(self._pictures, None)
                if self._picture is None:
                    raise UnexpectedFrameError
                self._rank += 1
            assert self._picture is not None
            yield self._picture

    def _from_start(self) -> Iterator[VideoFrame]:
        """Every whole picture of a just opened file."""
        decoder, look = self._file.stream.codec_context, PacketLook(self._file.stream)
        whole, after_mark = True, False
        resumed, resumed_pts = False, None  # whether decoding went on after a break, and the time of that key frame
        is_fresh = True  # no whole picture has come since the start or the break
        waits, ordinal = self._waits, -1
        for packet in packets_past_breaks(self._file.container, self._file.stream):
            ordinal += packet is not None and bool(packet.size)
            waits = waits and not (packet is not None and packet.is_keyframe)
            if waits:
                self.damaged = True
                continue
            pictures: list[VideoFrame] = []
            try:
                is_known = packet is not None and (ordinal >= self._end_ordinal or packet.pts in self._broken_times)
                if packet is None or packet.is_corrupt or is_known:
                    # Nothing broken has reached the decoder, so what it still holds back is whole.
                    pictures = decoder.decode(None) if whole else []
                    self.damaged, whole = True, False
                    after_mark = packet is not None and packet.is_corrupt
                elif packet.size and look.at(packet).is_broken:
                    self.damaged, whole = True, False
                elif whole:
                    pictures = packet.decode()
                elif packet.is_keyframe and not after_mark:
                    decoder.flush_buffers()
                    whole, resumed, resumed_pts, is_fresh = True, True, packet.pts, True
                    pictures = packet.decode()
                else:
                    # What is cut out of a transport stream lies behind the marked packet, or behind the one after it.
                    after_mark = False
            except BROKEN_DATA:
                self.damaged, whole = True, False
            if any(is_made_up(picture, is_fresh=is_fresh) for picture in pictures):
                self._note_made_up([*pictures, *self._held_back()])
                self.damaged, whole = True, False
                continue
            for picture in pictures:
                if not (resumed and _is_built_on_the_lost(picture, resumed_pts)):
                    is_fresh &= picture.is_corrupt
                    yield picture

    def _held_back(self) -> list[VideoFrame]:
        try:
            return self._file.stream.codec_context.decode(None)
        except BROKEN_DATA:
            return []

    def _note_made_up(self, pictures: list[VideoFrame]) -> None:
        """What was shown before, or comes now, may be built on these: only the next pass over the file knows it in time."""
        self._broken_times |= {picture.pts for picture in pictures if picture.is_corrupt and picture.pts is not None}


def is_made_up(picture: VideoFrame, *, is_fresh: bool) -> bool:
    """Whether the decoder has filled in for broken data. `is_fresh`: no whole picture has come since it was started.

    It marks such a picture. Where it is started at a "key" frame that does not refresh the whole picture at once, it marks all of
    them until that is done, too; those are no more broken than the file is.
    """
    return bool(picture.is_corrupt and (picture.key_frame or not is_fresh))


def _is_built_on_the_lost(picture: VideoFrame, resumed_pts: int | None) -> bool:
    """Whether a picture needs what was before the key frame of this time, at which decoding went on.

    It does where it is shown earlier (a leading picture of an open group), or where the decoder marks it: a "key" frame need
    not refresh the whole picture at once.
    """
    is_earlier = picture.pts is not None and resumed_pts is not None and picture.pts < resumed_pts
    return is_earlier or picture.is_corrupt

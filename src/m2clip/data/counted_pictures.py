"""Pictures of a file whose packets cannot be relied on: counted by decoding the whole file, read from its start."""

from collections.abc import Iterator

from av.video.frame import VideoFrame

from m2clip.data.opening import VideoFile
from m2clip.data.packets import BROKEN_DATA, UnexpectedFrameError


class CountedPictures:
    """Pictures by rank, until the data breaks. Making one decodes the whole file once and keeps only the times."""

    def __init__(self, file: VideoFile) -> None:
        self._file = file
        self.damaged = False
        """Whether broken data was met."""
        file.reopen()
        self.pts: tuple[int | None, ...] = tuple(picture.pts for _, picture in self._from_start())
        """The time of each picture in the stream's time base, as the file has it."""
        self._restart()

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
                following = next(self._pictures, None)
                if following is None:
                    raise UnexpectedFrameError
                self._rank, self._picture = following
            assert self._picture is not None
            yield self._picture

    def _from_start(self) -> Iterator[tuple[int, VideoFrame]]:
        """Every picture of a just opened file until the data breaks; what is broken before the first one is passed over."""
        rank = 0
        try:
            for packet in self._file.container.demux(self._file.stream):
                try:
                    pictures = packet.decode()
                except BROKEN_DATA:
                    self.damaged = True
                    if rank:
                        return
                    continue
                for picture in pictures:
                    yield rank, picture
                    rank += 1
        except BROKEN_DATA:
            self.damaged = True

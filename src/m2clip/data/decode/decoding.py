"""Frames of a video file by their place in presentation order, exact and upright.

Frame i is the i-th picture that decoding the file from its start to its end gives. Two ways lead there. Where the
packets can be relied on (nearly always), decoding starts at the last key frame that the wanted frame needs, leaves out
what nothing wanted is built on, and compares every decoded time with the expected one (`keyed_pictures.py`). Where they
cannot (see `packets.py`), or where that comparison fails, frames are counted from the start of the file: slower, never
wrong (`counted_pictures.py`).
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame

from m2clip.data.decode.counted_pictures import CountedPictures
from m2clip.data.decode.declared import declared_frames, ends_early
from m2clip.data.decode.kept_packets import packet_table
from m2clip.data.decode.keyed_pictures import KeyedPictures
from m2clip.data.decode.opening import VideoFile, naming_errors, refuse_hidden_size
from m2clip.data.decode.packets import UnexpectedFrameError
from m2clip.data.decode.portions import Each, in_portions
from m2clip.data.decode.upright import Upright
from m2clip.errors import VideoError

_UNKNOWN_FPS = 25.0  # for a file with neither rate nor times
_MOST_REORDERED = (
    16  # frames by which codecs reorder pictures at most; times that jump back further belong to another recording
)


class FileFrames:
    """The frames of one video file, by its path or open for reading. `name` stands in every message."""

    def __init__(self, source: Path | BinaryIO | bytes, *, name: str) -> None:
        self._name = name
        with naming_errors(name):
            self._file = VideoFile(source, name=name)
            try:
                self._table = packet_table(self._file)
                self._damaged = self._table.damaged or self._file.is_cut or ends_early(self._file, self._table)
                self._pictures: KeyedPictures | CountedPictures
                self._read_by_table(leaves_out=True)
                self._upright = Upright(self._first_picture())
            except BaseException:
                self.close()
                raise

    def _read_by_table(self, *, leaves_out: bool) -> None:
        self._leaves_out = leaves_out
        self._pts: np.ndarray | None = self._table.pts  # None: not every frame has a time
        self._count = len(self._pts)
        self._pictures = KeyedPictures(self._file, self._table, leaves_out=leaves_out)
        if self._table.doubt or not self._count:
            self._read_by_counting()

    def _read_by_counting(self) -> None:
        self._pictures = CountedPictures(self._file, end_ordinal=self._table.end_ordinal)
        self._damaged |= self._pictures.damaged
        pts = self._pictures.pts
        self._pts = None if None in pts else np.array(pts, dtype=np.int64)
        self._count = len(pts)
        if not pts:
            refuse_hidden_size(self._file)
            raise VideoError(
                f"no frame of {self._name} can be decoded: its video is empty or broken; fetch or export it again"
            )

    def _read_another_way(self, error: UnexpectedFrameError) -> None:
        """Decoding did not give what the packets promised: leave nothing out, and where that was not it, count."""
        if isinstance(self._pictures, CountedPictures):
            raise VideoError(f"cannot read {self._name}: it changed meanwhile; open it again") from error
        if self._leaves_out:
            self._read_by_table(leaves_out=False)
        else:
            self._read_by_counting()

    def close(self) -> None:
        """Give the file back; frames cannot be read afterwards."""
        self._file.close()

    @property
    def frame_count(self) -> int:
        """How many frames can be decoded."""
        return self._count

    @property
    def lost_frames(self) -> int:
        """How many frames the file promises that its damage has taken."""
        return max(0, declared_frames(self._file, self._table) - self.frame_count) if self._damaged else 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self._upright.size

    @property
    def rotation_degrees(self) -> int:
        """By how much the stored picture is turned clockwise to be upright: 0, 90, 180 or 270."""
        return self._upright.rotation_degrees

    @property
    def codec(self) -> str:
        """The name of the codec, such as h264."""
        return self._file.stream.codec_context.codec.canonical_name

    def times(self) -> tuple[np.ndarray, float, float]:
        """Seconds of each frame from the first, float64 [frame_count]; frames a second; seconds to the last one's end."""
        tick = float(self._file.stream.time_base or 0)
        count = self.frame_count
        fps = float(self._file.stream.average_rate or 0)
        seconds = None
        if self._pts is not None and count > 1:
            seconds = _joined((self._pts.astype(np.float64) - float(self._pts[0])) * tick, fps)
            span, runs_back = float(np.ptp(seconds)), bool(np.any(np.diff(seconds) < 0))
            measured = (count - 1) / span if span > 0 else fps
            # Where the rate varies, the declared one is nominal; times rounded to milliseconds only look varied, and those of
            # packed AVI frames run backwards and repeat. Where frames are lost, those around them came at the declared rate.
            if abs(measured - fps) > (0.2 if runs_back else 0.02) * measured and not (self.lost_frames and fps > 0):
                fps = measured
            if runs_back or span <= 0:
                seconds = None  # they tell nothing of a single frame
        last_seconds = self._table.last_duration * tick
        if fps <= 0:
            fps = 1 / last_seconds if last_seconds > 0 else _UNKNOWN_FPS
        if seconds is None:
            seconds = np.arange(count) / fps
        return seconds, fps, float(seconds[-1]) + (last_seconds if last_seconds > 0 else 1 / fps)

    def read(self, ranks: np.ndarray, each: Each | None = None) -> np.ndarray:
        """What `each` makes of the frames of these ranks, [T, ...]; None: the frames, uint8 [T, H, W, 3]. Ranks in any order.

        Each needed frame is decoded once, and `each` sees it once. Where damage only shows now, frames are counted anew
        (`frame_count` shrinks) and a rank past the end gives the last frame.
        """
        with naming_errors(self._name):
            while True:
                wanted, places = np.unique(np.minimum(ranks, self.frame_count - 1), return_inverse=True)
                pictures = self._pictures.rising(wanted.tolist())
                try:
                    made = in_portions((self._upright(picture) for picture in pictures), len(wanted), each)
                except UnexpectedFrameError as error:
                    self._read_another_way(error)
                else:
                    return made if np.array_equal(places, np.arange(len(wanted))) else made[places]

    def _first_picture(self) -> VideoFrame:
        while True:
            try:
                return next(self._pictures.rising([0]))
            except UnexpectedFrameError as error:
                self._read_another_way(error)


def _joined(seconds: np.ndarray, fps: float) -> np.ndarray:
    """Times that begin anew on the way, as in transport streams that were put one behind another, as those of one recording."""
    steps = np.diff(seconds)
    begins_anew = steps * fps < -_MOST_REORDERED
    return np.cumsum(np.append(seconds[:1], np.where(begins_anew, 1 / fps, steps))) if begins_anew.any() else seconds

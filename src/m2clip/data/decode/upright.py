"""A decoded picture as a player shows it: RGB, by the frame's own colour matrix and range, and the right way up."""

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter


class Upright:
    """Turns pictures of one video as its first picture `first` says; all get the size of that one."""

    def __init__(self, first: VideoFrame) -> None:
        self._reformatter = VideoReformatter()
        self._matrix = _display_matrix(first)
        self._stored_size = first.width, first.height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        width, height = self._stored_size
        return (height, width) if self._swaps_axes else (width, height)

    @property
    def rotation_degrees(self) -> int:
        """By how much the stored picture is turned clockwise to be upright: 0, 90, 180 or 270."""
        a, b, _, d = self._matrix
        if self._swaps_axes:
            return 90 if b > 0 else 270
        return 180 if a < 0 and d < 0 else 0

    def __call__(self, picture: VideoFrame) -> np.ndarray:
        """uint8 RGB [H, W, 3]; a view of other memory order where the picture is turned."""
        width, height = self._stored_size
        # Bicubic is what FFmpeg's own program takes between two samples of colour, and for a picture of another size.
        rgb = self._reformatter.reformat(
            picture, width, height, "rgb24", interpolation="BICUBIC", threads=1
        ).to_ndarray()
        a, b, c, d = self._matrix
        if self._swaps_axes:
            return rgb.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
        return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]

    @property
    def _swaps_axes(self) -> bool:
        return abs(self._matrix[1]) > abs(self._matrix[0])


def _display_matrix(picture: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d): the stored pixel (x, y), y downwards, is shown at (a x + c y, b x + d y), shifted and scaled."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    return a, b, c, d

"""An explanation as one picture: the frames, over them the heat of each label, and what the difference branch answers to."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from m2clip.explanations import Explanation

_FRAMES_A_LINE = 16
_LEAST_SIDE = 112  # of a frame, pixels: heat on smaller ones cannot be made out
_GAP = 4  # pixels between frames
_TEXT = 12  # height of a letter, pixels
_BAR = 6  # height of a frame's share of the heat, pixels
_INK, _PAPER, _FAINT, _SHARE, _GROOVE = (20, 20, 20), (255, 255, 255), (110, 110, 110), (200, 70, 30), (230, 230, 230)
# From cold to hot: dark violet, magenta, orange, pale yellow; lightness rises all along, so that it reads without colour, too.
_RAMP = np.array([(40, 10, 90), (160, 30, 110), (245, 120, 40), (255, 245, 160)], np.float32)
_MOST_OPAQUE = 0.8


@dataclass(frozen=True)
class _Row:
    title: str
    pictures: NDArray[np.uint8]
    """[T, H, W, 3]."""
    shares: NDArray[np.float32] | None = None
    """[T], drawn as bars below the frames: full is the largest."""


def heat_strip(*explanations: "Explanation") -> bytes:
    """PNG of explanations of one clip: its frames with their indices and times, a row of heat for each label with each frame's share
    of it as a bar, and the row of the difference branch, where there is one that answers to anything.

    More than 16 frames go on in another line. Heat is comparable within a row: its hottest patch is the palest.
    """
    first = explanations[0]
    frames = first.pixels.transpose(0, 2, 3, 1)
    rows = [_Row("", frames)]
    rows += [
        _Row(f"{100 * one.score:.1f} %  {one.label}", overlaid(frames, one.heat), one.time) for one in explanations
    ]
    if first.difference is not None and first.difference.any():
        rows.append(_Row("what the difference branch answers to (of no label)", overlaid(frames, first.difference)))
    return _drawn(rows, first.frame_indices, first.frame_seconds)


def drawn_side(side: int) -> int:
    """How large a frame of `side` pixels is drawn: a whole number of times, 112 pixels at least."""
    return side * max(1, -(-_LEAST_SIDE // side))


def overlaid(frames: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Frames uint8 [T, H, W, 3] under heat [T, H, W] in 0..1: the hotter, the paler and the more opaque; 0 changes nothing."""
    colours, opacity = heat_colours(heat)
    return (frames + opacity * (colours - frames) + 0.5).astype(np.uint8)


def heat_colours(heat: NDArray[np.float32]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Heat [...] in 0..1 -> its colours RGB [..., 3] in 0..255, and how opaque they lie over a picture, [..., 1] in 0..0.8."""
    place = heat * (len(_RAMP) - 1)
    below = np.minimum(place.astype(int), len(_RAMP) - 2)
    part = (place - below)[..., None]
    return _RAMP[below] * (1 - part) + _RAMP[below + 1] * part, _MOST_OPAQUE * np.sqrt(heat)[..., None]


def _drawn(rows: Sequence[_Row], indices: NDArray[np.int64], seconds: NDArray[np.float64]) -> bytes:
    count, height, width = rows[0].pictures.shape[:3]
    height, width = drawn_side(height), drawn_side(width)
    columns = min(count, _FRAMES_A_LINE)
    lines = -(-count // columns)
    cell = width + _GAP
    line_heights = [
        height + _GAP + (2 * (_TEXT + 3) if k == 0 else 0 if row.shares is None else _BAR + 2)
        for k, row in enumerate(rows)
    ]
    title_heights = [_TEXT + 2 * _GAP if row.title else _GAP for row in rows]
    font = ImageFont.load_default(_TEXT)
    titles = max(font.getlength(row.title) for row in rows)
    size = (max(columns * cell, int(titles) + _GAP) + _GAP, sum(title_heights) + lines * sum(line_heights))
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    top = 0
    for k, row in enumerate(rows):
        draw.text((_GAP, top + _GAP // 2), row.title, fill=_INK, font=font)
        top += title_heights[k]
        for t in range(count):
            left, y = _GAP + (t % columns) * cell, top + (t // columns) * line_heights[k]
            if k == 0:
                draw.text((left, y), f"#{indices[t]}", fill=_INK, font=font)
                draw.text((left, y + _TEXT + 2), f"{seconds[t]:.3f} s", fill=_FAINT, font=font)
                y += 2 * (_TEXT + 3)
            frame = Image.fromarray(np.ascontiguousarray(row.pictures[t]))
            picture.paste(frame.resize((width, height), Image.Resampling.BICUBIC), (left, y))
            if row.shares is not None:
                y += height + 2
                draw.rectangle((left, y, left + width - 1, y + _BAR - 1), fill=_GROOVE)
                filled = round(width * float(row.shares[t] / row.shares.max()))
                if filled:
                    draw.rectangle((left, y, left + filled - 1, y + _BAR - 1), fill=_SHARE)
        top += lines * line_heights[k]
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

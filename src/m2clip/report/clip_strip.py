"""The frames of clips as one picture: a row a view, each frame under its index and time."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FRAMES_A_LINE = 16
_GAP = 4  # pixels between frames
_TEXT = 12  # height of a letter, pixels
_LEAST_WIDTH = 64  # of a frame with its labels, pixels
_INK, _PAPER, _FAINT = (20, 20, 20), (255, 255, 255), (110, 110, 110)


def clip_strip(pixels: np.ndarray, indices: np.ndarray, seconds: np.ndarray, *, names: Sequence[str]) -> bytes:
    """PNG of V clips uint8 [V, T, 3, H, W], whose frames have these indices and times [V, T]; `names` [V] stand above the rows.

    More than 16 frames go on in another line.
    """
    views, frames, _, height, width = pixels.shape
    columns = min(frames, _FRAMES_A_LINE)
    lines = -(-frames // columns)
    font = ImageFont.load_default(_TEXT)
    cell = max(width, _LEAST_WIDTH) + _GAP
    line_height = height + 2 * (_TEXT + 3) + _GAP
    row_height = _TEXT + 2 * _GAP + lines * line_height
    picture = Image.new("RGB", (columns * cell + _GAP, views * row_height + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    for view in range(views):
        top = _GAP + view * row_height
        draw.text((_GAP, top), names[view], fill=_INK, font=font)
        for t in range(frames):
            left = _GAP + (t % columns) * cell
            y = top + _TEXT + _GAP + (t // columns) * line_height
            draw.text((left, y), f"#{indices[view, t]}", fill=_INK, font=font)
            draw.text((left, y + _TEXT + 2), f"{seconds[view, t]:.3f} s", fill=_FAINT, font=font)
            shown = Image.fromarray(np.ascontiguousarray(pixels[view, t].transpose(1, 2, 0)))
            picture.paste(shown, (left, y + 2 * (_TEXT + 3)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

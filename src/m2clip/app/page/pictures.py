"""Frames and heat maps as pictures inside the page (data: addresses), so that no picture of a visitor's video has an address."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2clip.report.heat_strip import heat_colours


def frame_picture(pixels: NDArray[np.uint8]) -> str:
    """uint8 [3, H, W] -> a JPEG as a data: address."""
    return _address(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), "JPEG", quality=88)


def heat_picture(heat: NDArray[np.float32]) -> str:
    """Heat float [H, W] in 0..1 -> a PNG to lie over a frame, as a data: address: the hotter, the lighter and the less transparent."""
    colours, opacity = heat_colours(np.clip(np.nan_to_num(heat), 0.0, 1.0))
    picture = Image.fromarray(np.concatenate([colours, 255 * opacity], axis=-1).astype(np.uint8), "RGBA")
    picture.thumbnail((112, 112))  # heat is smooth: the browser draws it larger
    return _address(picture, "PNG")


def _address(picture: Image.Image, form: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"

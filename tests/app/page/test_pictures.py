"""Pictures inside the page."""

import base64
import io

import numpy as np
from PIL import Image

from m2clip.app.page.pictures import frame_picture, heat_picture


def read(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_a_frame_keeps_its_colours() -> None:
    pixels = np.zeros((3, 16, 24), np.uint8)
    pixels[0] = 200
    address = frame_picture(pixels)
    assert address.startswith("data:image/jpeg;base64,")
    shown = read(address)
    assert shown.shape == (16, 24, 3)
    assert abs(int(shown[8, 8, 0]) - 200) < 4


def test_the_hotter_the_lighter_and_the_less_transparent() -> None:
    shown = read(heat_picture(np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float32)))[0].astype(int)
    light = shown[:, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    assert (np.diff(shown[:, 3]) > 0).all()
    assert shown[0, 3] == 0
    assert shown[-1, 3] == 204  # 0.8 of 255


def test_what_is_no_number_is_cold() -> None:
    assert read(heat_picture(np.array([[np.nan, 2.0]], np.float32)))[0, :, 3].tolist() == [0, 204]

"""Found videos behind keys."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2clip.app.page.shelf import PICTURE_SIDE, Shelf
from m2clip.errors import VideoError
from tests.small_inputs import moving_square, write_video


def test_only_what_was_found_has_a_key(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_square())
    shelf = Shelf()
    key = shelf.offer(str(video))
    assert key is not None
    assert shelf.path(key) == video
    assert shelf.offer(str(video)) == key
    for other in ("", "0" * 32, str(video), "../a.mp4", key[:-1]):
        with pytest.raises(VideoError, match="search again"):
            shelf.path(other)


def test_keys_say_nothing_and_differ_between_servers(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_square())
    assert Shelf().offer(str(video)) != Shelf().offer(str(video))


@pytest.mark.parametrize("path", ["https://elsewhere/a.mp4", "shard.tar/a.mp4", "/no/such/file.mp4"])
def test_what_is_no_file_here_has_no_key(path: str) -> None:
    assert Shelf().offer(path) is None


def test_a_file_that_is_gone_is_not_served(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_square())
    shelf = Shelf()
    key = shelf.offer(str(video))
    video.unlink()
    with pytest.raises(VideoError):
        shelf.path(key or "")


def test_a_picture_is_a_jpeg_that_is_drawn_once(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_square())
    drawn: list[Any] = []

    async def draw(path: Path, side: int) -> Any:
        drawn.append((path, side))
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[..., 1] = 200
        return pixels

    async def run() -> bytes:
        shelf = Shelf()
        key = shelf.offer(str(video)) or ""
        first = await shelf.picture(key, draw)
        assert await shelf.picture(key, draw) == first
        with pytest.raises(VideoError, match="search again"):
            await shelf.picture("0" * 32, draw)
        return first

    picture = Image.open(io.BytesIO(asyncio.run(run())))
    assert (picture.format, picture.size) == ("JPEG", (64, 48))
    assert np.asarray(picture)[24, 32, 1] > 150
    assert drawn == [(video, PICTURE_SIDE)]

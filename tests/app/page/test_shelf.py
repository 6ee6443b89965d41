"""Found videos behind keys."""

from pathlib import Path

import pytest

from m2clip.app.page.shelf import Shelf
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


def test_a_picture_is_a_jpeg_of_the_middle_frame(tmp_path: Path) -> None:
    import io

    import numpy as np
    from PIL import Image

    pixels = np.zeros((12, 48, 64, 3), np.uint8)
    pixels[6, :, :, 1] = 200
    shelf = Shelf()
    key = shelf.offer(str(write_video(tmp_path / "a.mp4", pixels)))
    picture = Image.open(io.BytesIO(shelf.picture(key or "")))
    assert picture.format == "JPEG"
    assert picture.size == (64, 48)
    assert np.asarray(picture)[24, 32, 1] > 150

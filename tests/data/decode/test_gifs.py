"""Animated GIFs as a player shows them: pictures built on those before, times of their own, white where nothing is painted."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2clip.data.video import Video
from m2clip.errors import VideoError

SIDE = 16
GROUND, RED, YELLOW, WHITE = (10, 200, 10), (250, 0, 0), (250, 250, 0), (255, 255, 255)


def layer(colour: tuple[int, int, int], at: slice, ground: tuple[int, ...] = (0, 0, 0, 0)) -> Image.Image:
    """A square of a colour on a ground, which is transparent where it is not given."""
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[:] = (*ground, 255)[:4] if len(ground) == 3 else ground
    pixels[at, at] = (*colour, 255)
    return Image.fromarray(pixels)


def animation(images: Sequence[Image.Image], **options: object) -> bytes:
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], optimize=False, **options)
    return file.getvalue()


LAYERS = [layer(RED, slice(0, 4), GROUND), layer(RED, slice(4, 8)), layer(YELLOW, slice(6, 12))]


@pytest.mark.parametrize(
    ("disposal", "kept"),
    [(1, GROUND), (2, WHITE), (3, WHITE)],
    ids=["left in place", "cleared", "taken back"],
)
def test_pictures_are_built_as_a_player_builds_them(tmp_path: Path, disposal: int, kept: tuple[int, int, int]) -> None:
    """With disposal 1 layers pile up; with 2 each is wiped away before the next; with 3 what was before it comes back: nothing."""
    (tmp_path / "a.gif").write_bytes(animation(LAYERS, disposal=disposal, duration=100))
    for source in (tmp_path / "a.gif", (tmp_path / "a.gif").read_bytes()):
        for order in ([0, 1, 2], [2, 1, 0]):
            with Video(source) as video:
                frames = dict(zip(order, video.frames(order), strict=True))
            assert frames[0][1, 1].tolist() == list(RED)
            assert frames[0][15, 15].tolist() == list(GROUND)
            assert frames[1][5, 5].tolist() == list(RED)
            assert frames[2][7, 7].tolist() == list(YELLOW)
            assert frames[1][15, 15].tolist() == frames[2][15, 15].tolist() == list(kept)
            assert frames[2][5, 5].tolist() == list(RED if disposal == 1 else WHITE)


def test_times_are_those_of_the_pictures() -> None:
    data = animation([layer(RED, slice(i, i + 4), GROUND) for i in range(4)], duration=[100, 30, 0, 200])
    with Video(data) as video:
        info = video.info
    # A time of zero is a tenth of a second to every player.
    np.testing.assert_allclose(info.pts_seconds, [0, 0.1, 0.13, 0.23])
    assert info.duration_seconds == pytest.approx(0.43)
    assert (info.frame_count, info.lost_frames, info.codec) == (4, 0, "gif")


def test_one_picture_is_a_video_of_one_frame() -> None:
    with Video(animation(LAYERS[:1])) as video:
        assert video.frames([0])[0, 1, 1].tolist() == list(RED)
        assert (video.info.frame_count, video.info.pts_seconds.tolist()) == (1, [0.0])
        assert video.info.duration_seconds > 0


def test_a_gif_that_is_cut() -> None:
    images = [layer((i * 20, 250 - i * 20, i), slice(i, i + 4), GROUND) for i in range(10)]
    data = animation(images, duration=100)
    with Video(data) as whole:
        expected = whole.frames(range(10))
    with Video(data[: len(data) * 2 // 3]) as video:
        count = video.info.frame_count
        assert 3 <= count < 10
        np.testing.assert_array_equal(video.frames(range(count - 1)), expected[: count - 1])
    for cut in (6, 12, 20):
        with pytest.raises(VideoError, match=r"(cannot read|no frame of|no video stream in) the video of"):
            Video(data[:cut])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["moviepy_pigs_in_a_polka", "imageio_newtonscradle", "imageio_issue245"])
def test_gifs_from_the_wild_are_painted_as_pillow_paints_them(shared: Path, name: str) -> None:
    path = shared / f"data/videos/odd/{name}.gif"
    with Image.open(path) as image, Video(path) as video:
        assert video.info.frame_count == image.n_frames
        for i in (0, image.n_frames // 2, image.n_frames - 1):
            image.seek(i)
            painted = np.asarray(image.convert("RGBA"))
            (frame,) = video.frames([i])
            shown = painted[..., 3] == 255
            np.testing.assert_array_equal(frame[shown], painted[..., :3][shown])
            assert (frame[~shown] == 255).all()


@pytest.mark.shared
def test_the_times_of_a_gif_from_the_wild(shared: Path) -> None:
    with Video(shared / "data/videos/odd/imageio_newtonscradle.gif") as video:
        steps = np.diff(video.info.pts_seconds)
    assert (round(float(steps.min()), 6), round(float(steps.max()), 6)) == (0.02, 0.05)

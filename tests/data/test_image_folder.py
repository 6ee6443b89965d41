"""Folders of images: their order, their pixels, what is no frame, and what becomes of broken ones."""

import os
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2clip.data.image_folder import IMAGES_FPS
from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.odd_videos import pattern


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def grey(value: int, *, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def folder_of(root: Path, names: Sequence[str]) -> Path:
    """Image i is the grey i."""
    for i, name in enumerate(names):
        save(root / name, grey(i))
    return root


def greys(source: object) -> list[int]:
    with Video(source) as video:
        return video.frames(range(video.info.frame_count))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    "names",
    [
        [f"frame_{i:05}.png" for i in range(1, 13)],
        [f"img_{i:05}.png" for i in range(12)],
        [f"{i}.png" for i in range(1, 13)],
        [f"frame_{i}.png" for i in (2, 3, 10, 20, 100, 1000)],  # gaps, numbers of different lengths
        [f"v_Run_g01_c{10 - i:02}_0.png" for i in (9, 1)],
        [f"FRAME{i}.PNG" for i in range(9, 12)],
        [f"{i}.bmp" for i in (8, 9)] + [f"{i}.png" for i in (10, 11)] + [f"{i}.TIF" for i in (12, 13)],
        [f"2024-01-01 10.{i // 60}.{i % 60}.png" for i in range(58, 63)],
        ["a.png", "b.png", "c.png"],
        ["1_start.png", "2_middle.png", "10_end.png"],
        ["Frame_8.png", "frame_9.png", "Frame_10.png"],
        ["läufer 1 ☃.png", "läufer 2 ☃.png"],
        ["only.png"],
    ],
    ids=lambda names: names[0],
)
def test_images_are_in_the_order_of_their_numbers(tmp_path: Path, names: list[str]) -> None:
    folder_of(tmp_path, names)
    assert greys(tmp_path) == greys(f"{tmp_path}/") == list(range(len(names)))


def test_facts(tmp_path: Path) -> None:
    folder_of(tmp_path, [f"{i}.png" for i in range(5)])
    with Video(tmp_path) as video:
        info = video.info
        assert video.name == str(tmp_path)
    assert (info.frame_count, info.width, info.height, info.codec) == (5, 6, 4, "png")
    assert (info.fps, info.duration_seconds, info.lost_frames, info.rotation_degrees) == (IMAGES_FPS, 0.2, 0, 0)
    np.testing.assert_allclose(info.pts_seconds, np.arange(5) / 25)


def test_pixels_are_those_of_the_files(tmp_path: Path) -> None:
    pictures = pattern(3)
    for i, picture in enumerate(pictures):
        save(tmp_path / f"png/{i}.png", picture)
        save(tmp_path / f"jpg/{i}.jpg", picture, quality=90)
    with Video(tmp_path / "png") as video:
        np.testing.assert_array_equal(video.frames([2, 0, 2]), pictures[[2, 0, 2]])
    with Video(tmp_path / "jpg") as video:
        assert video.info.codec == "jpeg"
        expected = [np.asarray(Image.open(tmp_path / f"jpg/{i}.jpg")) for i in range(3)]
        np.testing.assert_array_equal(video.frames(range(3)), expected)


def test_only_the_asked_for_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, [f"{i}.png" for i in range(9)])
    opened: list[str] = []
    really_open = Image.open
    monkeypatch.setattr(
        "m2clip.data.image_folder.Image.open",
        lambda path, **options: (opened.append(path.name), really_open(path, **options))[1],
    )
    with Video(tmp_path) as video:
        video.frames([7, 3, 7])
    assert opened == ["0.png", "3.png", "7.png"]


def test_what_is_no_frame_is_left_out(tmp_path: Path) -> None:
    folder_of(tmp_path, [f"frame_{i}.jpg" for i in range(3)])
    for name in (
        "Thumbs.db",
        ".DS_Store",
        "._frame_1.jpg",
        ".frame_7.jpg",
        "fps.txt",
        "a.mp4",
        "frame_9.jpg.part",
        "readme",
    ):
        (tmp_path / name).write_text("no image")
    save(tmp_path / "cover.jpg", grey(99))
    save(tmp_path / "sub/frame_8.jpg", grey(99))
    (tmp_path / "frame_5.jpg").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "frame_6.jpg")
    assert greys(tmp_path) == [0, 1, 2]


def test_optical_flow_beside_the_images_is_left_out(tmp_path: Path) -> None:
    folder_of(tmp_path, [f"img_{i:05}.png" for i in range(1, 4)])
    for i in range(1, 4):
        save(tmp_path / f"flow_x_{i:05}.png", grey(99))
        save(tmp_path / f"flow_y_{i:05}.png", grey(99))
    assert greys(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "it is a folder that holds no image (.jpg, .png, ...); give a video or a folder of its frames"),
        ([".a.png"], "holds no image"),
        (["sub/1.png"], "it is a folder that holds other folders; give one of them"),
        (["a_1.png", "a_2.png", "b_1.png"], "holds 2 series of images (a_1.png and b_1.png); keep one in a folder"),
        (["1.png", "01.png"], "01.png and 1.png are the same frame by their names; keep one of them"),
        (["1.png", "1.bmp"], "1.bmp and 1.png are the same frame by their names; keep one of them"),
    ],
)
def test_folders_that_are_no_video(tmp_path: Path, names: list[str], reason: str) -> None:
    folder_of(tmp_path, names)
    with pytest.raises(VideoError, match=re.escape(reason)) as caught:
        Video(tmp_path)
    assert str(caught.value).startswith(f"cannot read {tmp_path}: ")


def broken(path: Path, how: str) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    data = path.read_bytes()
    if how == "link":
        path.unlink()
        path.symlink_to("nowhere.png")
    elif how == "circle":
        path.unlink()
        path.symlink_to(path.name)
    else:
        path.write_bytes({"empty": b"", "cut": data[:-2000], "noise": os.urandom(500), "head": data[:20]}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "noise", "head", "link", "circle"])
@pytest.mark.parametrize("at", [0, 3, 8])
def test_a_broken_image_is_a_lost_frame(tmp_path: Path, how: str, at: int) -> None:
    folder_of(tmp_path, [f"{i}.png" for i in range(9)])
    (tmp_path / f"{at}.png").unlink()
    broken(tmp_path / f"{at}.png", how)
    expected = [i for i in range(9) if i != at]
    with Video(tmp_path) as video:
        frames = video.frames(range(video.info.frame_count))[:, 0, 0, 0].tolist()
        info = video.info
        assert frames[:8] == expected
        assert (info.frame_count, info.lost_frames) == (8, 1)
        # A frame keeps its time, from the first one there is.
        np.testing.assert_allclose(info.pts_seconds, (np.array(expected) - expected[0]) / 25)
        assert video.frames([7]).max() == expected[-1]


def test_all_images_are_broken(tmp_path: Path) -> None:
    for i in range(3):
        broken(tmp_path / f"{i}.png", "noise")
    with pytest.raises(VideoError, match=r"no image of .* can be read \(2\.png: .*\); extract its frames again"):
        Video(tmp_path)


def test_all_but_the_first_are_broken(tmp_path: Path) -> None:
    save(tmp_path / "0.png", grey(7, height=32, width=32))
    for i in range(1, 6):
        broken(tmp_path / f"{i}.png", "cut")
    with Video(tmp_path) as video:
        assert video.frames(range(6)).max() == video.frames(range(1)).min() == 7
        assert (video.info.frame_count, video.info.lost_frames) == (1, 5)


def test_sizes_that_differ_become_that_of_the_first(tmp_path: Path) -> None:
    save(tmp_path / "1.png", grey(10))
    save(tmp_path / "2.png", grey(20, height=40, width=9))
    with Video(tmp_path) as video:
        frames = video.frames([0, 1])
    assert frames.shape == (2, 4, 6, 3)
    assert (frames[0] == 10).all()
    assert (frames[1] == 20).all()


# By the value of EXIF's orientation: where the red upper left quarter of the stored picture is shown.
@pytest.mark.parametrize(
    ("orientation", "row", "column", "degrees"),
    [
        (1, 0, 0, 0),
        (2, 0, -1, 0),
        (3, -1, -1, 180),
        (4, -1, 0, 180),
        (5, 0, 0, 90),
        (6, 0, -1, 90),
        (7, -1, -1, 270),
        (8, -1, 0, 270),
    ],
)
def test_images_are_upright(tmp_path: Path, orientation: int, row: int, column: int, degrees: int) -> None:
    picture = grey(0, height=32, width=64)
    picture[:16, :32, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "1.jpg", picture, exif=exif, quality=95)
    with Video(tmp_path) as video:
        (frame,) = video.frames([0])
        assert video.info.rotation_degrees == degrees
        assert (video.info.width, video.info.height) == ((32, 64) if orientation >= 5 else (64, 32))
    corners = {(i, j): frame[i, j, 0] for i in (0, -1) for j in (0, -1)}
    assert [corner for corner, red in corners.items() if red > 200] == [(row, column)]


@pytest.mark.filterwarnings("error")
def test_broken_notes_on_a_picture_do_not_lose_it(tmp_path: Path) -> None:
    save(tmp_path / "1.jpg", grey(50), exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff\x01")
    assert greys(tmp_path) == [50]


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("1.png", Image.fromarray(np.full((2, 2), 0xABCD, np.uint16)), [0xAB] * 3),
        ("1.tif", Image.fromarray(np.full((2, 2), 0xABCD, np.uint16)), [0xAB] * 3),
        ("1.pgm", Image.fromarray(np.full((2, 2), 0xABCD, np.uint16)), [0xAB] * 3),
        ("1.png", Image.new("L", (2, 2), 77), [77] * 3),
        ("1.png", Image.new("1", (2, 2), 1), [255] * 3),
        ("1.png", Image.new("LA", (2, 2), (77, 0)), [77] * 3),
        ("1.png", Image.new("RGBA", (2, 2), (1, 2, 3, 0)), [1, 2, 3]),
        ("1.png", Image.new("RGB", (2, 2), (1, 2, 3)).quantize(2), [1, 2, 3]),
        ("1.jpg", Image.new("CMYK", (2, 2), (0, 0, 0, 155)), [100] * 3),
        ("1.jpg", Image.new("L", (2, 2), 77), [77] * 3),
        ("1.jpg", Image.new("RGB", (2, 2), (10, 10, 10)), [10] * 3),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_pictures_of_every_kind(tmp_path: Path, name: str, image: Image.Image, expected: list[int]) -> None:
    image.save(tmp_path / name)
    with Video(tmp_path) as video:
        assert video.frames([0])[0, 0, 0].tolist() == expected


def test_floats_are_no_brightness(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "1.tif")
    with pytest.raises(VideoError, match="its pixels are of mode F"):
        Video(tmp_path)


def test_an_image_that_would_fill_the_memory(tmp_path: Path) -> None:
    """20,000 x 20,000 pixels in a few kilobytes."""
    save(tmp_path / "1.png", grey(1))
    data = (tmp_path / "1.png").read_bytes()
    at = data.index(b"IHDR")
    header = data[at : at + 4] + (20_000).to_bytes(4, "big") * 2 + data[at + 12 : at + 17]
    (tmp_path / "1.png").write_bytes(data[:at] + header + zlib.crc32(header).to_bytes(4, "big") + data[at + 21 :])
    with pytest.raises(VideoError, match="decompression bomb"):
        Video(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one sentence, no warning beside it
        with pytest.raises(VideoError, match="decompression bomb"):
            Video(tmp_path)


@pytest.mark.parametrize("text", ["%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "GIF89a", "<svg></svg>"])
def test_a_name_makes_no_image(tmp_path: Path, text: str) -> None:
    """What Pillow would hand to another program is not even looked at."""
    (tmp_path / "1.png").write_text(text)
    with pytest.raises(VideoError, match="cannot identify image file"):
        Video(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "ppm"])
def test_corrupted_images_give_pixels_or_are_lost(tmp_path: Path, suffix: str) -> None:
    """Whatever Pillow raises for broken data, it ends as a lost frame; the folder is never at fault for one image."""
    rng = np.random.default_rng(0)
    save(tmp_path / f"00.{suffix}", pattern(1, height=24, width=32)[0])
    data = (tmp_path / f"00.{suffix}").read_bytes()
    for i in range(1, 40):
        broken = bytearray(data)
        for at in rng.integers(0, len(data) if i % 2 else min(64, len(data)), 6):
            broken[at] = rng.integers(256)
        (tmp_path / f"{i:02}.{suffix}").write_bytes(broken[: rng.integers(1, len(data))] if i % 5 == 0 else broken)
    with Video(tmp_path) as video:
        frames = video.frames(range(40))
        info = video.info
    assert frames.shape == (40, 24, 32, 3)
    assert info.frame_count + info.lost_frames == 40
    assert info.lost_frames > 0

"""Colours: the RGB that was meant, by the stream's matrix and range, for every way to store it; and what FFmpeg's program gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from m2clip.data.video import Video
from tests.ffmpeg_pictures import ffmpeg_pictures
from tests.odd_videos import Pictures, encode, with_display_matrix, x264

# The weights of red and blue in luma by matrix number (ITU-T H.273, table 4). Where a file names none (2), BT.601 is meant.
WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2
COLOURS = [(200, 60, 30), (30, 180, 90), (40, 70, 210), (255, 255, 255), (0, 0, 0), (128, 128, 128), (250, 250, 5)]
SIZE = 48, 32  # width, height
LOSSLESS = {
    "libx264": x264(qp=0),
    "libx265": {"x265-params": "lossless=1:pools=1:log-level=none"},
    "libvpx-vp9": {"lossless": "1"},
    "ffv1": {},
}
SUFFIX = {"libvpx-vp9": "webm", "ffv1": "mkv"}
TOLERANCE = 3  # two roundings, to Y'CbCr and back, in units that are 219 or 224 to 255; a wrong matrix is off by 20


def components(colour: Sequence[int], *, matrix: int, value_range: int, bits: int) -> list[int]:
    """Y', Cb and Cr of an RGB colour, 0..255, by the formulas of the standards."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in colour)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    cb, cr = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    if value_range == FULL:
        values = [luma * (2**bits - 1), *(2 ** (bits - 1) + chroma * (2**bits - 1) for chroma in (cb, cr))]
    else:
        scale = 2 ** (bits - 8)
        values = [(16 + 219 * luma) * scale, *((128 + 224 * chroma) * scale for chroma in (cb, cr))]
    return [min(round(value), 2**bits - 1) for value in values]


def plain_pictures(path: Path, codec: str, pix_fmt: str, *, matrix: int, value_range: int) -> Path:
    """A file with a plain picture of each of COLOURS, made without any conversion by a library, and stored without loss."""
    bits = next((depth for depth in (10, 12) if str(depth) in pix_fmt), 8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=LOSSLESS[codec])
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, value_range
        for i, colour in enumerate(COLOURS):
            frame = av.VideoFrame(*SIZE, pix_fmt)
            frame.colorspace, frame.color_range, frame.pts = matrix, value_range, i
            values = [*components(colour, matrix=matrix, value_range=value_range, bits=bits), 100]  # the last: alpha
            for plane, value in zip(frame.planes, values, strict=False):
                plane.update(
                    np.full(
                        plane.buffer_size * 8 // (8 if bits == 8 else 16), value, np.uint8 if bits == 8 else np.uint16
                    )
                )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


STORED = [
    *[("libx264", "yuv420p", matrix, value_range) for matrix in (1, 2, 5, 6, 9) for value_range in (LIMITED, FULL)],
    ("libx264", "yuvj420p", 1, FULL),
    ("libx264", "yuv422p", 1, LIMITED),
    ("libx264", "yuv444p", 6, FULL),
    ("libx264", "yuv420p10le", 1, LIMITED),
    ("libx264", "yuv422p10le", 1, FULL),
    ("libx264", "yuv444p10le", 1, LIMITED),
    ("libx265", "yuv420p10le", 9, LIMITED),
    ("libx265", "yuv420p12le", 9, FULL),
    ("libvpx-vp9", "yuv420p", 1, LIMITED),
    ("libvpx-vp9", "yuv444p", 6, FULL),
    ("ffv1", "yuva420p", 1, LIMITED),
    ("ffv1", "yuv420p10le", 5, FULL),
]


@pytest.mark.parametrize(("codec", "pix_fmt", "matrix", "value_range"), STORED)
def test_colours_are_those_that_were_meant(
    tmp_path: Path, codec: str, pix_fmt: str, matrix: int, value_range: int
) -> None:
    path = tmp_path / f"a.{SUFFIX.get(codec, 'mp4')}"
    plain_pictures(path, codec, pix_fmt, matrix=matrix, value_range=value_range)
    frames = _all_frames(path)
    assert np.abs(frames - np.array(COLOURS)[:, None, None]).max() <= TOLERANCE
    assert (frames == frames[:, :1, :1]).all()  # nothing is dithered
    _assert_as_ffmpeg(path, frames)


# FFmpeg takes a plane of grey alone for full range, whatever the file says, so that is not tried as limited.
@pytest.mark.parametrize(("codec", "value_range"), [("libx264", LIMITED), ("libx264", FULL), ("ffv1", FULL)])
def test_grey_is_grey(tmp_path: Path, codec: str, value_range: int) -> None:
    path = tmp_path / f"a.{SUFFIX.get(codec, 'mp4')}"
    plain_pictures(path, codec, "gray", matrix=2, value_range=value_range)
    frames = _all_frames(path)
    assert np.abs(frames - (np.array(COLOURS) @ (0.299, 0.587, 0.114))[:, None, None, None]).max() <= 1
    _assert_as_ffmpeg(path, frames)


# What lies under a transparent pixel is shown: a video has nothing behind it.
@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"), [("mov", "png", "rgba"), ("mov", "qtrle", "argb"), ("avi", "png", "rgba")]
)
def test_alpha_is_left_out(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    pictures = np.stack([np.full((32, 48, 3), colour, np.uint8) for colour in COLOURS])
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        for i, picture in enumerate(pictures):
            alpha = np.full((32, 48, 1), 40 * i, np.uint8)
            order = [alpha, picture] if pix_fmt == "argb" else [picture, alpha]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.concatenate(order, axis=-1)), format=pix_fmt)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = _all_frames(path)
    np.testing.assert_array_equal(frames, pictures)
    _assert_as_ffmpeg(path, frames)


def test_vp9_with_an_alpha_layer(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    pictures = np.stack([np.full((32, 48, 3), colour, np.uint8) for colour in COLOURS])
    encode(path, "libvpx-vp9", pictures, pix_fmt="yuva420p", options={"crf": "4", "b": "0"})
    frames = _all_frames(path)
    assert np.abs(frames - pictures).max() <= 6  # lossy
    _assert_as_ffmpeg(path, frames)


def test_a_gif_with_transparent_pixels(tmp_path: Path) -> None:
    first = Image.new("P", SIZE, 0)
    first.putpalette([200, 60, 30, 30, 180, 90])
    second = Image.new("P", SIZE, 1)
    second.putpalette([200, 60, 30, 30, 180, 90])
    second.paste(0, (0, 0, 24, 32))  # the left half is transparent: what was before stays
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=100, transparency=0, disposal=1)
    frames = _all_frames(tmp_path / "a.gif")
    assert frames.shape == (2, 32, 48, 3)
    np.testing.assert_array_equal(frames[1, :, 24:], np.full((32, 24, 3), (30, 180, 90)))
    _assert_as_ffmpeg(tmp_path / "a.gif", frames)


def test_rgb_without_conversion(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mp4", "libx264rgb", pictures, pix_fmt="rgb24", options=x264(qp=0))
    np.testing.assert_array_equal(_all_frames(path), pictures)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le"])
def test_edges_of_colours_are_those_of_ffmpegs_program(tmp_path: Path, pix_fmt: str) -> None:
    """What lies between two samples of colour is a matter of taste; ours is FFmpeg's."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8).repeat(2, 1).repeat(2, 2)
    path = encode(tmp_path / "a.mkv", "ffv1", pictures, pix_fmt=pix_fmt)
    _assert_as_ffmpeg(path, _all_frames(path))


def test_interlaced_pictures_stay_as_they_are_stored(tmp_path: Path) -> None:
    """Both fields of a frame make one picture; nothing is taken apart."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[::2] = 220
    path = encode(
        tmp_path / "a.mpg", "mpeg2video", np.stack([picture] * 4), options={"flags": "+ildct+ilme", "b": "6M"}
    )
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    frames = _all_frames(path)
    assert frames.shape == (4, 32, 48, 3)
    assert frames[:, ::2].mean() > 200
    assert frames[:, 1::2].mean() < 20
    _assert_as_ffmpeg(path, frames)


# What a player does with each way a phone can be held, and with mirrored front cameras.
MATRICES = {
    "upright": ((1, 0, 0, 1), 0, lambda picture: picture),
    "90": ((0, 1, -1, 0), 90, lambda picture: np.rot90(picture, -1)),
    "180": ((-1, 0, 0, -1), 180, lambda picture: np.rot90(picture, 2)),
    "270": ((0, -1, 1, 0), 270, lambda picture: np.rot90(picture, 1)),
    "mirrored": ((-1, 0, 0, 1), 0, lambda picture: picture[:, ::-1]),
    "upside down mirrored": ((1, 0, 0, -1), 0, lambda picture: picture[::-1]),
    "90 mirrored": ((0, 1, 1, 0), 90, lambda picture: picture.transpose(1, 0, 2)),
    "270 mirrored": ((0, -1, -1, 0), 270, lambda picture: picture[::-1, ::-1].transpose(1, 0, 2)),
}


@pytest.mark.case("D10")
@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_upright(tmp_path: Path, name: str) -> None:
    (a, b, c, d), degrees, turn = MATRICES[name]
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32] = 255, 0, 0  # red top left, blue bottom left: no two of the turns look alike
    picture[16:, :32] = 0, 0, 255
    plain = encode(tmp_path / "a.mp4", "libx264", np.stack([picture] * 3), options=x264(qp=1))
    path = with_display_matrix(plain, a=a, b=b, c=c, d=d)
    with Video(path) as video:
        info = video.info
    frames = _all_frames(path)
    expected = turn(picture)
    assert (info.height, info.width, info.rotation_degrees) == (*expected.shape[:2], degrees)
    for rows in (slice(4, 12), slice(-12, -4)):
        for columns in (slice(4, 12), slice(-12, -4)):
            assert np.abs(frames[1, rows, columns] - expected[rows, columns]).max() < 12
    _assert_as_ffmpeg(path, frames)


def _all_frames(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    with Video(path) as video:
        return video.frames(range(video.info.frame_count)).astype(int)


def _assert_as_ffmpeg(path: Path, frames: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Every frame, within rounding; where there is no such program, what was checked before is all."""
    count, expected = _by_program(path, frames)
    if expected:
        assert count == len(frames)
        assert np.abs(frames - np.stack([expected[i] for i in range(count)])).max() <= 2


def _by_program(path: Path, frames: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[int, dict[int, Pictures]]:
    try:
        return ffmpeg_pictures(path, size=(frames.shape[2], frames.shape[1]), chroma_left=False)
    except pytest.skip.Exception:
        return 0, {}

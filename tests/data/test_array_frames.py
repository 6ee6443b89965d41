"""Pictures in memory: what they are is certain, or one sentence says how to pass them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from m2clip.data.image_folder import IMAGES_FPS
from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.odd_videos import pattern

PICTURES = pattern(5)
FIRST = torch.from_numpy(PICTURES).permute(0, 3, 1, 2)
READ_ONLY = PICTURES.copy()
READ_ONLY.flags.writeable = False


class Foreign:
    """An array of another library."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return PICTURES


class WithoutData:
    """An array of another library that only stands for one."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise NotImplementedError("symbolic")


@pytest.mark.case("D16")
@pytest.mark.parametrize(
    "source",
    [
        PICTURES,
        READ_ONLY,
        PICTURES[::-1].copy()[::-1],
        np.asfortranarray(PICTURES),
        FIRST,
        FIRST.contiguous(),
        torch.from_numpy(PICTURES),
        list(PICTURES),
        tuple(PICTURES),
        list(FIRST),
        list(torch.from_numpy(PICTURES)),
        [Image.fromarray(picture) for picture in PICTURES],
        Foreign(),
    ],
    ids=range(13),
)
def test_pictures_in_memory(source: object) -> None:
    video = Video(source)
    np.testing.assert_array_equal(video.frames([4, 0, 4]), PICTURES[[4, 0, 4]])
    info = video.info
    assert (info.frame_count, info.width, info.height, info.codec) == (5, 64, 48, "raw")
    assert (info.fps, info.duration_seconds, info.lost_frames) == (IMAGES_FPS, 5 / IMAGES_FPS, 0)
    assert video.name == "the array of 5 frames"
    video.frames([0])[:] = 0  # a copy
    np.testing.assert_array_equal(video.frames([0])[0], PICTURES[0])


def test_a_map_of_a_file(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "frames", np.uint8, "w+", shape=PICTURES.shape)
    mapped[:] = PICTURES
    np.testing.assert_array_equal(Video(mapped).frames([2])[0], PICTURES[2])


def test_a_frame_may_be_three_pixels_wide_or_high() -> None:
    """Channels of an array always stand last."""
    for shape in ((2, 3, 8, 3), (2, 8, 3, 3), (3, 3, 3, 3), (2, 1, 1, 3)):
        info = Video(np.zeros(shape, np.uint8)).info
        assert (info.frame_count, info.height, info.width) == shape[:3]


def test_images_of_any_mode() -> None:
    assert Video([Image.new("L", (8, 6), 77)]).frames([0]).tolist() == [[[[77] * 3] * 8] * 6]
    assert Video([Image.new("RGBA", (1, 1), (1, 2, 3, 0))]).frames([0]).tolist() == [[[[1, 2, 3]]]]
    deep = Image.fromarray(np.full((1, 1), 0xABCD, np.uint16))
    assert Video([deep]).frames([0]).tolist() == [[[[0xAB] * 3]]]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def tensor(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


REFUSED: list[tuple[object, str]] = [
    (zeros(4, 6, 3), "shape [4, 6, 3] is no video: it looks like a single image; pass x[None]"),
    (zeros(3, 4, 6), "it looks like a single image; pass x.transpose(1, 2, 0)[None]"),
    (tensor(3, 4, 6), "it looks like a single image; pass x[None]"),
    (zeros(2, 4, 6), "grey frames need three channels; pass np.stack([x] * 3, -1)"),
    (tensor(2, 4, 6), "grey frames need three channels; pass x[:, None].expand(-1, 3, -1, -1)"),
    (zeros(2, 4, 6, 1), "grey frames need three channels; pass np.repeat(x, 3, -1)"),
    (tensor(2, 1, 4, 6), "grey frames need three channels; pass x.expand(-1, 3, -1, -1)"),
    (zeros(2, 4, 6, 4), "it has four channels; leave alpha out, as in x[..., :3]"),
    (tensor(2, 4, 5, 6), "it has four channels; leave alpha out, as in x[:, :3]"),
    (zeros(2, 3, 4, 6), "its channels stand second; pass x.transpose(0, 2, 3, 1)"),
    (zeros(3, 2, 4, 6), "its channels stand first; pass x.transpose(1, 2, 3, 0)"),
    (tensor(3, 2, 4, 6), "its channels stand first; pass x.permute(1, 2, 3, 0)"),
    (tensor(2, 3, 4, 3), "its channels may stand second or last; pass an array [T, H, W, 3]"),
    (zeros(2, 4, 6, 2), "frames have three channels, [T, H, W, 3]"),
    (zeros(1, 2, 4, 6, 3), "pass the frames of one video, [T, H, W, 3]"),
    (zeros(4, 6), "pass the frames of one video"),
    (np.uint8(3), "pass the frames of one video"),
    (zeros(9), "or the bytes of a video file as bytes(x)"),
    (tensor(9), "or the bytes of a video file as bytes(x.numpy())"),
    (zeros(0, 4, 6, 3), "it holds no pixel"),
    (zeros(2, 0, 6, 3), "it holds no pixel"),
    (tensor(0, 3, 4, 6), "it holds no pixel"),
    (
        np.zeros((2, 4, 6, 3), np.float32),
        "pixels must be of type uint8, 0 to 255; (x * 255).round() first if they run from 0 to 1",
    ),
    (np.zeros((2, 4, 6, 3), np.uint16), "0 to 255; scaled first if they run beyond, then x.astype(np.uint8)"),
    (np.zeros((2, 4, 6, 3), bool), "pixels must be of type uint8, 0 to 255; pass x.astype(np.uint8) * 255"),
    (torch.zeros(2, 3, 4, 6), "then x.byte()"),
    (torch.zeros(2, 3, 4, 6, dtype=torch.bfloat16), "a tensor of type torch.bfloat16 is no video"),
    (
        torch.zeros(2, 3, 4, 6, dtype=torch.uint8, device="meta"),
        "it is sparse, nested or without data; pass a dense one",
    ),
    (tensor(2, 4, 6, 3).to_sparse(), "it is sparse, nested or without data; pass a dense one"),
    (np.array([zeros(4, 6, 3), zeros(5, 6, 3)], dtype=object), "bring them to one size and pass np.stack(frames)"),
    (np.array(None), "bring them to one size and pass np.stack(frames)"),
    ([zeros(4, 6, 3), zeros(5, 6, 3)], "different sizes or types; bring them to one"),
    ([zeros(4, 6, 3), np.zeros((4, 6, 3))], "different sizes or types; bring them to one"),
    ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], "different sizes or types; bring them to one"),
    ([Image.new("F", (8, 8))], "an image of the list cannot be read: its pixels are of mode F"),
    ([zeros(4, 6)] * 2, "grey frames need three channels"),
    ([zeros(3, 4, 6)] * 2, "its channels stand second; pass x.transpose(0, 2, 3, 1)"),
    (Image.new("RGB", (8, 8)), "a single image is no video: pass [image]"),
    ([], "an empty list is no video"),
    (
        ["a.jpg", Path("b.jpg")],
        "a list of paths is no video: pass one path, or put the images of one video into a folder",
    ),
    ([[[1, 2, 3]]], "a video cannot be made from a list of list; pass a path"),
    ([zeros(4, 6, 3), None], "a video cannot be made from a list of NoneType and ndarray; pass a path"),
    ({"video": 1}, "a video cannot be made from dict; pass a path"),
    (iter([zeros(4, 6, 3)]), "a video cannot be made from list_iterator; pass a path"),
    (None, "a video cannot be made from NoneType; pass a path"),
    (7, "a video cannot be made from int; pass a path"),
    (WithoutData(), "a video cannot be made from WithoutData: symbolic; pass a path"),
    (object, "a video cannot be made from type; pass a path"),
]


@pytest.mark.case("D16")
@pytest.mark.parametrize(("source", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_is_no_video_is_told_in_one_sentence(source: object, reason: str) -> None:
    with pytest.raises(VideoError, match=re.escape(reason)) as caught:
        Video(source)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


@pytest.mark.case("D16")
def test_the_remedies_work() -> None:
    """What the sentences say to pass is the video that was meant."""
    grey, image, x = zeros(2, 4, 6), zeros(4, 6, 3), np.random.default_rng(0).random((2, 4, 6, 3))
    remedies = [
        image[None],
        image.transpose(2, 0, 1).transpose(1, 2, 0)[None],
        np.stack([grey] * 3, -1),
        np.repeat(grey[..., None], 3, -1),
        torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1),
        tensor(2, 1, 4, 6).expand(-1, 3, -1, -1),
        tensor(2, 4, 4, 6)[:, :3],
        zeros(2, 3, 4, 6).transpose(0, 2, 3, 1),
        zeros(3, 2, 4, 6).transpose(1, 2, 3, 0),
        tensor(3, 2, 4, 6).permute(1, 2, 3, 0),
        tensor(2, 3, 4, 3).permute(0, 2, 3, 1).numpy(),
        (x * 255).round().astype(np.uint8),
        (torch.from_numpy(x) * 255).round().byte(),
    ]
    for source in remedies:
        info = Video(source).info
        assert (info.frame_count, info.height) in ((1, 4), (2, 4))
        assert info.width in (6, 3)


def test_an_image_of_a_list_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-6000])  # of 12,000
    with pytest.raises(VideoError, match="an image of the list cannot be read: "):
        Video([Image.open(path)])


def test_an_animation_that_was_opened_as_an_image(tmp_path: Path) -> None:
    images = [Image.fromarray(picture) for picture in PICTURES]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    with pytest.raises(VideoError, match="a single image is no video: pass the path of its file"):
        Video(Image.open(tmp_path / "a.gif"))


@given(
    shape=st.lists(st.integers(0, 5), max_size=5),
    kind=st.sampled_from(["uint8", "int8", "uint16", "int64", "float16", "float32", "bool", "complex64"]),
    library=st.sampled_from(["numpy", "torch", "list"]),
)
def test_any_array_is_a_video_or_one_sentence(shape: list[int], kind: str, library: str) -> None:
    array = np.zeros(shape, kind)
    source = {
        "numpy": lambda: array,
        "torch": lambda: torch.from_numpy(array),
        "list": lambda: list(array) if shape else [],
    }
    fits = kind == "uint8" and len(shape) == 4 and 0 not in shape
    last = fits and shape[3] == 3
    second = fits and library == "torch" and shape[1] == 3
    if last == second:
        with pytest.raises(VideoError) as caught:
            Video(source[library]())
        assert "\n" not in str(caught.value)
    else:
        video = Video(source[library]())
        info = video.info
        channels_last = [info.frame_count, info.height, info.width, 3]
        assert shape == (channels_last if last else [channels_last[i] for i in (0, 3, 1, 2)])
        assert video.frames(range(info.frame_count)).shape == tuple(channels_last)

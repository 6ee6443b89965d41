"""data show: the very frames that training, tests and recognition take, their times, and a picture of them."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2clip.config import load_config
from m2clip.data.dataset import Item, VideoDataset
from m2clip.data.manifest import Manifest, Sample
from m2clip.recognizer import Recognizer
from tests.odd_videos import encode, greys
from tests.program import Ran, one_sentence
from tests.small_inputs import TINY, moving_square, tiny_model, write_video

CONFIG = """
out: runs/none
data: {frames: 4, stride_frames: 5, recipe: something, flip: true}
model:
  backbone: {image_size: 32, patch_size: 16, vision_width: 32, vision_layers: 2, vision_heads: 2, embed_dim: 24,
    text_width: 32, text_layers: 2, text_heads: 2}
train: {seed: 7}
eval: {views_temporal: 3, views_spatial: 2}
"""


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames at 10 a second; frame i is a plain grey of 6 i."""
    path = tmp_path_factory.mktemp("videos") / "numbered.mkv"
    return encode(path, "ffv1", greys(range(0, 240, 6)), rate=10, pix_fmt="bgr0")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


def shown(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.mark.case("S2")
def test_the_frames_and_times_of_a_config(m2: Callable[..., Ran], numbered: Path, config: Path) -> None:
    found = shown(m2("data", "show", numbered, "--config", config, "--json"))
    # 40 frames; a window of 4 at stride 5 spans 16, so it starts at 0 to 24: at 0, 12 and 24
    assert found["frame_indices"] == [[0, 5, 10, 15], [12, 17, 22, 27], [24, 29, 34, 39]]
    assert np.allclose(found["frame_seconds"], np.array(found["frame_indices"]) / 10)
    assert found["sampling"] == {"frames": 4, "stride_frames": 5, "fps": None, "clip_seconds": None}
    assert found["views"] == {"temporal": 3, "spatial": 2}
    facts = ("frame_count", "lost_frames", "fps", "width", "height", "rotation_degrees", "codec", "size")
    assert [found[name] for name in facts] == [40, 0, 10, 48, 32, 0, "ffv1", 32]
    assert found["duration_seconds"] == pytest.approx(4)
    assert found["part"] == {"first_frame": 0, "last_frame": 39, "end_seconds": pytest.approx(4)}


@pytest.mark.case("S2")
def test_the_lines_for_people(m2: Callable[..., Ran], numbered: Path, config: Path) -> None:
    ran = m2("data", "show", numbered, "--config", config, "--views", "2x1")
    assert ran.out.splitlines() == [
        f"{numbered}: 40 frames, 10 a second, 4.000 s, 48x32, ffv1",
        "4 frames at a stride of 5, 2x1 views",
        "view 0 frames       0      5     10     15",
        "view 0 seconds  0.000  0.500  1.000  1.500",
        "view 1 frames      24     29     34     39",
        "view 1 seconds  2.400  2.900  3.400  3.900",
    ]
    assert ran.err == ""


def test_the_page_about_sampling_shows_what_is_printed(m2: Callable[..., Ran], tmp_path: Path) -> None:
    """MotionShapes' videos have 24 frames of 80x80 at 12 a second."""
    page = (Path(__file__).parents[2] / "docs" / "data" / "sampling.md").read_text()
    video = write_video(tmp_path / "a.mp4", moving_square(frames=24, side=80))
    options = page.split("videos/shapes/base/test/10_000.mp4 ")[1].split(" --out")[0].split()
    lines = m2("data", "show", video, *options).out.splitlines()
    assert lines[0].split(": ")[1] in page
    assert "".join(f"    {line}\n" for line in lines[1:]) in page


@pytest.mark.case("S2", "S5")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [2, 7, 12, 17, 22, 26, 31, 36]),  # segments of 39 / 8 frames, their borders 0 5 10 15 20 24 29 34 39
        (("--frames", 4), [5, 15, 24, 34]),
        (("--stride-frames", 2), list(range(12, 28, 2))),
        (("--fps", 2.5), list(range(5, 37, 4))),
        (("--clip-seconds", 1.4), list(range(12, 28, 2))),
        (("--clip-seconds", 1.4, "--start", 2), list(range(22, 38, 2))),
        (("--start", 1, "--end", 1.3), [10, 10, 10, 11, 11, 11, 12, 12]),
    ],
)
def test_each_option_changes_the_frames(
    m2: Callable[..., Ran], numbered: Path, options: tuple[object, ...], expected: list[int]
) -> None:
    found = shown(m2("data", "show", numbered, *options, "--json"))["frame_indices"]
    assert found == [expected]


@pytest.mark.case("S2", "S5")
@pytest.mark.parametrize("options", [{}, {"fps": 5.0}, {"clip_seconds": 2.0, "frames": 3}, {"stride_frames": 9}])
def test_test_views_are_those_of_recognition(
    m2: Callable[..., Ran], numbered: Path, tmp_path: Path, options: Any
) -> None:
    checkpoint = tiny_model(("a", "b"), **options).save(tmp_path / "model.safetensors")
    read = Recognizer(checkpoint, views_temporal=2).score(numbered)
    found = shown(m2("data", "show", numbered, "--checkpoint", checkpoint, "--views", "2x1", "--json"))
    assert found["frame_indices"] == read.frame_indices.tolist()
    assert found["frame_seconds"] == read.frame_seconds.tolist()
    assert found["size"] == 32


@pytest.mark.case("S2")
@pytest.mark.parametrize("sampling", [{}, {"fps": 4.0, "stride_frames": 0}, {"clip_seconds": 1.1, "stride_frames": 0}])
def test_a_training_clip_is_that_of_the_run(
    m2: Callable[..., Ran], numbered: Path, config: Path, tmp_path: Path, sampling: dict[str, float]
) -> None:
    """Frame i is a grey of 6 i: what the run's own data set gives tells which frames it took."""
    config.write_text(CONFIG.replace("recipe: something", "recipe: kinetics"))
    run = load_config(config, [f"data.{name}={value}" for name, value in sampling.items()])
    config.write_text(
        config.read_text().replace(
            "stride_frames: 5", ", ".join(f"{k}: {v}" for k, v in run.data.sampling.items() if v and k != "frames")
        )
    )
    other = Sample(numbered, 0)
    dataset = VideoDataset(
        Manifest((other, other, Sample(numbered, 0, 1.0, None)), ("a",), (), "list.txt", ""),  # type: ignore[arg-type]
        **run.data.sampling, size=32, mean=TINY.mean, std=TINY.std, train=True, recipe="kinetics", flip=True, seed=7,
    )  # fmt: skip
    drawn = []
    for epoch in (0, 3):
        for index, part in ((1, ()), (2, ("--start", 1))):
            dataset.set_epoch(epoch)
            item = dataset[index]
            assert isinstance(item, Item)
            taken = np.rint(item.pixels.float().mean((0, 2, 3, 4)).numpy() / 6).astype(int).tolist()
            options = ("--train", "--epoch", epoch, "--index", index, *part)
            found = shown(m2("data", "show", numbered, "--config", config, *options, "--json"))
            assert found["frame_indices"] == [taken]
            assert found["train"] == {"seed": 7, "epoch": epoch, "index": index}
            drawn.append(taken)
    assert len({tuple(taken) for taken in drawn}) > 1
    changed = [
        shown(m2("data", "show", numbered, "--config", config, "--train", *more, "--json"))["frame_indices"]
        for more in ((), *(("--seed", seed) for seed in range(4)))
    ]
    assert any(one != changed[0] for one in changed[1:])


@pytest.mark.case("S2")
def test_the_picture_holds_what_the_model_sees(
    m2: Callable[..., Ran], numbered: Path, config: Path, tmp_path: Path
) -> None:
    ran = m2("data", "show", numbered, "--config", config, "--out", tmp_path / "new" / "strip.png", "--json")
    assert "strip.png: 4 frames in each of 6 rows" in ran.err
    picture = np.asarray(Image.open(tmp_path / "new" / "strip.png").convert("RGB")).astype(int)
    indices = np.repeat(shown(ran)["frame_indices"], 2, axis=0)
    height = picture.shape[0] // 6
    for row in range(6):
        for column in range(4):
            left, bottom = 4 + column * 68, 4 + (row + 1) * height - 8
            middle = picture[bottom - 16, left + 16]
            assert abs(middle - 6 * indices[row, column]).max() == 0, (row, column)
    assert not list((tmp_path / "new").glob("*.draft"))


def test_a_training_clip_as_a_picture(m2: Callable[..., Ran], numbered: Path, config: Path, tmp_path: Path) -> None:
    pictures = []
    for epoch in (0, 0, 1):
        assert (
            m2(
                "data", "show", numbered, "--config", config, "--train", "--epoch", epoch, "--out", tmp_path / "a.png"
            ).code
            == 0
        )
        pictures.append((tmp_path / "a.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_any_source_of_a_video(m2: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = moving_square(frames=24)
    video = write_video(tmp_path / "a.mp4", pixels)
    np.save(tmp_path / "a.npy", pixels)
    (tmp_path / "folder").mkdir()
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{i:05d}.png")
    expected = shown(m2("data", "show", video, "--json"))["frame_indices"]
    for source in ("a.npy", "folder"):
        assert shown(m2("data", "show", tmp_path / source, "--json"))["frame_indices"] == expected

    class Piped:
        buffer = io.BytesIO(video.read_bytes())

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Piped())
    assert shown(m2("data", "show", "-", "--json"))["frame_indices"] == expected


@pytest.mark.shared
def test_a_turned_and_damaged_video_says_so(m2: Callable[..., Ran], shared: Path) -> None:
    odd = shared / "data" / "videos" / "odd"
    ran = m2("data", "show", odd / "decord_rotation_90.mov")
    assert "320x568, turned by 90 degrees, h264" in ran.out
    assert "28 frames, 22 lost" in m2("data", "show", odd / "decord_corrupted.mp4").out


def test_other_sampling_than_in_training_is_told(m2: Callable[..., Ran], numbered: Path, config: Path) -> None:
    ran = m2("data", "show", numbered, "--config", config, "--frames", 6, "--fps", 2)
    assert ran.err.splitlines() == [
        "m2clip: 6 frames a clip are used, the model was trained with 4",
        "m2clip: frames are taken at 2 a second, in training they were taken at a stride of 5",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.mp4",), "cannot read gone.mp4: there is no such file; check the path"),
        (("VIDEO", "--start", 9), "the part from 9 s to its end is not in the video, whose last frame is at 3.90 s"),
        (("VIDEO", "--end", "nan"), "the part from 0 s to nan s is not in the video"),
        (("VIDEO", "--config", "gone.yaml"), "gone.yaml"),
        (("VIDEO", "--checkpoint", "gone.safetensors"), "gone.safetensors is no file"),
        (("VIDEO", "--out", "strip.png", "--views", "99x2", "--frames", 1024), "198 views of 1024 frames are too many"),
    ],
)
def test_bad_input_is_one_sentence(
    m2: Callable[..., Ran],
    numbered: Path,
    arguments: tuple[object, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = m2("data", "show", *(numbered if one == "VIDEO" else one for one in arguments))
    assert (ran.code, ran.out) == (1, "")
    assert message in one_sentence(ran)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--config", "a.yaml", "--checkpoint", "builtin"), "give --config or --checkpoint, not both"),
        (("--checkpoint", "builtin", "--train"), "a checkpoint does not hold how clips were augmented"),
        (("--train", "--views", "2x1"), "training takes one clip of a video"),
        (("--epoch", 1), "only the clips of training are random; add --train"),
        (("--fps", 2, "--stride-frames", 0), "give only one of --stride-frames and --fps"),
        (("--fps", 0), "--fps"),
        (("--views", "0x1"), "is not of the form 4x3"),
    ],
)
def test_what_cannot_be_meant(
    m2: Callable[..., Ran], numbered: Path, options: tuple[object, ...], message: str
) -> None:
    ran = m2("data", "show", numbered, *options)
    assert ran.code == 2
    assert message in " ".join(ran.err.split())

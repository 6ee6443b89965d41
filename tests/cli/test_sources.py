"""classify, embed and timeline take a video however it is kept: folder, array file, address, standard input; damage is told."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2clip.data.video import Video
from tests.program import Ran, one_sentence
from tests.small_inputs import moving_square
from tests.web_server import body, serving

PICTURES = moving_square(frames=24)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same video as a folder of images and as an array; a folder with a broken image."""
    root = tmp_path_factory.mktemp("kept")
    (root / "frames").mkdir()
    (root / "damaged").mkdir()
    for i, picture in enumerate(PICTURES):
        for folder in ("frames", "damaged"):
            Image.fromarray(picture).save(root / folder / f"img_{i + 1:05}.png")
    (root / "damaged/img_00001.png").write_bytes(b"")
    np.save(root / "frames.npy", PICTURES)
    return root


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def test_every_command_takes_every_source(
    m2: Callable[..., Ran],
    place: Path,
    kept: Path,
    piped: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    model = ("--checkpoint", place / "model.safetensors", "--json")
    data = (kept / "frames.npy").read_bytes()
    with serving() as server:
        server.answers["/frames.npy"] = body(data, kind="application/octet-stream")
        for command in ("classify", "embed", "timeline"):
            seen = []
            for video in (kept / "frames", kept / "frames.npy", server.url + "/frames.npy", "-"):
                piped(data)
                ran = m2(command, video, *model)
                assert (ran.code, ran.err) == (0, "")
                document = json.loads(ran.out)
                result = document if command == "timeline" else document["videos"][0]
                assert result.pop("video") == str(video)
                assert result["lost_frames"] == 0
                seen.append(result)
            for other in seen[1:]:
                assert other == seen[0]


def test_damage_is_told(m2: Callable[..., Ran], place: Path, kept: Path) -> None:
    for command in ("classify", "embed", "timeline"):
        ran = m2(command, kept / "damaged", "--checkpoint", place / "model.safetensors", "--json")
        assert ran.code == 0
        assert one_sentence(ran) == f"m2clip: {kept / 'damaged'}: 1 of 24 frames are lost; the others are used"
        document = json.loads(ran.out)
        assert (document if command == "timeline" else document["videos"][0])["lost_frames"] == 1


@pytest.mark.shared
def test_damage_of_a_real_file_is_told(m2: Callable[..., Ran], place: Path, shared: Path) -> None:
    path = shared / "data/videos/odd/decord_corrupted.mp4"
    ran = m2("classify", path, "--checkpoint", place / "model.safetensors", "--json")
    assert ran.code == 0
    assert one_sentence(ran) == f"m2clip: {path}: 22 of 50 frames are lost; the others are used"
    (video,) = json.loads(ran.out)["videos"]
    assert video["lost_frames"] == 22
    assert max(max(view) for view in video["frame_indices"]) < 28


@pytest.mark.case("D1", "D2", "D12")
@pytest.mark.parametrize("name", ["empty.mp4", "noise.mp4", "cut.mp4", "sound.mp4"])
def test_a_file_that_is_no_video_ends_in_one_line(m2: Callable[..., Ran], place: Path, name: str) -> None:
    ran = m2("classify", place / name, "--labels", "a,b", "--checkpoint", place / "model.safetensors")
    assert (ran.code, ran.out) == (1, "")
    assert str(place / name) in one_sentence(ran)


def test_standard_input_that_holds_no_video(
    m2: Callable[..., Ran], place: Path, piped: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("classify", "-", "--checkpoint", place / "model.safetensors")
    piped(b"")
    ran = m2(*arguments)
    assert ran.code == 1
    assert "there are no bytes; pass a whole video file" in one_sentence(ran)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    ran = m2(*arguments)
    assert ran.code == 1
    assert "nothing is piped into it" in one_sentence(ran)
    monkeypatch.setattr(sys, "stdin", None)
    assert m2(*arguments).code == 1


def test_an_address_that_leads_nowhere(m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        ran = m2("classify", server.url + "/a.mp4", "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert f"cannot fetch {server.url}/a.mp4: its server answers 404 Not Found" in one_sentence(ran)


def test_an_array_that_is_no_video(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "float.npy", PICTURES / np.float32(255))
    ran = m2("classify", tmp_path / "float.npy", "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert "float.npy: an array of type float32" in one_sentence(ran)


def test_frames_of_the_fixture_are_those_of_the_folder(kept: Path) -> None:
    with Video(kept / "frames") as video:
        np.testing.assert_array_equal(video.frames(range(24)), PICTURES)

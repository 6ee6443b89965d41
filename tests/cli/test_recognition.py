"""classify, embed and timeline: results on stdout, one sentence on stderr for each bad video."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from m2clip import Recognizer
from m2clip.model.video_clip import CompiledImages, VideoCLIP
from tests.program import NAMES, Ran, one_sentence


def test_classify_prints_labels_with_scores(m2: Callable[..., Ran], place: Path) -> None:
    ran = m2("classify", place / "good.mp4", "--checkpoint", place / "model.safetensors", "--top", 2)
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0] == str(place / "good.mp4")
    expected = Recognizer(place / "model.safetensors").classify(place / "good.mp4", top=2)
    assert lines[1:] == [f"  {one.score:.4f}  {one.label}" for one in expected]


def test_classify_as_json_is_one_document(m2: Callable[..., Ran], place: Path) -> None:
    ran = m2(
        "classify", place / "good.mp4", "--labels", 'walking, "run, or jog"', "--checkpoint", place / "model.safetensors",
        "--views", "2x1", "--frames", 4, "--json",
    )  # fmt: skip
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document["texts"] == {"walking": ["A video of walking"], "run, or jog": ["A video of run, or jog"]}
    assert document["reading"] == "similarity"
    assert (document["frames"], document["trained_frames"]) == (4, 8)
    assert "4 frames a clip are used, the model was trained with 8" in ran.err
    (video,) = document["videos"]
    assert sum(found["score"] for found in video["predictions"]) == pytest.approx(1)
    assert np.shape(video["frame_indices"]) == np.shape(video["frame_seconds"]) == (2, 4)
    for found in video["predictions"]:
        assert np.mean(found["views"]) == pytest.approx(found["score"])


def test_one_bad_video_does_not_stop_the_others(m2: Callable[..., Ran], place: Path) -> None:
    videos = [place / "good.mp4", place / "empty.mp4", place / "data" / "moving" / "0.mp4"]
    ran = m2("classify", *videos, "--checkpoint", place / "model.safetensors", "--json")
    assert ran.code == 1
    assert "empty.mp4" in one_sentence(ran)
    found = json.loads(ran.out)["videos"]
    assert [video["video"] for video in found] == list(map(str, videos))
    assert ["error" in video for video in found] == [False, True, False]
    ran = m2("classify", *videos, "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert [line for line in ran.out.splitlines() if not line.startswith(" ")] == [str(videos[0]), str(videos[2])]


@pytest.mark.parametrize(
    "name", ["missing.mp4", "empty.mp4", "cut.mp4", "noise.mp4", "text.mp4", "sound.mp4", "no_frames.avi", "data"]
)
@pytest.mark.parametrize(
    "command", [("classify", "--labels", "a,b"), ("embed", "--json"), ("timeline", "--labels", "a,b")]
)
def test_a_bad_video_ends_in_one_sentence(
    m2: Callable[..., Ran], place: Path, name: str, command: tuple[str, ...]
) -> None:
    ran = m2(command[0], place / name, *command[1:], "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert name in one_sentence(ran)
    assert ("there is no such file" in one_sentence(ran)) == (name == "missing.mp4")


def test_labels_from_a_file_with_further_texts(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name,text_1\n1,walking,\n0,running,someone runs\n")
    ran = m2(
        "classify", place / "good.mp4", "--labels-file", tmp_path / "classes.csv", "--json",
        "--checkpoint", place / "model.safetensors",
    )  # fmt: skip
    assert json.loads(ran.out)["texts"] == {
        "running": ["A video of running", "someone runs"],
        "walking": ["A video of walking"],
    }


@pytest.mark.parametrize("labels", ["table", "names"])
def test_classify_with_templates_and_texts_of_files(
    m2: Callable[..., Ran], place: Path, tmp_path: Path, labels: str
) -> None:
    (tmp_path / "classes.csv").write_text("id,name,text_1\n1,walking,\n0,running,someone runs\n")
    (tmp_path / "templates.txt").write_text("see {}\n{}, see\n")
    (tmp_path / "texts.json").write_text('{"Running": "fast legs", "walking": ["slow legs", "steps"], "more": "x"}')
    chosen = ("--labels-file", tmp_path / "classes.csv") if labels == "table" else ("--labels", "running,walking")
    arguments = (
        "classify", place / "good.mp4", *chosen, "--checkpoint", place / "model.safetensors", "--json",
        "--texts", tmp_path / "texts.json",
    )  # fmt: skip
    assert json.loads(m2(*arguments).out)["texts"] == {"running": ["fast legs"], "walking": ["slow legs", "steps"]}
    table = ["someone runs"] if labels == "table" else []
    assert json.loads(m2(*arguments, "--templates", tmp_path / "templates.txt").out)["texts"] == {
        "running": ["see running", "running, see", *table, "fast legs"],
        "walking": ["see walking", "walking, see", "slow legs", "steps"],
    }


@pytest.mark.parametrize("command", ["classify", "timeline"])
def test_texts_that_do_not_fit_end_in_one_sentence(
    m2: Callable[..., Ran], place: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "texts.json").write_text('{"running": "fast legs"}')
    (tmp_path / "templates.txt").write_text("see {}\nsee\n")
    arguments = (
        command, place / "good.mp4", "--labels", "running,walking", "--checkpoint", place / "model.safetensors",
    )  # fmt: skip
    ran = m2(*arguments, "--texts", tmp_path / "texts.json")
    assert ran.code == 1
    assert "texts.json: one class has no text, the first is 'walking'" in one_sentence(ran)
    ran = m2(*arguments, "--templates", tmp_path / "templates.txt")
    assert ran.code == 1
    assert "templates.txt:2: the template 'see' must hold exactly one" in one_sentence(ran)


def test_a_timeline_reads_texts_of_a_file(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps({name: f"another {name}" for name in NAMES}))
    arguments = ("timeline", place / "good.mp4", "--checkpoint", place / "model.safetensors", "--json", "--top", 3)
    own, other = (json.loads(m2(*arguments, *more).out) for more in ((), ("--texts", tmp_path / "texts.json")))
    assert own["reading"] == other["reading"] == "ensemble"
    assert own["windows"][0]["predictions"] != other["windows"][0]["predictions"]


def test_labels_come_from_one_place(m2: Callable[..., Ran], place: Path) -> None:
    model = place / "model.safetensors"
    assert m2("classify", "a.mp4", "--labels", "a", "--labels-file", "x", "--checkpoint", model).code == 2
    ran = m2("classify", "a.mp4", "--labels", "a,a", "--checkpoint", model)
    assert ran.code == 1
    assert "'a' is given twice" in one_sentence(ran)


def test_bad_checkpoints_and_devices(m2: Callable[..., Ran], place: Path) -> None:
    cases = {
        ("classify", "a.mp4", "--checkpoint", place / "other.safetensors"): "no m2clip checkpoint",
        ("classify", "a.mp4", "--checkpoint", "gone.safetensors"): "gone.safetensors is no file",
        ("classify", "a.mp4", "--checkpoint", place / "empty.mp4"): "empty.mp4",
        ("info", place / "other.safetensors"): "no m2clip checkpoint",
        ("info", place / "noise.mp4"): "noise.mp4",
        ("info", place / "gone.safetensors"): "gone.safetensors",
        ("classify", "a.mp4", "--checkpoint", place / "model.safetensors", "--device", "abacus"): "abacus",
    }
    for arguments, expected in cases.items():
        ran = m2(*arguments)
        assert ran.code == 1
        assert expected in one_sentence(ran)


@pytest.mark.case("T15")
def test_a_checkpoint_with_other_tensors_than_its_header_says(
    m2: Callable[..., Ran], place: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    with safe_open(place / "model.safetensors", framework="pt") as file:
        header = file.metadata()
    tensors = load_file(place / "model.safetensors")
    renamed = {("x" + key if key == "visual_head.linear.bias" else key): value for key, value in tensors.items()}
    save_file(renamed, tmp_path / "renamed.safetensors", metadata=header)
    ran = m2("classify", place / "good.mp4", "--checkpoint", tmp_path / "renamed.safetensors")
    assert ran.code == 1
    assert "xvisual_head.linear.bias" in one_sentence(ran)


@pytest.mark.case("E3")
def test_embed_writes_unit_vectors(m2: Callable[..., Ran], place: Path) -> None:
    videos = [place / "good.mp4", place / "empty.mp4", place / "data" / "moving" / "0.mp4"]
    ran = m2("embed", *videos, "--checkpoint", place / "model.safetensors", "--json")
    assert ran.code == 1
    document = json.loads(ran.out)
    assert ["error" in video for video in document["videos"]] == [False, True, False]
    embeddings = np.array([video["embedding"] for video in document["videos"] if "embedding" in video])
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert document["unit_norm"] is True


def test_timeline(m2: Callable[..., Ran], place: Path) -> None:
    arguments = (
        "timeline",
        place / "good.mp4",
        "--checkpoint",
        place / "model.safetensors",
        "--window",
        1,
        "--step",
        0.5,
    )
    ran = m2(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["0.00", "0.50", "1.00"]
    windows = json.loads(m2(*arguments, "--json").out)["windows"]
    assert [window["end_seconds"] for window in windows] == pytest.approx([1, 1.5, 2])
    assert {found["label"] for window in windows for found in window["predictions"]} <= set(NAMES)
    assert m2(*arguments[:-1], "0").code == 1


def test_compile_is_an_option_of_all_that_recognises(
    m2: Callable[..., Ran], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is code for as many frames as are used; what it would compute is left to the model here."""
    asked: list[int] = []

    def compile_images(model: VideoCLIP, *, frames: int, tell: Callable[[str], None]) -> None:
        def run(clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            asked.append(clip.shape[1])
            return model.encode_frames(clip)

        size = model.info.image_size
        model.compiled = CompiledImages((frames, 3, size, size), run)

    monkeypatch.setattr("m2clip.model.compiled.compile_images", compile_images)
    monkeypatch.setattr("m2clip.recognizer.compile_images", compile_images)
    checkpoint = place / "model.safetensors"
    calls = (
        ("classify", place / "good.mp4", "--checkpoint", checkpoint),
        ("timeline", place / "good.mp4", "--checkpoint", checkpoint),
        ("embed", place / "good.mp4", "--checkpoint", checkpoint, "--json"),
        ("evaluate", checkpoint, "--data", place / "data"),
    )
    for call in calls:
        ran = m2(*call, "--compile", "--frames", "3")
        assert ran.code == 0, ran.err
        assert set(asked) == {3}, call
        asked.clear()
        assert m2(*call, "--frames", "3").out == ran.out
        assert asked == []


def test_precision_is_an_option_of_all_that_recognises(m2: Callable[..., Ran], place: Path) -> None:
    checkpoint = place / "model.safetensors"
    calls = (
        ("classify", place / "good.mp4", "--checkpoint", checkpoint),
        ("timeline", place / "good.mp4", "--checkpoint", checkpoint),
        ("embed", place / "good.mp4", "--checkpoint", checkpoint),
        ("evaluate", checkpoint, "--data", place / "data", "--per-view"),
    )
    for call in calls:
        documents = [json.loads(m2(*call, "--json", "--precision", name).out) for name in ("fp32", "bf16")]
        told = [document.get("protocol", document)["precision"] for document in documents]
        assert told == ["fp32", "bf16"], call
        for document in documents:
            document.get("protocol", document).pop("precision")
            document.pop("seconds", None)
        assert documents[0] != documents[1], call
        assert m2(*call, "--precision", "fp8").code == 2

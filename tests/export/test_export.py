"""Exported files give the numbers of the model they came from, for any number of clips and frames, and need none of our code."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from m2clip import CheckpointError, ConfigError, Recognizer, Video
from m2clip.data import sampling
from m2clip.export import export_video, writing
from m2clip.export.checking import TOLERANCE, made_clips
from m2clip.export.formats import Content
from m2clip.export.graph import VideoGraph, traced
from m2clip.model.info import Calibration, texts_sha256
from m2clip.model.precision import for_inference
from m2clip.model.video_clip import VideoCLIP
from tests.program import NAMES
from tests.small_inputs import moving_square, tiny_model, write_video

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "onnx_classify.py"


def learned(names: tuple[str, ...] = NAMES, **options: Any) -> VideoCLIP:
    """A tiny model as after training: nothing in it is the identity, and its scores are calibrated."""
    model = tiny_model(names, **options)
    with torch.no_grad():
        for number, parameter in enumerate(model.trained_parameters().values()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    calibration = Calibration(
        texts_sha256=texts_sha256(model.info.texts), temperatures={"ensemble": 2.0, "similarity": 3.0}, threshold=0.1,
        evidence="visual logit",
    )  # fmt: skip
    model.info = model.info.model_copy(update={"training": {"epochs": 1}, "calibration": calibration})
    return model


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider than high, of another size than the model's, with frames that differ."""
    pixels = np.concatenate([moving_square(frames=21), moving_square(frames=21, shift=1)[:, :, :31]], axis=2)
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", np.ascontiguousarray(pixels[:, :-2, :-1]))


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(learned(frames=4), device="cpu")


@pytest.fixture(scope="module")
def onnx(recognizer: Recognizer, video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with Video(video) as opened:
        clip = recognizer.reader.read(opened).pixels[0]
    export_video(recognizer, out, clips=[clip])
    return out


@pytest.fixture(scope="module")
def program(recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("program") / "model.pt2"
    export_video(
        recognizer, out, labels={"standing": ["a person stands", "standing still"], "running": "a person runs"}
    )
    return out


def features(recognizer: Recognizer, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What the model itself makes of clips uint8 [B, T, H, W, 3]."""
    found = recognizer.encode(torch.from_numpy(pixels).permute(0, 1, 4, 2, 3))
    named = {"embedding": F.normalize(found.embedding, dim=-1), "frames": found.frames}
    if found.visual_logits is not None:
        named["visual_logits"] = found.visual_logits
    return {name: value.numpy() for name, value in named.items()}


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 4), (5, 3), (2, 9)])
def test_onnx_gives_the_models_numbers_for_any_clips_and_frames(
    recognizer: Recognizer, onnx: Path, batch: int, frames: int
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["embedding", "frames", "visual_logits", "probabilities", "none_of_these"]
    assert session.get_inputs()[0].shape == ["batch", "frames", 32, 32, 3]
    pixels = made_clips(batch, frames, 32)[:, :, ::-1]  # not those of the check itself
    found = dict(zip(names, session.run(None, {"pixels": np.ascontiguousarray(pixels)}), strict=True))
    for name, value in features(recognizer, np.ascontiguousarray(pixels)).items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found["embedding"], axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, atol=1e-6)


def test_onnx_scores_a_video_as_the_recognizer_does(recognizer: Recognizer, onnx: Path, video: Path) -> None:
    """Reading, temperature, threshold and the order of the labels are inside."""
    import onnxruntime

    with Video(video) as opened:
        clip = recognizer.reader.read(opened).pixels[0].permute(0, 1, 3, 4, 2).contiguous().numpy()
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    probabilities, none = session.run(["probabilities", "none_of_these"], {"pixels": clip})
    wanted = recognizer.score(video)
    np.testing.assert_allclose(probabilities[0], wanted.probabilities.numpy(), atol=1e-4)
    assert none.tolist() == [wanted.none_of_these]


def test_the_description_tells_all_that_a_program_needs(onnx: Path) -> None:
    facts = json.loads(onnx.with_suffix(".json").read_text())
    assert facts["labels"]["names"] == list(NAMES)
    assert facts["labels"]["texts"][0] == [f"A video of {NAMES[0]}"]
    assert (facts["labels"]["reading"], facts["labels"]["temperature"]) == ("ensemble", 2.0)
    assert facts["sampling"] == {"frames": 4, "stride_frames": 0, "fps": None, "clip_seconds": None}
    assert (facts["input"]["size"], facts["input"]["dtype"]) == (32, "uint8")
    assert facts["sha256"] == hashlib.sha256(onnx.read_bytes()).hexdigest()
    assert facts["outputs"]["frames"] == {"dtype": "float32", "shape": ["batch", "frames", 24]}
    assert facts["versions"]["opset"] >= 18
    assert facts["check"]["real_clips"] == 1
    assert 0 < max(facts["check"]["largest_difference"].values()) < TOLERANCE


def test_a_program_is_loaded_by_torch_alone(recognizer: Recognizer, program: Path) -> None:
    run = torch.export.load(program).module()
    classes = recognizer.prepare({"standing": ["a person stands", "standing still"], "running": "a person runs"})
    for batch, frames in ((1, 1), (3, 7)):
        pixels = made_clips(batch, frames, 32)
        found = run(torch.from_numpy(pixels))
        assert not found["embedding"].requires_grad
        for name, value in features(recognizer, pixels).items():
            np.testing.assert_allclose(found[name].numpy(), value, atol=1e-6, rtol=1e-6)
        cosines = found["embedding"] @ classes.embeddings.T
        torch.testing.assert_close(found["probabilities"], (100 * cosines).softmax(-1), atol=1e-5, rtol=1e-4)
    facts = json.loads(program.with_suffix(".json").read_text())
    assert facts["labels"]["names"] == ["standing", "running"]
    assert (facts["labels"]["reading"], facts["labels"]["temperature"]) == ("similarity", 1.0)


def test_files_hold_the_image_side_alone_and_no_paths(recognizer: Recognizer, onnx: Path, program: Path) -> None:
    words = recognizer.model.clip.text.token_embedding.weight.nbytes
    source = str(Path(writing.__file__).parent).encode()
    for path in (onnx, program):
        assert path.stat().st_size < words / 4
        content = path.read_bytes()
        assert source not in content
        assert b"stack_trace" not in content


@pytest.mark.parametrize(
    "options",
    [
        {"ted_positions": ("pre_attention", "pre_mlp")},
        {"ted": "difference", "strength": 0.5},
        {"method": "st-adapter"},
        {"method": "aim"},
        {"method": "full", "strength": 0.25},
        {"method": "linear-probe"},
        {"method": "text-prompts"},
    ],
    ids=str,
)
def test_every_method_can_be_traced(options: dict[str, Any]) -> None:
    strength = options.pop("strength", 1.0)
    recognizer = Recognizer(learned(frames=4, **options), device="cpu", strength=strength)
    graph = VideoGraph(recognizer.model, None).eval()
    if options.get("method") == "aim" and torch.__version__ < "2.12":
        # Such a PyTorch takes a guess at aim's shapes for a limit of them.
        with pytest.raises(ConfigError, match="cannot be exported for any number of frames"):
            traced(graph)
        return
    run = traced(graph).module()
    for batch, frames in ((1, 1), (3, 7)):
        pixels = made_clips(batch, frames, 32)
        found = run(torch.from_numpy(pixels))
        wanted = features(recognizer, pixels)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name].detach().numpy(), value, atol=1e-5, rtol=1e-5)


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes a format whose files are off by a number; nothing is traced."""

    def be_off(change: float) -> None:
        def content(graph: VideoGraph, outputs: Any) -> Content:
            @torch.no_grad()
            def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
                found = {name: value.numpy().copy() for name, value in graph(torch.from_numpy(pixels)).items()}
                found["frames"][-1, -1, 0] += change
                return found

            return Content(b"file", run, {})

        monkeypatch.setattr(writing, "traced", lambda graph: graph)
        monkeypatch.setitem(writing._FORMATS, ".pt2", content)

    return be_off


@pytest.mark.parametrize("change", [0.1, float("nan")])
def test_a_file_with_other_numbers_is_not_written(
    recognizer: Recognizer, tmp_path: Path, off: Callable[[float], None], change: float
) -> None:
    off(change)
    with pytest.raises(ConfigError, match=r"frames of \d clips .*is off by .* it is not written"):
        export_video(recognizer, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_the_description_cannot_be_written(
    recognizer: Recognizer, tmp_path: Path, off: Callable[[float], None]
) -> None:
    off(0)
    (tmp_path / "model.json").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        export_video(recognizer, tmp_path / "model.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_without_classes_there_are_no_probabilities(tmp_path: Path, off: Callable[[float], None]) -> None:
    off(0)
    facts = export_video(Recognizer(tiny_model(), device="cpu"), tmp_path / "model.pt2")
    assert (list(facts["outputs"]), facts["labels"]) == (["embedding", "frames"], None)


def test_what_cannot_be_exported_is_said_in_a_sentence(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in '.trt'; name the file .onnx or .pt2"):
        export_video(recognizer, tmp_path / "model.trt")
    rounded = Recognizer(for_inference(learned(), "bf16"))
    with pytest.raises(ConfigError, match="only a model in fp32 on the CPU"):
        export_video(rounded, tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="given twice"):
        export_video(recognizer, tmp_path / "model.onnx", labels=["a", "a"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"pip install 'm2clip\[export\]'"):
        export_video(recognizer, tmp_path / "model.onnx")


@pytest.mark.parametrize("threshold", [-1e3, 1e3])
def test_the_example_needs_neither_torch_nor_m2clip(threshold: float, video: Path, tmp_path: Path) -> None:
    """It chooses the frames that we choose; Pillow's bicubic pictures differ from ours by a step of 255 here and there."""
    model, onnx = learned(frames=4), tmp_path / "model.onnx"
    assert model.info.calibration is not None
    calibration = model.info.calibration.model_copy(update={"threshold": threshold})
    model.info = model.info.model_copy(update={"calibration": calibration})
    recognizer = Recognizer(model, device="cpu")
    export_video(recognizer, onnx)
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'torchvision', 'm2clip'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    program = [sys.executable, "-c", code, str(EXAMPLE), str(onnx), str(video)]
    ran = subprocess.run(
        program, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    lines, wanted = ran.stdout.splitlines(), recognizer.classify(video)
    assert lines.pop(0) == ("none of these; the nearest:" if threshold > 0 else "the best:")
    found = [line.split(maxsplit=1) for line in lines]
    assert [label for _, label in found] == [one.label for one in wanted]
    np.testing.assert_allclose([float(score) for score, _ in found], [one.score for one in wanted], atol=0.005)


@pytest.mark.parametrize("count", [1, 3, 4, 8, 21, 22, 300])
def test_the_examples_frames_are_ours(count: int) -> None:
    borders = np.rint(np.arange(9) * ((count - 1) / 8)).astype(int)
    chosen = borders[:-1] + np.diff(borders) // 2
    assert chosen.tolist() == sampling.test_indices(count, frames=8)[0].tolist()
    assert "wanted = borders[:-1] + np.diff(borders) // 2\n" in EXAMPLE.read_text()

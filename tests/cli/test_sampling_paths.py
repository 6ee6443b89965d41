"""Each setting of a clip's frames is heard on every path through the code: what is asked of the decoder says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip import Recognizer
from m2clip.checkpoint.record import read_record
from m2clip.config import RunConfig
from m2clip.data.manifest import read_manifest
from m2clip.data.sampling import ClipSampling
from m2clip.data.video import Video
from m2clip.evaluate import evaluate
from m2clip.protocol import load_protocol
from m2clip.protocol.run import run_protocol
from m2clip.strength import tune_strength
from m2clip.train import train
from tests.odd_videos import encode, greys
from tests.small_inputs import TINY, tiny_model

NAMES = ("moving", "standing")
TIMES = np.arange(40) / 10
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"frames": 4},
    {"stride_frames": 3},
    {"fps": 2.5},
    {"clip_seconds": 3.5},
    {"frames": 5, "fps": 5.0},
)
Asked = list[list[int]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video a class, 40 frames at 10 a second."""
    root = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(NAMES):
        (root / name).mkdir()
        encode(root / name / "0.mkv", "ffv1", greys(range(k, 200 + k, 5)), rate=10, pix_fmt="bgr0")
    return root


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The frames that are asked for, a list for each call."""
    calls: Asked = []
    frames = Video.frames

    def noted(self: Video, indices: Any, *arguments: Any, **options: Any) -> np.ndarray:
        calls.append([int(index) for index in indices])
        return frames(self, indices, *arguments, **options)

    monkeypatch.setattr(Video, "frames", noted)
    return calls


def trained_model(**options: Any) -> Any:
    model = tiny_model(NAMES, **options)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    return model


def expected(way: dict[str, Any], views: int, trained: ClipSampling | None = None) -> list[int]:
    """The frames of the views of one video, one after another."""
    clip = (trained or ClipSampling()).changed(**way)
    return clip.test_indices(TIMES, views, end_seconds=4.0).flatten().tolist()


def run_recognizer(model: Any, folder: Path, way: dict[str, Any]) -> int:
    read = Recognizer(model, views_temporal=2, **way).score(folder / NAMES[0] / "0.mkv")
    assert read.frame_indices.flatten().tolist() == expected(way, 2, model.info.sampling)
    np.testing.assert_allclose(read.frame_seconds, read.frame_indices / 10)
    return 1


def run_embedding(model: Any, folder: Path, way: dict[str, Any]) -> int:
    Recognizer(model, views_temporal=2, **way).embed(folder / NAMES[0] / "0.mkv")
    return 1


def run_evaluate(model: Any, folder: Path, way: dict[str, Any]) -> int:
    used = evaluate(model, read_manifest(folder), views_temporal=2, **way).document["protocol"]
    assert {name: used[name] for name in ("frames", "stride_frames", "fps", "clip_seconds")} == (
        model.info.sampling.changed(**way).document()
    )
    assert used["trained_sampling"] == model.info.sampling.document()
    return 2


def run_strength(model: Any, folder: Path, way: dict[str, Any]) -> int:
    used = tune_strength(model, read_manifest(folder), strengths=(0, 1), views_temporal=2, **way).document["trained"]
    assert {name: used[name] for name in ("fps", "clip_seconds")} == {
        name: model.info.sampling.changed(**way).document()[name] for name in ("fps", "clip_seconds")
    }
    return 2


def run_a_protocol(model: Any, folder: Path, way: dict[str, Any]) -> int:
    path = folder.parent / "protocol.yaml"
    tests = f"tests: {{all: {{list: {folder.name}, kind: zero-shot}}}}"
    path.write_text(f"title: t\nsource: s\nfolder: {folder.parent}\nviews: 2x1\n{tests}\nsummary: mean\n")
    run_protocol(model, load_protocol(path), **way)
    return 2


@pytest.mark.case("S5")
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("run", [run_recognizer, run_embedding, run_evaluate, run_strength, run_a_protocol])
def test_every_reader_of_test_views(folder: Path, asked: Asked, run: Callable[..., int], way: dict[str, Any]) -> None:
    for trained in ({}, {"fps": 4.0}):
        model = trained_model(**trained)
        asked.clear()
        videos = run(model, folder, way)
        assert asked == [expected(way, 2, model.info.sampling)] * videos


@pytest.mark.case("S5")
def test_the_ways_are_different_frames() -> None:
    assert len({tuple(expected(way, 2)) for way in WAYS}) == len(WAYS)


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("way", "rate"),
    [({"frames": 3}, 2.0), ({"frames": 3, "stride_frames": 4}, 2.5), ({"fps": 2.5}, 2.5), ({"clip_seconds": 3.5}, 2.0)],
)
def test_timelines_of_shared_frames(folder: Path, asked: Asked, way: dict[str, Any], rate: float) -> None:
    """As far apart as in a clip (8 frames in 3.5 s are 2 a second), each once, whatever the windows."""
    video = folder / NAMES[0] / "0.mkv"
    found = Recognizer(tiny_model(NAMES), **way).timeline(video, window_seconds=1.5, step_seconds=1.0)
    assert [(window.start_seconds, window.end_seconds) for window in found] == [(0, 1.5), (1, 2.5), (2, 3.5), (3, 4)]
    assert asked == [[int(10 * (k + 0.5) / rate) for k in range(int(4 * rate))]]


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("way", "windows"),
    [
        # windows 0-1.5, 1-2.5, 2-3.5 and 3-4 s; frames on the screen in them: 0-14, 10-24, 20-34, 30-39
        ({"frames": 3}, [[2, 7, 11], [12, 17, 21], [22, 27, 31], [31, 34, 37]]),
        ({"frames": 3, "stride_frames": 4}, [[3, 7, 11], [13, 17, 21], [23, 27, 31], [30, 34, 38]]),
        ({"frames": 3, "fps": 2.5}, [[3, 7, 11], [13, 17, 21], [23, 27, 31], [30, 34, 38]]),
        ({"frames": 3, "clip_seconds": 1.0}, [[2, 7, 12], [12, 17, 22], [22, 27, 32], [30, 35, 39]]),
    ],
)
def test_timelines_of_windows_alone(folder: Path, asked: Asked, way: dict[str, Any], windows: list[list[int]]) -> None:
    """Of a method whose frames see the whole clip."""
    video = folder / NAMES[0] / "0.mkv"
    found = Recognizer(tiny_model(NAMES, method="aim"), **way).timeline(video, window_seconds=1.5, step_seconds=1.0)
    assert [(window.start_seconds, window.end_seconds) for window in found] == [(0, 1.5), (1, 2.5), (2, 3.5), (3, 4)]
    assert asked == [[frame for window in windows for frame in window]]


@pytest.mark.case("S5")
@pytest.mark.parametrize("way", [{"fps": 3.0}, {"clip_seconds": 1.5}, {"stride_frames": 6}], ids=str)
def test_a_run_trains_validates_tests_and_records_by_its_sampling(
    folder: Path, asked: Asked, tmp_path: Path, way: dict[str, Any]
) -> None:
    source = str(folder)
    config = RunConfig.model_validate(
        {
            "out": str(tmp_path / "run"),
            "data": {"train": source, "val": source, "test": source, "frames": 4, "workers": 0, **way},
            "model": {"backbone": TINY},
            "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 2, "precision": "fp32", "seed": 5},
            "eval": {"views_temporal": 2},
        }
    )
    best = train(config, progress=False)
    clip = ClipSampling(4, **way)
    drawn = [clip.train_indices(TIMES, np.random.default_rng((5, 0, i)), end_seconds=4.0).tolist() for i in range(2)]
    assert sorted(asked[:2]) == sorted(drawn)  # the order of an epoch is random
    assert asked[2:] == [expected({}, 1, clip)] * 2 + [expected({}, 2, clip)] * 2
    assert read_record(best).info.sampling == clip
    used = json.loads((tmp_path / "run" / "test" / "report.json").read_text())["protocol"]
    assert used["trained_sampling"] == clip.document()


def test_the_command_line_changes_it_everywhere(
    m2: Callable[..., Any], folder: Path, asked: Asked, tmp_path: Path
) -> None:
    checkpoint = trained_model(frames=6).save(tmp_path / "model.safetensors")
    video = folder / NAMES[0] / "0.mkv"
    commands: tuple[tuple[tuple[object, ...], int], ...] = (
        (("classify", video, "--checkpoint", checkpoint, "--views", "2x1", "--json"), 1),
        (("embed", video, "--checkpoint", checkpoint, "--views", "2x1", "--json"), 1),
        (("evaluate", checkpoint, "--data", folder, "--views", "2x1", "--json"), 2),
        (("tune-strength", checkpoint, "--data", folder, "--views", "2x1", "--strengths", "0,1"), 2),
    )
    told = {
        "frames": "4 frames a clip are used, the model was trained with 6",
        "stride_frames": "frames are taken at a stride of 3, in training they were taken in uniform segments",
        "fps": "frames are taken at 2.5 a second, in training they were taken in uniform segments",
        "clip_seconds": "frames are taken over 3.5 seconds, in training they were taken in uniform segments",
    }
    for command, videos in commands:
        for way in WAYS[1:5]:
            ((name, value),) = way.items()
            asked.clear()
            ran = m2(*command, f"--{name.replace('_', '-')}", value)
            assert ran.code == 0, ran.err
            assert asked == [expected(way, 2, ClipSampling(6))] * videos, command
            if command[0] in ("classify", "embed"):
                document = json.loads(ran.out)
                assert document[name] == value
                assert document["trained_sampling"] == ClipSampling(6).document()
                assert f"m2clip: {told[name]}\n" == ran.err
    asked.clear()
    ran = m2("timeline", video, "--checkpoint", checkpoint, "--fps", 2.5, "--window", 10)
    assert (ran.code, asked) == (0, [expected({"fps": 2.5}, 1, ClipSampling(6))])
    too_long = "a clip spans 2 s, more than a window of 1.5 s, which has fewer frames; give a longer --window"
    for way in (("--stride-frames", 4), ("--fps", 2.5), ("--clip-seconds", 2)):
        assert too_long in m2("timeline", video, "--checkpoint", checkpoint, *way, "--window", 1.5).err
        assert "a clip spans" not in m2("timeline", video, "--checkpoint", checkpoint, *way, "--window", 2.5).err
    assert "a clip spans" not in m2("timeline", video, "--checkpoint", checkpoint, "--window", 0.5).err
    ran = m2("evaluate", checkpoint, "--data", folder, "--fps", 2.5, "--dry-run")
    assert "6 frames at 2.5 a second" in ran.out
    for command, _ in commands:
        ran = m2(*command, "--fps", 2, "--clip-seconds", 2)
        assert ran.code == 2
        assert "give only one of --fps and --clip-seconds" in " ".join(ran.err.split())


@pytest.mark.case("S3", "S4")
@pytest.mark.parametrize("frames", [16, 4])
def test_another_number_of_frames_works_and_is_told(
    m2: Callable[..., Any], folder: Path, asked: Asked, tmp_path: Path, frames: int
) -> None:
    checkpoint = trained_model(frames=8).save(tmp_path / "model.safetensors")
    ran = m2("classify", folder / NAMES[0] / "0.mkv", "--checkpoint", checkpoint, "--frames", frames, "--json")
    assert ran.code == 0
    assert f"{frames} frames a clip are used, the model was trained with 8" in ran.err
    document = json.loads(ran.out)
    assert (document["frames"], document["trained_frames"]) == (frames, 8)
    assert np.shape(document["videos"][0]["frame_indices"]) == (1, frames)
    ran = m2("evaluate", checkpoint, "--data", folder, "--frames", frames)
    assert f"{frames} frames a clip are used, the model was trained with 8" in ran.out
    assert {len(one) for one in asked} == {frames}


@pytest.mark.case("S7")
def test_a_videos_score_is_the_mean_probability_of_its_views(
    m2: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    checkpoint = trained_model().save(tmp_path / "model.safetensors")
    video = folder / NAMES[1] / "0.mkv"
    ran = m2("classify", video, "--checkpoint", checkpoint, "--views", "2x2", "--json")
    (found,) = json.loads(ran.out)["videos"]
    views = np.array([one["views"] for one in found["predictions"]])  # [K, V]
    assert views.shape == (2, 4)
    np.testing.assert_allclose(views.sum(0), 1, atol=1e-6)  # of each view, too
    np.testing.assert_allclose([one["score"] for one in found["predictions"]], views.mean(1), atol=1e-6)
    evaluated = evaluate(
        Recognizer(checkpoint).model, read_manifest(folder), views_temporal=2, views_spatial=2, per_view=True
    )
    assert evaluated.document["protocol"]["views"]["fusion"] == "mean of probabilities"
    for n, one in enumerate(evaluated.document["videos"]):
        for reading, scores in one["scores"].items():
            assert np.shape(scores["views"]) == (4, 2)
            np.testing.assert_allclose(np.mean(scores["views"], axis=0), scores["mean"], atol=1e-6)
            np.testing.assert_allclose(evaluated.probabilities[reading][n], scores["mean"], atol=1e-6)
            np.testing.assert_allclose(np.sum(scores["views"], axis=1), 1, atol=1e-6)


@pytest.mark.case("S9")
def test_a_result_names_its_protocol(m2: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    checkpoint = trained_model().save(tmp_path / "model.safetensors")
    options = ("--data", folder, "--views", "2x3", "--frames", 4, "--fps", 2.5, "--out", tmp_path / "report")
    ran = m2("evaluate", checkpoint, *options)
    assert "supervised, 2 classes, 4 frames at 2.5 a second, 2x3 views: 2 of 2 videos scored" in ran.out
    used = json.loads((tmp_path / "report" / "report.json").read_text())["protocol"]
    assert (used["name"], used["frames"], used["fps"]) == ("supervised", 4, 2.5)
    assert used["views"] == {"temporal": 2, "spatial": 3, "fusion": "mean of probabilities"}
    assert used["data"]["scored"] == 2  # videos, not clips
    page = (tmp_path / "report" / "report.html").read_text()
    for setting in (
        "frames",
        "fps",
        "stride_frames",
        "clip_seconds",
        "views.temporal",
        "views.spatial",
        "views.fusion",
    ):
        assert f"<td>{setting}</td>" in page


@pytest.mark.case("S1")
def test_a_numbered_clip_at_stride_four_has_gaps_of_four(tmp_path: Path) -> None:
    """61 frames are just enough for 16 at stride 4; frame i is a grey of 4 i."""
    for count in (61, 63):
        path = encode(tmp_path / f"{count}.mkv", "ffv1", greys(range(0, 4 * count, 4)), pix_fmt="bgr0")
        with Video(path) as video:
            info = video.info
            for clip in (
                ClipSampling(16, stride_frames=4),
                ClipSampling(16, fps=25 / 4),
                ClipSampling(16, clip_seconds=2.4),
            ):
                views = clip.test_indices(info.pts_seconds, 3, end_seconds=info.duration_seconds)
                for indices in (
                    *views,
                    clip.train_indices(info.pts_seconds, np.random.default_rng(0), end_seconds=info.duration_seconds),
                ):
                    shown = video.frames(indices)[:, 0, 0, 0].astype(int)
                    assert np.diff(shown).tolist() == [16] * 15

"""Tuning the strength: each point is an evaluation, videos are read once, and the choice is by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import m2clip.data.dataset as dataset
from m2clip import load
from m2clip.checkpoint.record import copy_with
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.errors import CheckpointError, ConfigError
from m2clip.evaluate import evaluate
from m2clip.model.video_clip import VideoCLIP
from m2clip.report import Metrics, measure
from m2clip.strength import Point, StrengthCurve, tune_strength
from tests.small_inputs import class_folders, tiny_model

NAMES = ("bouncing", "moving", "spinning")
OTHERS = ("growing", "falling")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data"), NAMES)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("others"), OTHERS)


def learned(**options: Any) -> VideoCLIP:
    """A model whose adapters and head are far from where they start."""
    model = tiny_model(NAMES, **options)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def test_each_point_is_an_evaluation_at_that_strength(folder: Path, others: Path) -> None:
    model, manifest, novel = learned(), read_manifest(folder), read_manifest(others)
    curve = tune_strength(model, manifest, novel, strengths=(1, 0, 0.3), views_temporal=2, frames=3, batch_size=4)
    assert [point.strength for point in curve.points] == [0, 0.3, 1]
    views = {"views_temporal": 2, "frames": 3, "batch_size": 4}
    for point in curve.points:
        model.set_strength(point.strength)
        for protocol, data, found in (
            ("supervised", manifest, point.trained),
            ("zero-shot", novel, {"similarity": point.novel}),
        ):
            expected = evaluate(model, data, protocol=protocol, **views).metrics
            assert list(found) == list(expected)
            for reading, metrics in expected.items():
                assert found[reading].document() == metrics.document()
    confusions = [point.trained["ensemble"].confusion.tolist() for point in curve.points]
    assert confusions[0] != confusions[2]  # the strengths were not all the same


def test_videos_are_read_once_and_the_model_keeps_its_strength(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    video = dataset.Video

    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path)
        return video(path, *arguments, **options)

    monkeypatch.setattr(dataset, "Video", counted)
    model, manifest = learned(), read_manifest(folder)
    model.set_strength(0.75)
    curve = tune_strength(model, manifest)
    assert len(curve.points) == 11
    assert sorted(opened) == sorted(sample.path for sample in manifest.samples)
    assert model.strength == 0.75


def metrics(right: int, videos: int = 10) -> Metrics:
    """The accuracies of so many right answers among `videos` of two classes."""
    table = np.array([[1.0, 0.0]] * right + [[0.0, 1.0]] * (videos - right))
    return measure(table, np.zeros(videos, int), ("a", "b"))


def curve_of(trained: list[int], novel: list[int] | None = None) -> StrengthCurve:
    return StrengthCurve(
        {},
        tuple(
            Point(n / 2, {"similarity": metrics(right)}, None if novel is None else metrics(novel[n]))
            for n, right in enumerate(trained)
        ),
    )


@pytest.mark.parametrize(
    ("trained", "novel", "best", "score"),
    [
        ([5, 8, 7], None, 0.5, 0.8),
        ([5, 8, 8], None, 1.0, 0.8),  # of equals the stronger
        ([5, 8, 10], [6, 8, 2], 0.5, 0.8),  # harmonic means 6/11, 8/10, 1/3
        ([0, 0, 0], [6, 8, 2], 1.0, 0.0),
        ([4, 8, 8], [8, 4, 4], 1.0, 8 / 15),
    ],
)
def test_the_best_strength_by_hand(trained: list[int], novel: list[int] | None, best: float, score: float) -> None:
    curve = curve_of(trained, novel)
    assert curve.best.strength == best
    assert curve.best.score == pytest.approx(score)
    assert curve.chosen_by == ("top-1 (similarity)" if novel is None else "harmonic mean")


def test_the_table_on_the_terminal() -> None:
    assert curve_of([5, 8, 10], [6, 8, 2]).summary().splitlines() == [
        "strength  trained (similarity)  novel (similarity)  harmonic mean",
        "0         50.0 %                60.0 %              54.5 %",
        "0.5       80.0 %                80.0 %              80.0 %",
        "1         100.0 %               20.0 %              33.3 %",
        "best by harmonic mean: strength 0.5 (80.0 %)",
    ]


def test_the_ensemble_is_judged_where_there_is_a_head(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert tune_strength(learned(), manifest, strengths=(0, 1)).points[0].reading == "ensemble"
    assert tune_strength(learned(visual_head=False), manifest, strengths=(0, 1)).points[0].reading == "similarity"


def test_what_is_written(folder: Path, others: Path, tmp_path: Path) -> None:
    curve = tune_strength(learned(), read_manifest(folder), read_manifest(others), strengths=(0, 0.5, 1))
    assert curve.write(tmp_path / "new/out") == ["strength.json", "strength.csv", "strength.png"]
    document = json.loads((tmp_path / "new/out/strength.json").read_text())
    assert document == json.loads(json.dumps(curve.document))
    assert (document["best"], document["chosen_by"]) == (curve.best.strength, "harmonic mean")
    assert document["trained"]["texts"][0] == ["A video of bouncing"]
    assert document["novel"]["texts"][0] == ["A video of falling"]
    assert document["novel"]["classes_seen_in_training"] == 0
    assert document["trained"]["data"]["scored"] == 6
    with (tmp_path / "new/out/strength.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, point in zip(rows, curve.points, strict=True):
        assert point.novel is not None
        assert float(row["strength"]) == point.strength
        assert float(row["trained_ensemble_top1"]) == point.trained["ensemble"].top1
        assert float(row["novel_similarity_top1"]) == point.novel.top1
        assert float(row["harmonic_mean"]) == point.score
    assert (tmp_path / "new/out/strength.png").read_bytes().startswith(b"\x89PNG")


def test_bad_files_are_told_once_and_left_out_at_every_strength(folder: Path, tmp_path: Path) -> None:
    good = sorted(folder.rglob("*.mp4"))
    lines = [f"{path},{path.parent.name}" for path in good] + [f"gone.mp4,{NAMES[0]}"]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    told: list[str] = []
    curve = tune_strength(
        learned(), read_manifest(tmp_path / "list.csv", classes=ClassTable(NAMES)), strengths=(0, 1), tell=told.append
    )
    assert len(told) == 1
    assert "gone.mp4" in told[0]
    assert [point.trained["similarity"].videos for point in curve.points] == [6, 6]
    assert curve.document["trained"]["data"]["missing"] == 1


def test_novel_classes_that_were_trained_are_told(folder: Path) -> None:
    told: list[str] = []
    manifest = read_manifest(folder)
    curve = tune_strength(learned(), manifest, manifest, strengths=(1,), tell=told.append)
    assert "3 of its 3 classes were trained (first: 'bouncing')" in told[0]
    assert curve.document["novel"]["classes_seen_in_training"] == 3


@pytest.mark.parametrize("strengths", [(), (0.5, 0.5), (0, 1.5), (-0.1, 1), (float("nan"),)])
def test_strengths_that_cannot_be(folder: Path, strengths: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="one or more different numbers between 0 and 1"):
        tune_strength(learned(), read_manifest(folder), strengths=strengths)


def test_models_and_data_that_do_not_fit(folder: Path, others: Path) -> None:
    with pytest.raises(ConfigError, match="give videos of other classes as novel ones"):
        tune_strength(learned(), read_manifest(others))
    with pytest.raises(ConfigError, match="the method frozen has no adapters to weaken"):
        tune_strength(tiny_model(NAMES, method="frozen"), read_manifest(folder))


def test_a_copy_differs_in_its_strength_only(tmp_path: Path) -> None:
    path = learned().save(tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        header = file.metadata()
    old = {**header, "format_version": "1"}  # a checkpoint of before there were strengths
    save_file(load_file(path), tmp_path / "old.safetensors", old)
    for source in (path, tmp_path / "old.safetensors"):
        copy = copy_with(source, tmp_path / "new/copy.safetensors", strength=0.4)
        before, after = load_file(source), load_file(copy)
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        model = load(copy)
        assert (model.strength, model.info) == (0.4, load(path).info.model_copy(update={"strength": 0.4}))
        with safe_open(copy, "pt") as file:
            assert file.metadata()["format_version"] == header["format_version"]
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is no m2clip checkpoint"):
        copy_with(tmp_path / "other.safetensors", tmp_path / "copy.safetensors", strength=0.4)

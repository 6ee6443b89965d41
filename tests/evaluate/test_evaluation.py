"""Protocols: every video once, three readings, honest counts of what could not be read."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from m2clip import Recognizer
from m2clip.data.dataset import VideoDataset
from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.data.text.descriptions import read_text_source
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.errors import ConfigError, M2CLIPError, VideoError
from m2clip.evaluate import evaluate
from tests.small_inputs import class_folders, moving_square, tiny_model, write_video

NAMES = ("bouncing", "moving", "spinning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data"), NAMES)


def trained_model(names: tuple[str, ...] = NAMES, **options: Any) -> Any:
    model = tiny_model(names, **options)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    return model


def damaged(root: Path) -> tuple[Path, Manifest]:
    """A list of two good videos, an empty one, a cut one and a missing one."""
    good = write_video(root / "good.mp4", moving_square())
    write_video(root / "also good.mp4", moving_square(shift=2))
    (root / "empty.mp4").touch()
    (root / "cut.mp4").write_bytes(good.read_bytes()[:300])
    names = ["good.mp4", "empty.mp4", "cut.mp4", "missing.mp4", "also good.mp4"]
    lines = [f"{name} {k % 3}" for k, name in enumerate(names)]
    (root / "list.txt").write_text("\n".join(lines) + "\n")
    return root / "list.txt", read_manifest(root / "list.txt", classes=ClassTable(NAMES))


def test_supervised_reads_three_ways_and_agrees_with_the_recognizer(folder: Path) -> None:
    model, manifest = trained_model(), read_manifest(folder)
    result = evaluate(model, manifest, batch_size=4)
    assert list(result.metrics) == ["similarity", "visual", "ensemble"]
    assert result.samples == manifest.samples
    recognizer = Recognizer(model)
    for n, sample in enumerate(manifest.samples):
        expected = recognizer.score(sample.path).probabilities.numpy()
        assert np.allclose(result.probabilities["ensemble"][n], expected, atol=1e-5)
    for reading, table in result.probabilities.items():
        assert table.shape == (6, 3)
        assert np.allclose(table.sum(1), 1, atol=1e-5)
        assert result.metrics[reading].top5 is None
        right = sum(table[n].argmax() == sample.label for n, sample in enumerate(manifest.samples))
        assert result.metrics[reading].top1_correct == right
    mean = (result.probabilities["similarity"] + result.probabilities["visual"]) / 2
    assert np.allclose(result.probabilities["ensemble"], mean, atol=1e-6)


def test_step_zero_is_the_frozen_clip(folder: Path) -> None:
    """A fresh model, all adapters on: the mean of CLIP's image embeddings against CLIP's texts."""
    model, manifest = (
        tiny_model(NAMES, ted_positions=("pre_mlp", "pre_attention"), text_adapter_layers=2),
        read_manifest(folder),
    )
    found = evaluate(model, manifest, views_temporal=2, frames=4, batch_size=2).probabilities["similarity"]
    views = VideoDataset(
        manifest, frames=4, size=32, mean=model.info.sizes.mean, std=model.info.sizes.std, train=False, views_temporal=2
    )
    with torch.no_grad():
        texts = normalize(model.clip.encode_text(get_tokenizer()([f"A video of {name}" for name in NAMES])), dim=-1)
        for n in range(len(manifest.samples)):
            clips = views[n].clip  # [V, T, 3, H, W]
            images = model.clip.encode_image(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
            expected = (100 * normalize(images.mean(1), dim=-1) @ texts.T).softmax(-1).mean(0)
            assert np.allclose(found[n], expected.numpy(), atol=1e-5)


def test_an_untrained_head_is_not_read(folder: Path) -> None:
    assert list(evaluate(tiny_model(NAMES), read_manifest(folder)).metrics) == ["similarity"]
    assert list(evaluate(trained_model(visual_head=False), read_manifest(folder)).metrics) == ["similarity"]


def test_the_order_of_classes_does_not_matter(folder: Path) -> None:
    model = trained_model(NAMES[::-1])
    forward = evaluate(model, read_manifest(folder, classes=ClassTable(NAMES)))
    backward = evaluate(model, read_manifest(folder, classes=ClassTable(NAMES[::-1])))
    for reading in forward.metrics:
        assert np.allclose(forward.probabilities[reading], backward.probabilities[reading][:, ::-1], atol=1e-6)
        assert forward.metrics[reading].top1 == backward.metrics[reading].top1


@pytest.mark.case("E9")
def test_zero_shot_takes_other_classes_and_supervised_refuses_them(folder: Path) -> None:
    model, manifest = trained_model(("walking", "running")), read_manifest(folder)
    result = evaluate(model, manifest, protocol="zero-shot")
    assert list(result.metrics) == ["similarity"]
    assert result.document["protocol"]["classes_seen_in_training"] == 0
    with pytest.raises(ConfigError, match=r"needs the checkpoint's 2 classes, but 'bouncing' is none.*zero-shot"):
        evaluate(model, manifest)
    with pytest.raises(ConfigError, match="it has none: choose zero-shot"):
        evaluate(tiny_model(), manifest)
    with pytest.raises(ConfigError, match="choose supervised or zero-shot"):
        evaluate(model, manifest, protocol="few-shot")


@pytest.mark.case("E6", "L10")
def test_the_protocol_says_what_was_done(folder: Path) -> None:
    table = ClassTable(NAMES, (("it bounces",), (), ("it turns", "it whirls")))
    manifest = read_manifest(folder, classes=table)
    model = trained_model(template="a clip of {}")
    result = evaluate(
        model,
        manifest,
        protocol="zero-shot",
        views_temporal=2,
        views_spatial=3,
        frames=4,
        checkpoint="model.safetensors",
    )
    used = json.loads(json.dumps(result.document))["protocol"]
    assert used["texts"] == [
        ["a clip of bouncing", "it bounces"],
        ["a clip of moving"],
        ["a clip of spinning", "it turns", "it whirls"],
    ]
    assert used["views"] == {"temporal": 2, "spatial": 3, "fusion": "mean of probabilities"}
    assert (used["frames"], used["stride_frames"], used["fps"], used["clip_seconds"]) == (4, 0, None, None)
    assert (used["trained_frames"], used["trained_sampling"]["frames"]) == (8, 8)
    assert used["data"]["sha256"] == manifest.sha256
    assert used["classes_seen_in_training"] == 3
    assert used["model"]["checkpoint"] == "model.safetensors"
    assert used["model"]["loaded_tensors"] == 0  # random weights
    assert "texts: 'a clip of {}', 6 in all; weights: model.safetensors, adapted, 0 tensors" in result.summary()
    assert used["seed"] == 3
    assert set(used["versions"]) == {"m2clip", "python", "torch", "torchvision", "numpy", "av"}
    assert "4 frames in uniform segments, 2x3 views: 6 of 6 videos scored" in result.summary()
    assert "4 frames a clip are used, the model was trained with 8" in result.summary()


def test_the_precision_is_a_choice_and_is_told(folder: Path) -> None:
    model, manifest = trained_model(), read_manifest(folder)
    exact, rounded = evaluate(model, manifest), evaluate(model, manifest, precision="bf16")
    assert [one.document["protocol"]["precision"] for one in (exact, rounded)] == ["fp32", "bf16"]
    assert "bf16" not in exact.summary()
    assert ", bf16, 1x1 views" in rounded.summary()
    assert model.rounded == "nothing"
    for reading, table in exact.probabilities.items():
        assert not np.array_equal(rounded.probabilities[reading], table)
    again = evaluate(model, manifest)
    assert all(np.array_equal(again.probabilities[reading], table) for reading, table in exact.probabilities.items())


def test_supervised_uses_the_texts_of_the_checkpoint(folder: Path) -> None:
    model = trained_model(further_texts=(("it bounces",), (), ()))
    used = evaluate(model, read_manifest(folder)).document["protocol"]
    assert used["texts"][0] == ["A video of bouncing", "it bounces"]


def test_other_texts_take_the_place_of_the_checkpoints(folder: Path) -> None:
    """The similarity reading follows them, by a mean that is computed here; the visual head does not care."""
    model, manifest = trained_model(further_texts=(("it bounces",), (), ())), read_manifest(folder)
    own = evaluate(model, manifest)
    texts = [["it jumps up", "it springs"], ["it goes"], ["it turns", "it whirls", "it rotates"]]
    other = evaluate(model, manifest, texts=texts)
    assert np.array_equal(own.probabilities["visual"], other.probabilities["visual"])
    with torch.inference_mode():
        embeddings = [
            normalize(
                sum(normalize(model.encode_text(get_tokenizer()([text])).embedding[0], dim=0) for text in some), dim=0
            )
            for some in texts
        ]
        for n, sample in enumerate(manifest.samples):
            video = torch.from_numpy(Recognizer(model).embed(sample.path))
            expected = torch.stack([100 * video @ embedding for embedding in embeddings]).softmax(0)
            assert np.allclose(other.probabilities["similarity"][n], expected.numpy(), atol=1e-5)
    used = other.document["protocol"]
    assert used["texts"] == texts
    assert (used["template"], used["more_templates"], used["texts_file"]) == (None, [], None)
    for bad in (texts[:2], [["a"], [], ["b"]]):
        with pytest.raises(ConfigError, match="give each class one"):
            evaluate(model, manifest, texts=bad)


@pytest.mark.parametrize("protocol", ["supervised", "zero-shot"])
def test_texts_from_files_stand_in_the_report(folder: Path, tmp_path: Path, protocol: Any) -> None:
    (tmp_path / "templates.txt").write_text("a clip of {}\nsomething {}\n")
    (tmp_path / "texts.json").write_text(
        '{"Spinning": "it turns", "moving": ["it goes", "it runs"], "bouncing": "it jumps"}'
    )
    model = trained_model(further_texts=(("up, down",), (), ()), more_templates=("one more {}",))
    table = ClassTable(NAMES, (("up, down",), (), ()))
    manifest = read_manifest(folder, classes=table)
    own = evaluate(model, manifest, protocol=protocol).document["protocol"]
    assert own["texts"][0] == ["A video of bouncing", "one more bouncing", "up, down"]
    assert (own["template"], own["more_templates"]) == ("A video of {}", ["one more {}"])
    assert (own["templates_file"], own["texts_file"]) == (None, None)
    both = read_text_source(templates=tmp_path / "templates.txt", descriptions=tmp_path / "texts.json")
    used = json.loads(json.dumps(evaluate(model, manifest, protocol=protocol, texts=both).document))["protocol"]
    assert used["texts"] == [
        ["a clip of bouncing", "something bouncing", "up, down", "it jumps"],
        ["a clip of moving", "something moving", "it goes", "it runs"],
        ["a clip of spinning", "something spinning", "it turns"],
    ]
    assert (used["template"], used["more_templates"]) == ("a clip of {}", ["something {}"])
    assert used["texts_file"]["path"] == str(tmp_path / "texts.json")
    assert len(used["templates_file"]["sha256"]) == 64
    alone = read_text_source(descriptions=tmp_path / "texts.json")
    used = evaluate(model, manifest, protocol=protocol, texts=alone).document["protocol"]
    assert used["texts"] == [["it jumps"], ["it goes", "it runs"], ["it turns"]]


def test_views_are_kept_on_request_and_averaged_as_probabilities(folder: Path) -> None:
    options: dict[str, Any] = {"views_temporal": 2, "views_spatial": 1, "batch_size": 4}
    kept = evaluate(trained_model(), read_manifest(folder), per_view=True, **options)
    fused = evaluate(trained_model(), read_manifest(folder), **options)
    assert "videos" not in fused.document
    for n, video in enumerate(kept.document["videos"]):
        for reading, scores in video["scores"].items():
            assert len(scores["views"]) == 2
            assert np.allclose(np.mean(scores["views"], 0), scores["mean"], atol=1e-6)
            assert np.allclose(fused.probabilities[reading][n], scores["mean"], atol=1e-6)


def test_bad_files_are_named_counted_and_left_out(tmp_path: Path) -> None:
    _, manifest = damaged(tmp_path)
    told: list[str] = []
    steps: list[tuple[int, int]] = []
    result = evaluate(
        trained_model(),
        manifest,
        batch_size=2,
        tell=told.append,
        progress=lambda done, total: steps.append((done, total)),
    )
    data = result.document["protocol"]["data"]
    assert {key: data[key] for key in ("listed", "found", "missing", "bad", "scored")} == {
        "listed": 5, "found": 4, "missing": 1, "bad": 2, "scored": 2,
    }  # fmt: skip
    assert [sample.path.name for sample in result.samples] == ["good.mp4", "also good.mp4"]
    assert [Path(file["path"]).name for file in result.document["protocol"]["bad_files"]] == [
        "empty.mp4", "cut.mp4", "missing.mp4",
    ]  # fmt: skip
    assert len(told) == 3
    assert "list.txt:2" in told[0]
    assert all(measured.videos == 2 for measured in result.metrics.values())
    assert steps == [(2, 5), (4, 5), (5, 5)]


def test_bad_files_can_stop_and_all_bad_is_an_error(tmp_path: Path) -> None:
    _, manifest = damaged(tmp_path)
    with pytest.raises(VideoError, match=r"empty.mp4.*list.txt:2"):
        evaluate(trained_model(), manifest, on_bad_file="stop")
    (tmp_path / "bad.txt").write_text("empty.mp4 0\nmissing.mp4 1\n")
    with pytest.raises(VideoError, match=r"none of its 2 videos could be read.*empty.mp4"):
        evaluate(trained_model(), read_manifest(tmp_path / "bad.txt", classes=ClassTable(NAMES)))


def test_a_video_listed_twice_and_a_part_of_it_are_three_samples(tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", moving_square(frames=48))
    text = "path,label,start_seconds,end_seconds\nlong.mp4,moving,,\nlong.mp4,moving,,\nlong.mp4,moving,1,2\n"
    (tmp_path / "parts.csv").write_text(text)
    result = evaluate(trained_model(), read_manifest(tmp_path / "parts.csv", classes=ClassTable(NAMES)), per_view=True)
    assert len(result.samples) == 3
    whole, again, part = result.probabilities["similarity"]
    assert np.allclose(whole, again)
    assert not np.allclose(whole, part)
    assert result.document["videos"][2]["end_seconds"] == 2


def test_scores_that_are_not_finite_name_the_file(folder: Path) -> None:
    model = trained_model()
    with torch.no_grad():
        model.clip.visual.projection.fill_(float("nan"))
    with pytest.raises(M2CLIPError, match=r"0.mp4: its similarity scores are not finite"):
        evaluate(model, read_manifest(folder))


def test_the_model_keeps_its_mode(folder: Path) -> None:
    model = trained_model().train()
    first = evaluate(model, read_manifest(folder)).probabilities["visual"]
    assert model.training
    assert np.array_equal(first, evaluate(model, read_manifest(folder)).probabilities["visual"])


def test_files_of_an_evaluation(folder: Path, tmp_path: Path) -> None:
    result = evaluate(trained_model(), read_manifest(folder), per_view=True)
    files = result.write(tmp_path / "out")
    assert set(files) == {path.name for path in (tmp_path / "out").iterdir()}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]["visual"]["videos"] == 6
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3
    for row in rows:
        assert row["label"] == Path(row["path"]).parent.name
        assert row["predicted"] == max(NAMES, key=lambda name: float(row[name]))


def test_workers_change_nothing(folder: Path) -> None:
    alone = evaluate(trained_model(), read_manifest(folder))
    helped = evaluate(trained_model(), read_manifest(folder), workers=1)
    assert np.array_equal(alone.probabilities["ensemble"], helped.probabilities["ensemble"])


def test_the_strength_stands_in_the_report(folder: Path) -> None:
    model, manifest = trained_model(), read_manifest(folder)
    result = evaluate(model, manifest)
    assert result.document["protocol"]["strength"] == 1
    assert "strength" not in result.summary()
    model.set_strength(0.5)
    result = evaluate(model, manifest)
    assert result.document["protocol"]["strength"] == 0.5
    assert "8 frames in uniform segments, adapter strength 0.5, 1x1 views" in result.summary()

"""Temperatures and thresholds with answers known beforehand; what is written, and what is changed by it and what is not."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from m2clip import Recognizer, create, load
from m2clip.calibration import calibrate, fit_temperature, fit_threshold
from m2clip.checkpoint.record import copy_with, read_record
from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.data.text.descriptions import TextSource
from m2clip.data.transforms import PixelStatistics
from m2clip.data.video import Video
from m2clip.errors import ConfigError, M2CLIPError, VideoError
from m2clip.evaluate import evaluate
from m2clip.model.info import Calibration, ModelInfo, texts_sha256
from m2clip.model.video_clip import VideoCLIP, checkpoint_header
from m2clip.scoring import calibrated
from m2clip.strength import tune_strength
from tests.small_inputs import class_folders, moving_square, tiny_model, write_video

NAMES = ("bouncing", "moving", "spinning")


def learned(**options: Any) -> VideoCLIP:
    """A model whose adapters are not where they start."""
    model = tiny_model(NAMES, **options)
    model.info = model.info.model_copy(update={"training": {"epochs": 1}})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Twelve videos; what they show is what the model sees in them, but for three of them."""
    root = tmp_path_factory.mktemp("data")
    paths = [write_video(root / f"{n}.mp4", moving_square(shift=n)) for n in range(12)]
    reader = Recognizer(learned(visual_head=False))
    seen = [reader.classify(path, top=1)[0].label for path in paths]
    seen[3], seen[7], seen[8] = NAMES[2], NAMES[2], NAMES[0] if seen[8] == NAMES[1] else NAMES[1]
    (root / "list.csv").write_text("path,label\n" + "".join(f"{a},{b}\n" for a, b in zip(paths, seen, strict=True)))
    return read_manifest(root / "list.csv", classes=ClassTable(NAMES))


@pytest.fixture(scope="module")
def weights(videos: Manifest) -> dict[str, torch.Tensor]:
    """Of a model whose visual head knows something: each class by the mean of its videos' features."""
    model = learned()
    recognizer = Recognizer(model)
    pixels = torch.cat([recognizer.reader.read(Video(one.path)).pixels[0] for one in videos.samples])
    statistics = PixelStatistics(model.info.sizes.mean, model.info.sizes.std)
    with torch.no_grad():
        features = model.head_features(model.encode_frames(statistics.normalize(pixels))[1])
        features, of_all = features - features.mean(0), features.mean(0)
        labels = torch.from_numpy(videos.samples.labels)
        weight = torch.stack([features[labels == k].mean(0) for k in range(3)])
        weight *= 3 / (features @ weight.T).abs().max()
        model.visual_head.linear.weight.copy_(weight)
        model.visual_head.linear.bias.copy_(-weight @ of_all)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def model(weights: dict[str, torch.Tensor]) -> VideoCLIP:
    made = learned()
    made.load_state_dict(weights)
    return made


def calibrated_on(model: VideoCLIP, videos: Manifest, **options: Any) -> VideoCLIP:
    """The same model, with what `calibrate` found in its record."""
    found = calibrate(model, videos, **options)
    model.info = model.info.model_copy(update={"calibration": found.calibration})
    return model


def drawn(logits: torch.Tensor) -> np.ndarray:
    """A class for each row, as often as its softmax says."""
    return torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(0))[:, 0].numpy()


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.25])
def test_logits_that_were_scaled_get_the_scale_as_temperature(scale: float) -> None:
    logits = 2 * torch.randn(20_000, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = fit_temperature((scale * logits).softmax(-1).numpy(), drawn(logits))
    assert found == pytest.approx(scale, rel=0.03)


def test_a_temperature_by_hand() -> None:
    """Of 4 videos with the probabilities 0.9 and 0.1, 3 are right: log p / T must give 0.75, so T = log 9 / log 3 = 2."""
    table = np.tile([0.9, 0.1], (4, 1))
    assert fit_temperature(table, np.array([0, 0, 0, 1])) == pytest.approx(2.0, rel=1e-9)
    assert calibrated(torch.tensor([0.9, 0.1]), 2.0).tolist() == pytest.approx([0.75, 0.25])


def test_where_no_temperature_is_best() -> None:
    table = np.tile([0.9, 0.1], (4, 1))
    assert fit_temperature(table, np.zeros(4, int)) is None
    with pytest.raises(ConfigError, match="no more of the classes than chance"):
        fit_temperature(table, np.array([1, 1, 1, 0]))


def test_probabilities_of_zero_keep_a_temperature_finite() -> None:
    table = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    # Two of three are right: log(1e45) / T = log 2.
    assert fit_temperature(table, np.array([0, 0, 1])) == pytest.approx(45 * np.log(10) / np.log(2), rel=1e-6)


@pytest.mark.parametrize(
    ("reject", "count", "threshold"), [(0.05, 40, 2.5), (0.07, 100, 7.5), (0.29, 100, 29.5), (0.5, 3, 1.5)]
)
def test_a_threshold_by_hand(reject: float, count: int, threshold: float) -> None:
    evidence = np.random.default_rng(0).permutation(np.arange(1, count + 1)).astype(np.float32)
    assert fit_threshold(evidence, reject=reject) == threshold


def test_a_share_of_less_than_one_video_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0\.05 of 19 videos is less than one; give a larger share, or 20 videos"):
        fit_threshold(np.arange(19, dtype=np.float32), reject=0.05)


@given(st.integers(2, 8), st.floats(0.02, 50), st.integers(0, 2**31))
@settings(max_examples=50)
def test_a_temperature_keeps_the_order_and_the_sum(classes: int, temperature: float, seed: int) -> None:
    raw = torch.randn(6, classes, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(-1)
    changed = calibrated(raw, temperature)
    assert changed.dtype == raw.dtype
    assert changed.sum(-1).tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert torch.equal(changed.argmax(-1), raw.argmax(-1))
    assert torch.equal(calibrated(raw, 1.0), raw)


def test_for_one_view_it_is_the_softmax_of_divided_logits() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(calibrated(logits.softmax(-1), 1.7), (logits / 1.7).softmax(-1))


def test_what_is_set_and_that_top1_stays(model: VideoCLIP, videos: Manifest) -> None:
    options: dict[str, Any] = {"views_temporal": 2, "frames": 3, "per_view": True}
    raw = evaluate(model, videos, **options)
    found = calibrate(model, videos, reject=0.25, **options)
    assert model.info.calibration is None
    assert found.calibration.strength == 1.0
    assert found.calibration.evidence == "visual logit"
    assert list(found.calibration.temperatures) == ["similarity", "visual", "ensemble"]
    model.info = model.info.model_copy(update={"calibration": found.calibration})
    after = evaluate(model, videos, **options)
    for reading, temperature in found.calibration.temperatures.items():
        expected = calibrated(torch.from_numpy(raw.probabilities[reading]), temperature).numpy()
        assert np.allclose(after.probabilities[reading], expected, atol=1e-6)
        assert not np.allclose(after.probabilities[reading], raw.probabilities[reading], atol=1e-3)
        assert after.metrics[reading].confusion.tolist() == raw.metrics[reading].confusion.tolist()
        told = found.document["readings"][reading]
        assert told["ece"]["before"] == pytest.approx(raw.metrics[reading].ece)
        assert told["ece"]["after"] == pytest.approx(after.metrics[reading].ece, abs=1e-6)
        assert told["nll"]["after"] <= told["nll"]["before"]
    assert after.document["none_of_these"] == {"rejected": 3, "videos": 12, "share": 0.25}
    assert after.document["protocol"]["calibration"]["threshold"] == found.calibration.threshold
    assert "none of these: 3 of 12 videos (25.0 %)" in after.summary()
    assert "none_of_these" not in raw.document
    for video, row in zip(after.document["videos"], after.probabilities["ensemble"], strict=True):
        assert video["scores"]["ensemble"]["mean"] == pytest.approx(row.tolist())
    assert found.document["told"][0].startswith("set on 12 videos only")


def test_a_recognizer_reads_scores_as_an_evaluation_does(model: VideoCLIP, videos: Manifest) -> None:
    calibrated_on(model, videos, reject=0.25, views_temporal=2)
    result = evaluate(model, videos, views_temporal=2)
    recognizer = Recognizer(model, views_temporal=2)
    said = [recognizer.score(sample.path) for sample in result.samples]
    assert np.allclose([one.probabilities.tolist() for one in said], result.probabilities["ensemble"], atol=1e-5)
    assert sum(one.none_of_these for one in said) == 3
    threshold = model.info.calibration.threshold
    assert [one.none_of_these for one in said] == (result.best_evidence < threshold).tolist()


def test_it_holds_for_the_labels_and_texts_that_it_was_set_on(model: VideoCLIP, videos: Manifest) -> None:
    plain = copy.deepcopy(model)
    calibrated_on(model, videos, reject=0.25)
    path = next(iter(videos.samples)).path
    calibrated_reader, plain_reader = Recognizer(model), Recognizer(plain)
    other_order = calibrated_reader.score(path, list(reversed(NAMES)))
    assert other_order.probabilities.flip(0).tolist() == pytest.approx(
        calibrated_reader.score(path).probabilities.tolist()
    )
    for labels in (NAMES[:2], [*NAMES, "falling"], {name: f"{name} things" for name in NAMES}):
        ours, theirs = calibrated_reader.score(path, labels), plain_reader.score(path, labels)
        assert torch.equal(ours.probabilities, theirs.probabilities)
        assert (ours.classes.temperature, ours.none_of_these) == (1.0, False)
        assert ours.classes.threshold(strength=1.0) is None


def test_at_another_strength_the_temperature_holds_and_the_threshold_does_not(
    model: VideoCLIP, videos: Manifest
) -> None:
    calibrated_on(model, videos, reject=0.25)
    model.set_strength(0.5)
    result = evaluate(model, videos)
    assert result.document["protocol"]["calibration"]["temperatures"] == dict(model.info.calibration.temperatures)
    assert result.document["protocol"]["calibration"]["threshold"] is None
    assert "none_of_these" not in result.document
    assert not any(Recognizer(model).score(sample.path).none_of_these for sample in videos.samples)
    curve = tune_strength(model, videos, strengths=(0.5, 1))
    assert curve.points[0].trained["ensemble"].ece == pytest.approx(result.metrics["ensemble"].ece, abs=1e-6)


def test_labels_that_are_not_the_models_are_calibrated_by_similarity(videos: Manifest) -> None:
    """Texts of one's own belong to the calibration."""
    model = learned(visual_head=False)
    model.info = model.info.model_copy(update={"class_names": (), "texts": ()})
    source = TextSource(descriptions={name: (f"A video of {name}",) for name in NAMES})
    found = calibrate(model, videos, reject=0.25, texts=source).calibration
    assert list(found.temperatures) == ["similarity"]
    assert found.evidence == "cosine"
    assert found.temperatures["similarity"] != 1
    model.info = model.info.model_copy(update={"calibration": found})
    for reader in (Recognizer(model, texts=source), Recognizer(model)):  # the same texts
        assert reader.prepare(NAMES).temperature == found.temperatures["similarity"]
        assert sum(reader.score(one.path, NAMES).none_of_these for one in videos.samples) == 3
    others = TextSource(templates=("{}",))
    assert Recognizer(model, texts=others).prepare(NAMES).temperature == 1.0


def test_a_copy_has_the_same_tensors_and_is_read_like_the_model(
    model: VideoCLIP, videos: Manifest, tmp_path: Path
) -> None:
    path = model.save(tmp_path / "model.safetensors")
    found = calibrate(load(path), videos, reject=0.25)
    for out in (tmp_path / "new/copy.safetensors", path):  # the second in place
        before = load_file(path)
        copy_with(path, out, calibration=found.calibration)
        after = load_file(out)
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert load(out).info.calibration == found.calibration
        assert read_record(out).info.calibration == found.calibration
    again = calibrate(load(path), videos, reject=0.25)  # measured without the calibration that is there
    assert again.calibration == found.calibration
    assert evaluate(load(path), videos).document["none_of_these"]["rejected"] == 3


def test_older_checkpoints_are_read_as_before(tmp_path: Path) -> None:
    model = learned()
    header = checkpoint_header(model.info)
    old = ModelInfo.model_validate_json(header["info"]).model_dump_json(exclude={"calibration"})
    assert "calibration" not in old
    save_file(model.state_dict(), tmp_path / "old.safetensors", header | {"format_version": "2", "info": old})
    assert load(tmp_path / "old.safetensors").info == model.info


def test_the_texts_of_labels_are_told_apart_and_their_order_is_not() -> None:
    assert texts_sha256([["a"], ["b", "c"]]) == texts_sha256((("b", "c"), ("a",)))
    assert len({texts_sha256(texts) for texts in ([["a"], ["b"]], [["a", "b"]], [["a"]], [["ab"]])}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"temperatures": {"similarity": 0.0}},
        {"temperatures": {"similarity": float("nan")}},
        {"temperatures": {"other": 1.0}},
        {"threshold": float("inf")},
        {"texts_sha256": "x"},
        {"strength": 2},
    ],
)
def test_a_header_that_claims_nonsense_is_refused(change: dict[str, Any]) -> None:
    values = {"texts_sha256": "0" * 64, "temperatures": {"similarity": 1.5}}
    Calibration.model_validate(values)
    with pytest.raises(ValueError, match="1 validation error"):
        Calibration.model_validate(values | change)


def test_what_cannot_be_calibrated_is_said_in_one_sentence(videos: Manifest, tmp_path: Path) -> None:
    one_class = read_manifest(class_folders(tmp_path / "one", NAMES[:1]))
    with pytest.raises(ConfigError, match="it has one class"):
        calibrate(tiny_model(), one_class)
    for reject in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="must be between 0 and 1"):
            calibrate(learned(), videos, reject=reject)
    (tmp_path / "gone.csv").write_text("path,label\n" + "".join(f"{name}.mp4,{name}\n" for name in NAMES))
    with pytest.raises(VideoError, match="none of its 3 videos could be read"):
        calibrate(learned(), read_manifest(tmp_path / "gone.csv"))
    broken = learned()
    with torch.no_grad():
        next(iter(broken.trained_parameters().values())).fill_(float("nan"))
    with pytest.raises(M2CLIPError, match="scores are not finite"):
        calibrate(broken, videos)
    assert broken.info.calibration is None


def test_videos_that_are_all_right_leave_the_temperature_at_1(
    videos: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2clip.calibration.fit_temperature", lambda *_, **__: None)
    found = calibrate(learned(), videos)
    assert set(found.calibration.temperatures.values()) == {1.0}
    assert sum("every video is right" in sentence for sentence in found.document["told"]) == 3
    assert "its temperature stays 1" in found.summary()


def test_a_fresh_model_of_the_package_can_hold_a_calibration(tmp_path: Path) -> None:
    model = create("builtin")
    calibration = Calibration(texts_sha256="0" * 64, temperatures={"similarity": 2.0})
    model.info = model.info.model_copy(update={"calibration": calibration})
    assert load(model.save(tmp_path / "model.safetensors")).info.calibration == calibration

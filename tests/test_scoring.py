"""Scores by hand: readings, class embeddings, the mean of probabilities over views."""

import math

import pytest
import torch
import torch.nn.functional as F

from m2clip.data.text.tokenizer import TruncatedText, get_tokenizer
from m2clip.errors import ConfigError
from m2clip.scoring import Prediction, Scores, class_embeddings, fuse_views, mean_of_texts, scores, top_predictions
from tests.small_inputs import tiny_model


def test_the_three_readings_by_hand() -> None:
    # cos = 1 and 0.98 -> logits 100 and 98 -> softmax 1 / (1 + e^-2).
    angle = math.acos(0.98)
    classes = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    read = scores(torch.tensor([[7.0, 0.0]]), classes, torch.tensor([[0.0, math.log(3.0)]]))
    first = 1 / (1 + math.exp(-2))
    assert read.similarity[0].tolist() == pytest.approx([first, 1 - first], abs=1e-4)
    assert read.visual is not None
    assert read.visual[0].tolist() == pytest.approx([0.25, 0.75])
    assert read.ensemble is not None
    assert read.ensemble[0].tolist() == pytest.approx([(first + 0.25) / 2, (1 - first + 0.75) / 2], abs=1e-4)
    assert list(read.readings()) == ["similarity", "visual", "ensemble"]


def test_without_visual_logits_only_similarity_is_read() -> None:
    assert list(scores(torch.ones(2, 3), torch.eye(3)).readings()) == ["similarity"]


def test_views_are_fused_as_probabilities_not_as_logits() -> None:
    logits = torch.tensor([[0.0, 0.0, 10.0], [2.0, 1.0, -10.0], [2.0, 1.0, -10.0]])  # [V, K]
    fused = fuse_views(logits.softmax(-1))
    # By hand: view 1 gives class 2 0.99990920, views 2 and 3 give class 0 0.7310563.
    assert fused.tolist() == pytest.approx([(4.5396e-05 + 2 * 0.7310563) / 3, 0.1793103, 0.3333072], abs=1e-5)
    assert fused.argmax() == 0
    assert fuse_views(logits.softmax(-1).expand(4, 3, 3)).shape == (4, 3)
    assert fuse_views(logits[:1].softmax(-1)).equal(logits[0].softmax(-1))


def test_scores_are_exact_under_autocast() -> None:
    video, classes = torch.randn(4, 24), F.normalize(torch.randn(5, 24), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = scores(video, classes).similarity
    assert torch.equal(inside, scores(video, classes).similarity)


@pytest.mark.case("T4")
def test_a_zero_embedding_gives_finite_scores() -> None:
    assert scores(torch.zeros(1, 3), torch.eye(3)).similarity.tolist() == [pytest.approx([1 / 3] * 3)]


def test_class_embeddings_are_means_of_unit_embeddings() -> None:
    model = tiny_model()
    texts = [["a video of walking"], ["running", "someone runs fast", "a much longer text on running than the others"]]
    embedded = class_embeddings(model, texts)
    assert embedded.shape == (2, 24)
    assert embedded.norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])
    with torch.no_grad():
        unit = [F.normalize(model.encode_text(get_tokenizer()([text])).embedding[0], dim=0) for text in texts[1]]
    assert torch.allclose(embedded[1], F.normalize(torch.stack(unit).mean(0), dim=0), atol=1e-5)


def test_the_mean_of_texts_by_hand() -> None:
    """Class 0 has the directions (1, 0) and (0, 1), whatever their lengths; class 1 has (0, -1)."""
    found = mean_of_texts(torch.tensor([[5.0, 0.0], [0.0, 0.1], [0.0, -2.0]]), [2, 1])
    half = math.sqrt(0.5)
    assert found.flatten().tolist() == pytest.approx([half, half, 0.0, -1.0])


def test_hundreds_of_texts_a_class_in_any_order() -> None:
    model = tiny_model()
    many = [f"someone does number {k}" for k in range(500)]
    forward, backward = (class_embeddings(model, [["one"], texts]) for texts in (many, many[::-1]))
    assert torch.allclose(forward, backward, atol=1e-5)
    assert torch.allclose(forward[1] @ class_embeddings(model, [many[:1]])[0], torch.tensor(1.0), atol=0.2)
    assert not torch.allclose(forward[1], class_embeddings(model, [many[:1]])[0], atol=1e-3)


@pytest.mark.case("E2")
def test_class_embeddings_do_not_depend_on_neighbours_or_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    texts = [[f"class {k}"] for k in range(7)]
    together = class_embeddings(model, texts)
    monkeypatch.setattr("m2clip.scoring.TEXTS_PER_BATCH", 2)
    assert torch.allclose(class_embeddings(model, texts), together, atol=1e-6)
    assert torch.allclose(class_embeddings(model, texts[::-1]), together.flip(0), atol=1e-6)


def test_class_embeddings_leave_the_mode_of_the_model_and_make_no_graph() -> None:
    model = tiny_model().train()
    assert not class_embeddings(model, [["a"]]).requires_grad
    assert model.training


def test_a_class_without_a_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        class_embeddings(tiny_model(), [["a"], []])
    with pytest.raises(ConfigError, match="at least one"):
        class_embeddings(tiny_model(), [])


def test_a_text_that_is_too_long_is_named_and_still_scored() -> None:
    model = tiny_model()
    texts = [["walking"], ["on two legs", "running in circles " * 60]]
    with pytest.warns(TruncatedText, match="running in circles.* of the class 'jogging'"):
        embedded = class_embeddings(model, texts, names=["strolling", "jogging"])
    assert embedded.isfinite().all()


def test_top_predictions_are_ordered_and_stable() -> None:
    best = top_predictions(torch.tensor([0.25, 0.5, 0.25]), ["a", "b", "c"], top=5)
    assert best == [Prediction("b", 0.5), Prediction("a", 0.25), Prediction("c", 0.25)]
    assert len(top_predictions(torch.tensor([0.25, 0.5, 0.25]), ["a", "b", "c"], top=1)) == 1
    with pytest.raises(ConfigError, match="top is 0"):
        top_predictions(torch.tensor([1.0]), ["a"], top=0)


def test_scores_check_their_shapes() -> None:
    with pytest.raises(ValueError, match="come together"):
        Scores(torch.ones(2), visual=torch.ones(2), evidence=torch.ones(2))
    with pytest.raises(ValueError, match="shapes differ"):
        Scores(torch.ones(2), torch.ones(3), torch.ones(3), evidence=torch.ones(2))

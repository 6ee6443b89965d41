"""Losses against values worked out by hand and against their plain forms."""

import math

import pytest
import torch

from m2clip import losses


def test_contrastive_by_hand() -> None:
    """Two samples of two classes, orthogonal unit vectors, scale 1: similarity is the identity matrix.

    Target rows: softmax(10, 0) = (1 / (1 + e^-10), 1 / (1 + e^10)); prediction: softmax(1, 0).
    """
    eye = torch.eye(2)
    t = 1 / (1 + math.exp(-10))
    p = 1 / (1 + math.exp(-1))
    expected = t * math.log(t / p) + (1 - t) * math.log((1 - t) / (1 - p))
    value = losses.contrastive(eye, eye, torch.tensor([0, 1]), logit_scale=torch.tensor(0.0))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_samples_of_one_class_are_positives_of_each_other() -> None:
    video = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
    text = torch.randn(2, 8)[[0, 0, 1, 1]]
    labels = torch.tensor([0, 0, 1, 1])
    swapped = losses.contrastive(video[[1, 0, 2, 3]], text, labels, logit_scale=torch.tensor(2.0))
    torch.testing.assert_close(losses.contrastive(video, text, labels, logit_scale=torch.tensor(2.0)), swapped)


def test_cross_modal_is_cross_entropy_of_scaled_cosines_applied_once() -> None:
    video, text = torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [3.0, 4.0]])  # cosines 1 and 0.6
    expected = math.log(1 + math.exp(60 - 100))
    assert losses.cross_modal(video, text, torch.tensor([0])).item() == pytest.approx(expected, abs=1e-6)
    assert losses.cross_modal(video, text, torch.tensor([1])).item() == pytest.approx(40.0, abs=1e-4)
    # Softmax twice, the reference's fault, can never exceed log(1 + e) for two classes: the gradient is flat.
    double = losses.cross_modal(video, text, torch.tensor([1]), double_softmax=True)
    assert double.item() == pytest.approx(math.log(1 + math.e), abs=1e-5)


def test_mlm_counts_only_masked_positions() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = 3.0
    targets = torch.tensor([[-100, 2, -100]])
    assert losses.mlm(logits, targets).item() == pytest.approx(math.log(3 + math.exp(3)) - 3, abs=1e-6)


def test_mlm_with_nothing_masked_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = losses.mlm(logits, torch.full((2, 3), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_total_is_the_weighted_sum() -> None:
    terms = {"contrastive": torch.tensor(1.0), "cross_modal": torch.tensor(2.0), "visual": torch.tensor(4.0)}
    result = losses.combine({**terms, "mlm": torch.tensor(8.0)})
    assert result.total.item() == pytest.approx(0.5 * 1 + 0.5 * 2 + 4 + 0.1 * 8)
    assert set(result.terms()) == {"contrastive", "cross_modal", "visual", "mlm", "total"}


def test_a_term_of_weight_zero_is_left_out_even_if_it_is_not_finite() -> None:
    terms = {"visual": torch.tensor(2.0), "mlm": torch.tensor(float("nan"))}
    assert losses.combine(terms, {"visual": 1.0, "mlm": 0.0}).total.item() == 2.0


def test_a_wanted_term_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="ask for mlm"):
        losses.combine({"visual": torch.tensor(1.0)}, {"visual": 1.0, "mlm": 0.1})
    with pytest.raises(ValueError, match="no loss term"):
        losses.combine({}, {})


@pytest.mark.case("T4")
def test_zero_features_give_no_nan() -> None:
    """Case T4: normalising a zero vector must not divide by zero."""
    zeros = torch.zeros(2, 4, requires_grad=True)
    loss = losses.contrastive(zeros, torch.randn(2, 4), torch.tensor([0, 1]), logit_scale=torch.tensor(4.6))
    loss = loss + losses.cross_modal(zeros, torch.randn(3, 4), torch.tensor([0, 2]))
    loss.backward()
    assert torch.isfinite(loss)
    assert zeros.grad is not None
    assert torch.isfinite(zeros.grad).all()

"""The expected calibration error by hand and against torchmetrics, and the figure that goes with it."""

import numpy as np
import pytest
import torch

from m2clip.report import measure
from m2clip.report.figures import reliability_figure
from m2clip.report.reliability import calibration_error, reliability


def test_the_error_by_hand() -> None:
    """Three bins of 15: (10/15, 11/15] holds 0.7 twice, (11/15, 12/15] 0.8, (14/15, 1] 1.0 and 0.96."""
    best = np.array([0.7, 0.7, 0.8, 1.0, 0.96])
    right = np.array([True, False, True, True, False])
    bins = reliability(best, right)
    held = {n: one for n, one in enumerate(bins) if one.videos}
    assert {n: one.videos for n, one in held.items()} == {10: 2, 11: 1, 14: 2}
    assert [one.accuracy for one in held.values()] == [0.5, 1.0, 0.5]
    assert [one.confidence for one in held.values()] == pytest.approx([0.7, 0.8, 0.98])
    assert calibration_error(bins) == pytest.approx((2 * 0.2 + 1 * 0.2 + 2 * 0.48) / 5)
    assert (bins[0].low, bins[14].high, bins[3].confidence, bins[3].accuracy) == (0.0, 1.0, None, None)


def test_a_model_that_keeps_its_word_has_no_error() -> None:
    best = np.repeat([0.5, 0.75], [4, 8])
    right = np.array([1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0], bool)
    assert calibration_error(reliability(best, right)) == 0.0


def test_the_edges_of_bins_belong_to_the_bin_below() -> None:
    held = [n for n, one in enumerate(reliability(np.array([0.2, 0.4, 0.6, 1.0]), np.ones(4, bool))) if one.videos]
    assert held == [2, 5, 8, 14]


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_torchmetrics(seed: int) -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    generator = torch.Generator().manual_seed(seed)
    table = (3 * torch.randn(400, 6, generator=generator)).softmax(-1)
    labels = torch.randint(6, (400,), generator=generator)
    ours = measure(table.numpy(), labels.numpy(), list("abcdef"))
    theirs = multiclass_calibration_error(table, labels, num_classes=6, n_bins=15)
    assert ours.ece == pytest.approx(float(theirs), abs=1e-6)
    assert ours.document()["ece"] == ours.ece
    assert sum(row["videos"] for row in ours.document()["reliability"]) == 400


def test_the_figure_is_a_png_also_with_a_bin_alone() -> None:
    measured = measure(np.array([[0.9, 0.1]]), np.array([1]), ["a", "b"])
    assert measured.ece == pytest.approx(0.9)
    assert reliability_figure(measured, "title $x^2").startswith(b"\x89PNG")

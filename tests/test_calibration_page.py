"""The page's figures of calibration are those of the last measurement, and what it compares is told by hand."""

import json
from pathlib import Path

import calibration
import numpy as np
import pytest
import torch

from m2clip.scoring import Scores

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(calibration.RESULT.read_text("utf-8"))
    begin, end = calibration.BEGIN, calibration.END
    assert f"{begin}\n{calibration.table(document)}\n{end}" in calibration.PAGE.read_text("utf-8")


def part(best_logits: list[float]) -> calibration.Part:
    logits = torch.tensor([[value, -50.0] for value in best_logits])
    scores = Scores(logits.softmax(-1), logits.softmax(-1), logits.softmax(-1), evidence=logits)
    return calibration.Part(np.zeros(len(best_logits), int), scores, scores, logits)


def test_detection_by_hand() -> None:
    """Of 40 validation videos with 1 ... 40, 5 % lie below 2.5. Of 2 x 3 pairs of known and other videos, 5 are in order."""
    found = calibration.detection(
        part([float(n) for n in range(1, 41)]), part([2.0, 30.0]), part([1.0, 1.5, 2.2]), "visual_logit"
    )
    assert found["threshold"] == 2.5
    assert found["auroc"] == pytest.approx(5 / 6)
    assert (found["known_rejected"], found["unknown_rejected"]) == (0.5, 1.0)

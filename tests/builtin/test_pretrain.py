import json
import sys

import pytest
import torch

from m2clip.builtin import pretrain
from m2clip.builtin.weights import WEIGHTS


def test_true_pairs_is_lowest_for_the_right_scores_and_ignores_unsure_ones():
    truths = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    right = torch.where(truths, 20.0, 0.0)
    # Two equal captions share the target: the least possible loss of those rows is log 2.
    assert pretrain.true_pairs(right, truths, nothing).item() == pytest.approx(2 / 3 * 0.6931, abs=1e-3)
    assert pretrain.true_pairs(-right, truths, nothing).item() > 5
    unsure = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    wrong = right.clone()
    wrong[:2, 2] = 40.0
    assert pretrain.true_pairs(wrong, truths, unsure).item() == pytest.approx(2 / 3 * 0.6931, abs=1e-3)


def test_last_words_counts_from_the_end_and_stops_at_the_start():
    tokens = torch.tensor([[0, 5, 6, 1, 0], [0, 7, 1, 0, 0]])
    logits = torch.full((2, 3, 9), -20.0)
    for text, word, row in ((0, 0, 6), (0, 1, 5), (1, 0, 7)):
        logits[text, word, row] = 20.0
    assert pretrain.last_words(logits, tokens, torch.tensor([3, 2])).item() == pytest.approx(0.0, abs=1e-6)


def test_normalised_images_have_clips_mean_and_deviation():
    grey = torch.full((1, 3, 2, 2), 0.5)
    assert pretrain.normalised(grey)[0, :, 0, 0].tolist() == pytest.approx([0.069, 0.161, 0.333], abs=2e-3)


def test_evaluate_prints_the_accuracies_of_the_shipped_weights(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pretrain", "--evaluate"])
    monkeypatch.setattr(pretrain, "EVALUATION_SCENES", 50)
    pretrain.main()
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"plain", "distractors", "unknown_ending", "colour", "shape"}
    assert printed["plain"] > 0.8


def test_the_card_holds_the_last_line_of_the_log():
    log = [json.loads(line) for line in WEIGHTS.with_name("pretrain_log.jsonl").read_text().splitlines()]
    card = WEIGHTS.with_name("MODEL_CARD.md").read_text()
    assert f"{log[-1]['minutes']:.0f} minutes" in card
    assert f"{log[-1]['step']} steps" in card
    assert "not the world" in card

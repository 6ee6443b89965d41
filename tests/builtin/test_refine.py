import json
import shutil

import torch

from m2clip.builtin import refine
from m2clip.builtin.trainee import Vocabulary
from m2clip.builtin.weights import WEIGHTS, load_tiny_clip


def test_a_trainee_goes_on_from_the_stored_weights():
    _, state = load_tiny_clip()
    again = refine.load_trainee(WEIGHTS, Vocabulary()).state()
    assert set(again) == set(state)
    for name, value in state.items():
        assert torch.equal(again[name], value), name


def test_only_the_text_tower_changes(tmp_path, monkeypatch):
    shutil.copy(WEIGHTS, tmp_path)
    monkeypatch.setattr(refine, "evaluate", lambda state, **_: {"plain": 1.0})
    refine.refine(tmp_path, steps=2, lr=1e-3, seed=0, log_every=1)
    _, before = load_tiny_clip()
    _, after = load_tiny_clip(tmp_path / WEIGHTS.name)
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"text"}
    lines = [json.loads(line) for line in (tmp_path / "refine_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[-1]["plain"] == 1.0

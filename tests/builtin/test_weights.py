from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from m2clip.builtin.pretrain import SIZES, evaluate
from m2clip.builtin.weights import TABLE_STD, WEIGHTS, initial_table, load_tiny_clip, save_tiny_clip
from m2clip.errors import CheckpointError
from m2clip.model.clip import CLIP


def test_table_has_its_golden_values():
    table = initial_table(49408, 128)
    # splitmix64 seeded with 0 begins with 0xE220A8397B1DCDAF: the first value is (2 * 0.88331... - 1) * 0.02 * sqrt(3).
    first = (2 * (0xE220A8397B1DCDAF >> 11) / 2**53 - 1) * (TABLE_STD * 3**0.5)
    assert table[0, 0].item() == np.float32(first)
    assert table.dtype == torch.float32
    assert [value.hex() for value in table[[0, 1, 320, 49407], [1, 0, 64, 127]].tolist()] == GOLDEN
    assert table.std().item() == pytest.approx(TABLE_STD, rel=1e-3)
    assert table.mean().abs().item() < 1e-4


GOLDEN = ["-0x1.36e5180000000p-8", "0x1.b447160000000p-8", "-0x1.4c44b60000000p-6", "-0x1.8121860000000p-6"]


def test_saved_file_gives_back_trained_rows_and_regenerates_the_rest(tmp_path):
    sizes = {**SIZES, "vision_layers": 1, "text_layers": 1, "vocab_size": 100}
    state = CLIP(**sizes).state_dict()
    table = initial_table(100, 128)
    table[[3, 50]] += 1.0
    state["text.token_embedding.weight"] = table
    path = tmp_path / "tiny.safetensors"
    save_tiny_clip(path, sizes=sizes, state=state, trained_ids=torch.tensor([3, 50]), note={"seed": "0"})
    again, loaded = load_tiny_clip(path)
    assert again == sizes
    assert set(loaded) == set(state)
    untouched = [k for k in range(100) if k not in (3, 50)]
    assert torch.equal(loaded["text.token_embedding.weight"][untouched], table[untouched])
    for name, value in state.items():
        assert torch.allclose(loaded[name], value, rtol=1e-3, atol=1e-6), name
    CLIP(**sizes).load_state_dict(loaded)


def test_other_files_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_tiny_clip(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights at all")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text.safetensors", "other.safetensors"):
        with pytest.raises(CheckpointError, match="is not a tiny CLIP"):
            load_tiny_clip(tmp_path / name)


def test_shipped_file_is_small_and_fits_the_model():
    package = Path(WEIGHTS).parents[1]
    total = sum(
        path.stat().st_size for path in package.rglob("*") if "__pycache__" not in path.parts and path.is_file()
    )
    assert total < 16e6
    sizes, state = load_tiny_clip()
    assert sizes == SIZES
    CLIP(**sizes).load_state_dict(state)
    assert all(value.isfinite().all() for value in state.values())
    # Only captions' words were trained; all other rows are the initial ones.
    stored = load_file(WEIGHTS)["token_embedding.ids"].long()
    rest = torch.ones(int(sizes["vocab_size"]), dtype=torch.bool)
    rest[stored] = False
    assert rest.sum() > 49000
    assert torch.equal(state["text.token_embedding.weight"][rest], initial_table(49408, 128)[rest])


def test_shipped_weights_name_held_out_objects():
    accuracy = evaluate(load_tiny_clip()[1], scenes=200, seed=12345)
    assert accuracy["plain"] >= 0.9
    assert accuracy["distractors"] >= 0.85

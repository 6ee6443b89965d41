"""The strength of the adapters: one model from the frozen CLIP (0) to what it learned (1)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from m2clip import load
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.errors import CheckpointError, ConfigError
from m2clip.model.video_clip import VideoCLIP
from tests.small_inputs import tiny_model

NAMES = ("a red star", "a blue square")


def learned(**options: Any) -> VideoCLIP:
    """A model whose trained tensors are all far from where they start."""
    model = tiny_model(NAMES, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def embeddings(model: VideoCLIP) -> tuple[torch.Tensor, torch.Tensor]:
    clips = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model.encode_video(clips).embedding, model.encode_text(get_tokenizer()(list(NAMES))).embedding


@pytest.mark.parametrize("positions", [("pre_mlp",), ("pre_attention", "pre_mlp")])
def test_strength_0_is_the_frozen_clip_and_1_the_model_to_the_last_bit(positions: tuple[str, ...]) -> None:
    model = learned(ted_positions=positions, text_adapter_layers=2)
    frozen = VideoCLIP(model.clip, info=model.info).eval()
    as_learned = embeddings(model)
    assert not any(torch.equal(a, b) for a, b in zip(as_learned, embeddings(frozen), strict=True))
    model.set_strength(0)
    assert all(torch.equal(a, b) for a, b in zip(embeddings(model), embeddings(frozen), strict=True))
    model.set_strength(1)
    assert all(torch.equal(a, b) for a, b in zip(embeddings(model), as_learned, strict=True))


def test_between_0_and_1_embeddings_move_in_small_steps() -> None:
    model = learned()
    seen = []
    for step in range(101):
        model.set_strength(step / 100)
        seen.append(embeddings(model))
    for place in (0, 1):
        curve = torch.stack([pair[place] for pair in seen])
        whole = (curve[-1] - curve[0]).norm()
        steps = (curve[1:] - curve[:-1]).flatten(1).norm(dim=1)
        assert steps.min() > 0
        assert steps.max() < 0.05 * whole


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_strength_outside_is_refused_in_words(strength: float) -> None:
    with pytest.raises(ConfigError, match="must be between 0"):
        tiny_model(NAMES).set_strength(strength)


def test_a_model_without_adapters_has_no_strength() -> None:
    frozen = tiny_model(NAMES, method="frozen")
    frozen.set_strength(1)
    with pytest.raises(ConfigError, match="the method frozen has no adapters to weaken"):
        frozen.set_strength(0.5)


def test_a_checkpoint_carries_its_strength_and_all_that_was_learned(tmp_path: Path) -> None:
    model = learned()
    full = embeddings(model)
    model.set_strength(0.25)  # what is set for now is not written
    assert load(model.save(tmp_path / "model.safetensors")).strength == 1
    quarter = embeddings(model)
    model.info = model.info.model_copy(update={"strength": 0.25})
    again = load(model.save(tmp_path / "weak.safetensors"))
    assert again.strength == 0.25
    assert all(torch.equal(a, b) for a, b in zip(embeddings(again), quarter, strict=True))
    again.set_strength(1)
    assert all(torch.equal(a, b) for a, b in zip(embeddings(again), full, strict=True))


def test_a_header_that_weakens_what_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tiny_model(NAMES, method="frozen").save(tmp_path / "frozen.safetensors")
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert '"strength":1.0' in header["info"]
    header["info"] = header["info"].replace('"strength":1.0', '"strength":0.5')
    save_file(load_file(path), path, header)
    with pytest.raises(CheckpointError, match=r"frozen\.safetensors: a model of the method frozen has no adapters"):
        load(path)

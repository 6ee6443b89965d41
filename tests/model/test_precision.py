"""Weights stored in bfloat16: what changes, what must not, and what can no longer be done."""

from pathlib import Path

import pytest
import torch

from m2clip import CheckpointError, create, load
from m2clip.config import BackboneConfig
from m2clip.model.clip import QuickGELU, SiLU
from m2clip.model.methods import METHODS as METHODS_BY_NAME
from m2clip.model.precision import lower, lower_frozen, native_bf16
from m2clip.model.video_clip import VideoCLIP

SIZES = BackboneConfig(
    image_size=32, patch_size=8, vision_width=64, vision_layers=3, vision_heads=2,
    embed_dim=48, text_width=32, text_layers=2, text_heads=2,
)  # fmt: skip
METHODS = sorted(METHODS_BY_NAME)


def model_of(method: str = "m2clip", **options: object) -> VideoCLIP:
    torch.manual_seed(0)
    model = create(SIZES, class_names=("run", "jump"), method=method, frames=4, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize("method", METHODS)
def test_a_lowered_model_takes_and_gives_float32_and_is_close(method: str) -> None:
    model = model_of(method)
    clips = torch.randn(3, 4, 3, 32, 32)
    tokens = torch.tensor([[49406, 320, 49407], [49406, 1000, 49407]])
    with torch.inference_mode():
        before, text = model.encode_video(clips), model.encode_text(tokens).embedding
        lower(model)
        after = model.encode_video(clips)
        assert torch.equal(model.encode_text(tokens).embedding, text)  # texts are encoded once: nothing is gained there
    assert after.embedding.dtype == after.frames.dtype == torch.float32
    assert not torch.equal(after.embedding, before.embedding)
    # Three blocks of weights and numbers with 8 bits of precision each.
    assert cosine(after.frames, before.frames) > 0.9995
    torch.testing.assert_close(after.frames, before.frames, rtol=0, atol=0.05 * float(before.frames.abs().max()))


@pytest.mark.parametrize("quick", [True, False])
def test_the_activation_is_folded_where_it_can_be(quick: bool) -> None:
    model = model_of(quick_gelu=quick)
    block = model.clip.visual.blocks[0]
    x = torch.randn(2, 5, 64)
    with torch.no_grad():
        expected = block.feed_forward(x)
        block.mlp.fold()
        torch.testing.assert_close(block.feed_forward(x), expected, rtol=1e-5, atol=1e-5)
        kind = type(block.mlp[1])
        block.mlp.fold()  # a second time changes nothing
        torch.testing.assert_close(block.feed_forward(x), expected, rtol=1e-5, atol=1e-5)
    assert (kind is SiLU) == quick
    assert not any(isinstance(module, QuickGELU) for module in block.modules())


def test_frozen_weights_alone_are_lowered_for_training() -> None:
    model = model_of()
    trained = {name: parameter.clone() for name, parameter in model.trained_parameters().items()}
    lower_frozen(model)
    for name, parameter in model.trained_parameters().items():
        assert parameter.requires_grad
        assert torch.equal(parameter, trained[name])
    blocks = [*model.clip.visual.blocks, *model.clip.text.blocks, model.masked_block]
    for block in blocks:
        assert block.attention.qkv.weight.dtype == block.mlp[0].weight.dtype == torch.bfloat16
        assert block.ln_1.weight.dtype == torch.float32
    tuned = model_of("full")
    lower_frozen(tuned)
    assert {parameter.dtype for parameter in tuned.parameters()} == {torch.float32}


def test_gradients_with_lowered_frozen_weights_are_those_of_autocast() -> None:
    clips = torch.randn(2, 4, 3, 32, 32)
    gradients = []
    for lowered in (None, False, True):
        model = model_of()
        if lowered:
            lower_frozen(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered is not None):
            features = model.encode_video(clips)
            (features.embedding.float().square().sum() + features.visual_logits.float().square().sum()).backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.vision_adapters.parameters() if p.grad is not None])
        )
    exact, autocast, stored = gradients
    assert cosine(autocast, exact) > 0.995
    assert cosine(stored, exact) > 0.995


def test_what_was_rounded_is_not_saved(tmp_path: Path) -> None:
    model = create("builtin", class_names=("run", "jump"))
    lower_frozen(model)
    with pytest.raises(CheckpointError, match="rounded for speed; save it before"):
        model.save(tmp_path / "a.safetensors", with_backbone=True)
    model.save(tmp_path / "b.safetensors")
    model = model_of()
    lower(model)
    with pytest.raises(CheckpointError, match="rounded for speed"):
        model.save(tmp_path / "c.safetensors", with_backbone=False)
    assert {file.name for file in tmp_path.iterdir()} == {"b.safetensors"}


def test_random_weights_that_were_rounded_are_the_models_own(tmp_path: Path) -> None:
    """No file holds them, so nothing is lost: a checkpoint brings back the very weights that training stood on."""
    model = model_of()
    lower_frozen(model)
    again = load(model.save(tmp_path / "a.safetensors"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.float())
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(again.encode_video(clips).frames, model.encode_video(clips).frames)


def test_native_bf16_asks_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=answer: answer)
        assert native_bf16(torch.device("cpu")) == answer
    assert not native_bf16(torch.device("meta"))

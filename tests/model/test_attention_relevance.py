"""Maps of what a number rests on, against attention written out with autograd; and that a model is only read."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.errors import ConfigError
from m2clip.model.attention_relevance import relevance, trace
from m2clip.model.precision import lower
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from tests.model.rivals.plain_clip import model_of as rival
from tests.small_inputs import tiny_model

BOTH = {"ted_positions": ("pre_attention", "pre_mlp")}


def learned(seed: int = 3, **options: Any) -> Any:
    """A tiny model whose adapters do something."""
    model = tiny_model(("a", "b"), **options).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def clips(batch: int = 2, frames: int = 3, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def first(features: VideoFeatures) -> Tensor:
    """A number of each clip that its whole embedding decides."""
    return F.normalize(features.embedding, dim=-1)[:, 0] * 30


def written_out(model: Any, pixels: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The definition: every token of every block, every attention weight in the graph, R as whole matrices.

    -> the class token's row of R over the patches [B, T, 4], the attention weights, and what each difference branch adds beyond its
    biases [B, T, 4].
    """
    tower, adapters = model.clip.visual, model.vision_adapters
    batch, frames = pixels.shape[:2]
    x, grid = tower.embed(pixels.flatten(0, 1))
    attentions, differences = [], []

    def adapt(x: Tensor, table: nn.ModuleDict, layer: int) -> Tensor:
        if str(layer) not in table:
            return x
        adapter, tokens = table[str(layer)], x.unflatten(0, (batch, frames))
        branch = copy.deepcopy(adapter.difference)
        for part in (branch.down, branch.convolution, branch.up):
            part.bias = None if isinstance(part, nn.Linear) else nn.Parameter(torch.zeros_like(part.bias))
        moved = torch.cat([torch.zeros_like(tokens[:, :1]), tokens.diff(dim=1)], dim=1)[:, :, 1:]
        hidden = branch.convolution(branch.down(moved).unflatten(2, grid).flatten(0, 1)).flatten(1, 2)
        differences.append(adapter.strength * branch.up(hidden.unflatten(0, (batch, frames))).norm(dim=-1).detach())
        return adapter(tokens, grid).flatten(0, 1)

    for layer, block in enumerate(tower.blocks):
        x = adapt(x, adapters.pre_attention, layer)
        query, key, value = (
            part.unflatten(-1, (2, 16)).transpose(1, 2) for part in block.attention.qkv(block.ln_1(x)).chunk(3, dim=-1)
        )
        weights = (query @ key.mT / 4).softmax(-1).requires_grad_()  # [B*T, heads, N, N]; heads of 16 channels
        attentions.append(weights)
        x = x + block.attention.out((weights @ value).transpose(1, 2).flatten(2))
        x = block.feed_forward(adapt(x, adapters.pre_mlp, layer))
    differences.pop()  # nothing reads the patches behind the last attention
    frame_embeddings = (tower.ln_post(x[:, 0]) @ tower.projection).unflatten(0, (batch, frames))
    if adapters.output_temporal is not None:
        frame_embeddings = adapters.output_temporal(frame_embeddings)
    target = first(VideoFeatures(frame_embeddings.mean(1), frame_embeddings, None)).sum()
    gradients = torch.autograd.grad(target, attentions)
    whole = torch.eye(5).expand(batch * frames, 5, 5)
    for weights, gradient in zip(attentions, gradients, strict=True):
        whole = whole + (weights * gradient).clamp_min(0).mean(1) @ whole
    return whole[:, 0, 1:].unflatten(0, (batch, frames)).detach(), [w.detach() for w in attentions], differences


@pytest.mark.parametrize("options", [{}, BOTH], ids=["pre_mlp", "both"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("frames", [1, 3])
def test_maps_are_those_of_the_definition(options: dict[str, Any], strength: float, frames: int) -> None:
    model = learned(**options)
    model.set_strength(strength)
    pixels = clips(frames=frames)
    found = relevance(model, pixels, first)
    plain, _, differences = written_out(model, pixels)
    assert found.patches.shape == (2, frames, 2, 2)
    assert plain.max() > 1e-3
    torch.testing.assert_close(found.patches.flatten(2), plain, rtol=1e-4, atol=1e-6)
    assert found.change is not None
    torch.testing.assert_close(found.change.flatten(2), torch.stack(differences).sum(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.change[:, 0], torch.zeros(2, 2, 2))
    assert (found.change[:, 1:] > 0).all() if strength else found.change.max() == 0
    with torch.inference_mode():
        torch.testing.assert_close(found.features.embedding, model.encode_video(pixels).embedding)


def test_attention_weights_are_those_that_the_kernels_use() -> None:
    model, pixels = learned(), clips()
    _, weights, _ = written_out(model, pixels)
    *before, last = trace(model, pixels, first).attended
    for one, plain in zip(before, weights[:-1], strict=True):
        torch.testing.assert_close(one.weights_and_gradient()[0], plain)
    torch.testing.assert_close(last.weights_and_gradient()[0], weights[-1][:, :, :1])  # only the class token asks


def test_a_still_picture_has_no_change_but_for_the_ends_of_the_clip() -> None:
    """The biases answer to no change as well, and are left out. Zero padding in time makes the frames at the ends others than those
    in the middle, a frame more with each enhancement, which difference branches behind it see."""
    still = clips(1, 1).expand(-1, 9, -1, -1, -1)
    first_only, later_too = (relevance(learned(**options), still, first).change for options in ({}, BOTH))
    assert first_only is not None
    assert first_only.max() == 0
    assert later_too is not None
    assert later_too[:, 8].min() > 0.01
    assert later_too[:, 3:7].max() < 1e-4  # the last branch that counts stands behind two enhancements


def test_the_model_is_left_as_it_was() -> None:
    model, pixels = learned().train(), clips()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with torch.inference_mode():
        before = model.eval().encode_video(pixels).embedding.clone()
    model.train()
    model.recompute_blocks = True
    relevance(model, pixels, first)
    assert model.training
    assert model.recompute_blocks
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    assert not any(getattr(module, kind) for module in model.modules() for kind in hooks)
    with torch.inference_mode():
        assert torch.equal(model.eval().encode_video(pixels).embedding, before)


def test_the_model_may_be_in_use_meanwhile() -> None:
    """The same map, though the model encodes another clip between the way there and the way back."""
    model, pixels = learned(), clips()
    alone = relevance(model, pixels, first).patches

    def busy(features: VideoFeatures) -> Tensor:
        with torch.inference_mode():
            model.encode_video(clips(seed=9))
        return first(features)

    assert torch.equal(relevance(model, pixels, busy).patches, alone)


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_gradients_that_are_switched_off_outside_do_not_matter(switched_off: Any) -> None:
    model = learned()
    usual = relevance(model, clips(), first).patches
    with switched_off():
        pixels = clips()
        assert torch.equal(relevance(model, pixels, first).patches, usual)


def test_each_clip_of_a_batch_has_its_own_map() -> None:
    model, pixels = learned(), clips(3)
    together = relevance(model, pixels, first).patches
    for k in range(3):
        torch.testing.assert_close(relevance(model, pixels[k : k + 1], first).patches[0], together[k])


def test_rounded_weights_give_nearly_the_same_map_and_stay_rounded() -> None:
    model, pixels = learned(), clips()
    exact = relevance(model, pixels, first)
    lower(model)
    dtypes = [parameter.dtype for parameter in model.parameters()]
    rounded = relevance(model, pixels, first)
    assert rounded.patches.dtype == torch.float32
    assert (rounded.patches - exact.patches).abs().max() < 0.1 * exact.patches.max()
    assert not torch.equal(rounded.patches, exact.patches)
    assert [parameter.dtype for parameter in model.parameters()] == dtypes
    assert torch.bfloat16 in dtypes


@pytest.mark.parametrize("method", ["frozen", "linear-probe", "full", "st-adapter", "text-prompts"])
def test_methods_without_difference_branches_have_maps_of_what_they_are(method: str) -> None:
    model = rival(method)
    pixels = clips(frames=4)
    found = relevance(model, pixels, first)
    assert found.change is None
    assert found.patches.min() >= 0
    assert found.patches.max() > 0
    with torch.inference_mode():
        torch.testing.assert_close(found.features.embedding, model.encode_video(pixels).embedding)


@pytest.mark.parametrize("method", ["full", "st-adapter", "m2clip"])
def test_strength_0_is_the_map_of_the_frozen_clip(method: str) -> None:
    model = rival(method)
    plain = relevance(VideoCLIP(model.clip, info=model.info).eval(), clips(), first).patches
    assert not torch.allclose(relevance(model, clips(), first).patches, plain, rtol=0.1)
    model.set_strength(0.0)
    torch.testing.assert_close(relevance(model, clips(), first).patches, plain)


def test_half_a_tuned_model_is_explained_with_the_weights_between() -> None:
    model, between = rival("full"), rival("full")
    with torch.no_grad():
        for tuned, frozen in zip(between.tuned.parameters(), between.clip.parameters(), strict=True):
            tuned.lerp_(frozen, 0.5)
    model.set_strength(0.5)
    torch.testing.assert_close(
        relevance(model, clips(), first).patches, relevance(between, clips(), first).patches, rtol=1e-4, atol=1e-6
    )


def test_attention_over_time_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match="method aim attention runs over time"):
        relevance(rival("aim"), clips(), first)

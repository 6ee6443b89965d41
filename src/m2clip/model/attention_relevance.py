"""Which patches of which frames a number that is read off a clip rests on: gradient-weighted attention.

Chefer, Gur and Wolf, "Generic Attention-model Explainability" (ICCV 2021, arXiv 2103.15679), eq. 5 and 6 for self-attention. Of
block l with attention weights A_l [heads, N, N] and their gradients G_l:

    R <- (I + mean over heads of max(G_l * A_l, 0)) R        from R = I, block after block

and the class token's row of the last R says how much of each patch token went into what is read, weighed by how it counts.
Frames are mixed by adapters only, between the blocks: through these the gradients flow, while R follows a token's place.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.errors import ConfigError
from m2clip.model.adapters import TEDAdapter
from m2clip.model.clip import Attention, Block
from m2clip.model.video_clip import VideoCLIP, VideoFeatures


@dataclass(frozen=True)
class Relevance:
    """Of B clips of T frames of h * w patches."""

    patches: Tensor
    """float32 [B, T, h, w], 0 or more: how much the number rests on each patch. The scale is the number's own."""
    change: Tensor | None
    """float32 [B, T, h, w]: the norm of what the difference branches answer to the change since the frame before, added up over
    the layers; None for a model without them. It is a size, not an importance, and of no label."""
    features: VideoFeatures
    """What the model makes of the clips."""


@dataclass
class Attended:
    """One call of an attention, in which tokens [B, N, C] ask tokens [B, M, C]; B counts frames, N is 1 in the last block."""

    queries: Tensor
    memory: Tensor
    weight: Tensor
    bias: Tensor
    heads: int
    mixed: Tensor = field(init=False)
    """The heads' outputs side by side, [B, N, C] or [B, C]."""
    gradient: Tensor = field(init=False)
    """Of `mixed`."""

    def weights_and_gradient(self) -> tuple[Tensor, Tensor]:
        """The attention weights [B, heads, N, M] and their gradient.

        The kernels that are in use never hold the weights: they are computed here again, and of A V the gradient by A is (that of the
        product) V^T.
        """
        width = self.queries.shape[-1]
        query = F.linear(self.queries, self.weight[:width], self.bias[:width])
        key, value = F.linear(self.memory, self.weight[width:], self.bias[width:]).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
        return weights, self.gradient.reshape_as(self.queries).unflatten(-1, (self.heads, -1)).transpose(
            1, 2
        ) @ value.mT


@dataclass(frozen=True)
class Trace:
    """What was seen on the way of clips through a model and back."""

    attended: list[Attended]
    """Block after block."""
    change: list[Tensor]
    """[B, T, h*w] of each difference branch."""
    features: VideoFeatures


def relevance(model: VideoCLIP, clips: Tensor, target: Callable[[VideoFeatures], Tensor]) -> Relevance:
    """Clips [B, T, 3, H, W] (normalised) and a number of each, `target`(features) [B] -> what the numbers rest on.

    The model is only read; see `trace`, also for errors.
    """
    traced = trace(model, clips, target)
    size = model.clip.visual.patch_size
    grid = (len(clips), clips.shape[1], clips.shape[3] // size, clips.shape[4] // size)
    with torch.no_grad():
        patches = _class_row(traced.attended)[:, 1:].reshape(grid)
        change = torch.stack(traced.change).sum(0).reshape(grid) if traced.change else None
    return Relevance(patches, change, traced.features)


def trace(model: VideoCLIP, clips: Tensor, target: Callable[[VideoFeatures], Tensor]) -> Trace:
    """Clips [B, T, 3, H, W] (normalised) through the model and a number of each, `target`(features) [B], back to the attentions.

    The way goes through a copy of the model that shares its weights, so nothing is left behind in the model, and it may be in
    use meanwhile. Rounded weights are computed with in float32.

    Raises ConfigError for a method in which attention runs over time, too.
    """
    if model.frame_adapters() is None:
        raise ConfigError(
            f"in a model of the method {model.info.method} attention runs over time as well as over patches, so no map can be "
            "drawn; take another method"
        )
    model = _beside(model)
    seen = _Seen()
    seen.watch(model)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(clips.device.type, enabled=False):
        features = model.encode_video(clips.detach().clone().requires_grad_())
        gradients = torch.autograd.grad(target(features).sum(), [one.mixed for one in seen.attended])
    for one, gradient in zip(seen.attended, gradients, strict=True):
        one.gradient, one.mixed = gradient, one.mixed.detach()  # the graph is not needed any more
    logits = features.visual_logits
    detached = VideoFeatures(
        features.embedding.detach(), features.frames.detach(), None if logits is None else logits.detach()
    )
    return Trace(seen.attended, seen.change, detached)


def _beside(model: VideoCLIP) -> VideoCLIP:
    """A copy of the model's structure around the very same weights; those in bfloat16 as float32."""
    tensors = (*model.parameters(), *model.buffers())
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors if tensor.dtype == torch.float32}
    shared[id(model.compiled)] = model.compiled
    other = copy.deepcopy(model, shared).eval()
    for parameter in other.parameters():
        if parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    other.recompute_blocks = False  # what runs twice would be seen twice
    return other


class _Seen:
    """What passes through a model's attentions and difference branches."""

    def __init__(self) -> None:
        self.attended: list[Attended] = []
        self.change: list[Tensor] = []

    def watch(self, model: VideoCLIP) -> None:
        """For good: the model is a copy."""
        for tower in model.image_towers():
            for block in cast(Iterable[Block], tower.blocks):
                block.attention.register_forward_pre_hook(self._asked)
                block.attention.out.register_forward_pre_hook(self._answered)
        for part in model.block_adapters():
            for module in part.modules():
                if isinstance(module, TEDAdapter) and module.difference is not None:
                    module.register_forward_pre_hook(self._changed)

    def _asked(self, attention: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
        assert isinstance(attention, Attention)
        queries, memory = inputs
        memory = queries if memory is None else memory  # without a memory the tokens ask each other
        self.attended.append(
            Attended(queries.detach(), memory.detach(), attention.qkv.weight, attention.qkv.bias, attention.heads)
        )

    def _answered(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self.attended[-1].mixed = inputs[0]

    def _changed(self, adapter: nn.Module, inputs: tuple[Tensor, tuple[int, int]]) -> None:
        assert isinstance(adapter, TEDAdapter)
        assert adapter.difference is not None
        tokens, grid = inputs
        with torch.no_grad():
            answer = adapter.weakened(adapter.difference(tokens[:, :, 1:], grid))
            # Frame 0 has no change, so its answer is that of the biases alone; the branch is affine, so the rest is due to change.
            self.change.append((answer - answer[:, :1]).norm(dim=-1))  # [B, T, h*w]


def _class_row(attended: list[Attended]) -> Tensor:
    """The class token's row of R, [B*T, N]: built from the last block down, where a row is all that has to be kept."""
    row: Tensor | None = None
    for one in reversed(attended):
        weights, gradient = one.weights_and_gradient()
        weighed = (weights * gradient).clamp_min(0).mean(1)  # [B*T, N, M]
        if row is None:
            start = torch.zeros(len(weighed), dtype=torch.int64, device=weighed.device)
            row = F.one_hot(start, weighed.shape[-1]).to(weighed) + weighed[:, 0]
        else:
            row = row + (row[:, None] @ weighed)[:, 0]
    assert row is not None
    return row

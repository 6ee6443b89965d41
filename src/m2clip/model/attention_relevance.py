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


def relevance(model: VideoCLIP, clips: Tensor, target: Callable[[VideoFeatures], Tensor]) -> Relevance:
    """Clips [B, T, 3, H, W] (normalised) and a number of each, `target`(features) [B] -> what the numbers rest on.

    `model` is only read: the gradients run through a copy that shares its weights, so nothing is left behind in it and it may
    be in use meanwhile. Rounded weights are computed with in float32.

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
    device = clips.device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        features = model.encode_video(clips.detach().clone().requires_grad_())
        gradients = torch.autograd.grad(target(features).sum(), [one.mixed for one in seen.attended])
    size = model.clip.visual.patch_size
    grid = (len(clips), clips.shape[1], clips.shape[3] // size, clips.shape[4] // size)
    with torch.no_grad():
        patches = _class_row(seen.attended, gradients)[:, 1:].reshape(grid)
        change = torch.stack(seen.change).sum(0).reshape(grid) if seen.change else None
    detached = VideoFeatures(
        features.embedding.detach(),
        features.frames.detach(),
        None if features.visual_logits is None else features.visual_logits.detach(),
    )
    return Relevance(patches, change, detached)


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


@dataclass
class _Attended:
    """One call of an attention: [B, N, C] asks [B, M, C]."""

    queries: Tensor
    memory: Tensor
    weight: Tensor
    bias: Tensor
    heads: int
    mixed: Tensor = field(init=False)
    """The heads' outputs side by side, [B, N, C] or [B, C], in the graph."""

    def weights(self) -> tuple[Tensor, Tensor]:
        """The attention weights [B, heads, N, M] and the values [B, heads, M, d]."""
        width = self.queries.shape[-1]
        query = F.linear(self.queries, self.weight[:width], self.bias[:width])
        key, value = F.linear(self.memory, self.weight[width:], self.bias[width:]).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        return (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1), value


class _Seen:
    """What passes through a model's attentions and difference branches. The kernels that never hold the attention weights stay in
    use: the weights are computed again beside them, and d/dA = (d/d mixed) V^T gives their gradient."""

    def __init__(self) -> None:
        self.attended: list[_Attended] = []
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
            _Attended(queries.detach(), memory.detach(), attention.qkv.weight, attention.qkv.bias, attention.heads)
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


def _class_row(attended: list[_Attended], gradients: tuple[Tensor, ...]) -> Tensor:
    """The class token's row of R, [B*T, N]: built from the last block down, where a row is all that has to be kept."""
    row: Tensor | None = None
    for one, gradient in zip(reversed(attended), reversed(gradients), strict=True):
        weights, values = one.weights()
        by_head = gradient.reshape(len(weights), -1, one.heads, values.shape[-1]).transpose(1, 2)  # [B*T, heads, N, d]
        weighed = (weights * (by_head @ values.transpose(-1, -2))).clamp_min(0).mean(1)  # [B*T, N, M]
        if row is None:
            row = F.one_hot(torch.zeros(len(weighed), dtype=torch.int64), weighed.shape[-1]).to(weighed)
            row = row + weighed[:, 0]
        else:
            row = row + (row[:, None] @ weighed)[:, 0]
    assert row is not None
    return row

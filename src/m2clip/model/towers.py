"""CLIP's towers with adapters between the halves of their blocks: frames and texts -> features (SPEC: vision tower, text tower)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from m2clip.model.adapters import TEDAdapter, TextAdapter
from m2clip.model.clip import Block, TextTower, VisionTower


class VisionAdapters(nn.Module):
    """The trained parts of the image tower, keyed by the index of the block they sit in.

    An adapter takes tokens [B, T, N, C] and their grid (h, w); one before the MLP of the last block is a `TEDAdapter`, or has
    its `class_tokens`.
    """

    def __init__(
        self,
        *,
        pre_attention: Mapping[int, nn.Module],
        pre_mlp: Mapping[int, nn.Module],
        output_temporal: nn.Module | None,
    ) -> None:
        super().__init__()
        self.pre_attention = nn.ModuleDict({str(layer): adapter for layer, adapter in pre_attention.items()})
        self.pre_mlp = nn.ModuleDict({str(layer): adapter for layer, adapter in pre_mlp.items()})
        self.output_temporal = output_temporal


class TextAdapters(nn.Module):
    """The trained parts of the text tower: one adapter before the MLP of each listed block."""

    def __init__(self, pre_mlp: Mapping[int, TextAdapter]) -> None:
        super().__init__()
        self.pre_mlp = nn.ModuleDict({str(layer): adapter for layer, adapter in pre_mlp.items()})


NO_VISION_ADAPTERS = VisionAdapters(pre_attention={}, pre_mlp={}, output_temporal=None)
NO_TEXT_ADAPTERS = TextAdapters({})


def encode_frames(
    tower: VisionTower, adapters: VisionAdapters, clips: Tensor, *, recompute: bool = False
) -> tuple[Tensor, Tensor]:
    """Clips [B, T, 3, H, W] (normalised) -> frame embeddings [B, T, D] and the last block's class tokens [B, T, C].

    T is read from the input: any number of frames works. `recompute`: for gradients only the input of each block is kept, and
    the block runs again on the way back.
    """
    batch, frames = clips.shape[:2]
    x, grid = tower.embed(clips.flatten(0, 1))  # [B*T, N, C]

    def adapt(x: Tensor, table: nn.ModuleDict, layer: int) -> Tensor:
        nonlocal frames
        if str(layer) not in table:
            return x
        adapted = table[str(layer)](x.unflatten(0, (batch, frames)), grid)
        # In a stream (`model.frame_stream`) an adapter gives those frames whose neighbours have come.
        frames = adapted.shape[1]
        return adapted.flatten(0, 1)

    def run(block: Block, x: Tensor, layer: int) -> Tensor:
        x = block.attend(adapt(x, adapters.pre_attention, layer))
        return block.feed_forward(adapt(x, adapters.pre_mlp, layer))

    recompute = recompute and torch.is_grad_enabled()
    *blocks, last = cast(Iterable[Block], tower.blocks)
    for layer, block in enumerate(blocks):
        x = checkpoint(run, block, x, layer, use_reentrant=False) if recompute else run(block, x, layer)
    # Behind the last attention only class tokens are read, so there only they are computed: the same numbers for less.
    x = adapt(x, adapters.pre_attention, len(blocks))
    x = last.attend(x[:, :1], x)
    if str(len(blocks)) in adapters.pre_mlp:
        adapter = cast(TEDAdapter, adapters.pre_mlp[str(len(blocks))])
        adapted = adapter.class_tokens(x.unflatten(0, (batch, frames)))
        frames, x = adapted.shape[1], adapted.flatten(0, 1)
    # A few tokens are left: where the blocks' weights are in bfloat16 (`precision.lower`), the end is not.
    class_tokens = last.feed_forward(x)[:, 0].to(tower.projection.dtype)
    embeddings = (tower.ln_post(class_tokens) @ tower.projection).unflatten(0, (batch, frames))
    if adapters.output_temporal is not None:
        embeddings = adapters.output_temporal(embeddings)
    return embeddings, class_tokens.unflatten(0, (batch, frames))


class PreparedTexts(NamedTuple):
    """K texts as far as nothing trained touches them, to be finished as often as the trained part changes."""

    hidden: Tensor | None
    """[K, L, C]; [K, 1, C] where only the end tokens go on; [K, D] where nothing is trained; None where everything may be."""
    tokens: Tensor
    """[K, L]: token ids."""


def prepare_words(tower: TextTower, adapters: TextAdapters, tokens: Tensor) -> PreparedTexts:
    """Token ids [K, L] -> their hidden states in front of the first adapter. `finish_words` goes on.

    The attention of a block stands in front of its adapter. Behind the last attention tokens do not meet any more, so there only
    the end tokens go on.
    """
    with torch.no_grad():
        return PreparedTexts(torch.cat([_frozen(tower, adapters, part) for part in tokens.split(128)]), tokens)


def _frozen(tower: TextTower, adapters: TextAdapters, tokens: Tensor) -> Tensor:
    x = tower.embed(tokens)
    for layer, block in enumerate(cast(Iterable[Block], tower.blocks)):
        x = block.attend(x)
        if str(layer) in adapters.pre_mlp:
            return tower.end_tokens(x, tokens)[:, None] if layer == len(tower.blocks) - 1 else x
        x = block.feed_forward(x)
    return tower.read(x, tokens)


def finish_words(tower: TextTower, adapters: TextAdapters, prepared: PreparedTexts) -> Tensor:
    """What `prepare_words` gave -> embeddings [K, D], those that `encode_words` gives."""
    x, tokens = prepared
    assert x is not None
    if x.ndim == 2:
        return x
    if x.shape[1] == 1:
        tokens = tokens.new_zeros(len(tokens), 1)  # the one token of a row is its end
    return tower.read(_onward(tower, adapters, x, attended=min(map(int, adapters.pre_mlp))), tokens)


def _onward(tower: TextTower, adapters: TextAdapters, x: Tensor, *, attended: int | None = None) -> Tensor:
    """Hidden states [K, L, C] through the blocks: all of them, or from behind the attention of the block `attended` on."""
    for layer, block in enumerate(cast(Iterable[Block], tower.blocks)):
        if attended is None or layer > attended:
            x = block.attend(x)
        elif layer < attended:
            continue
        if str(layer) in adapters.pre_mlp:
            x = adapters.pre_mlp[str(layer)](x)
        x = block.feed_forward(x)
    return x


def encode_words(tower: TextTower, adapters: TextAdapters, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids [K, L] -> embeddings [K, D] and the hidden states [K, L, C] after the last block, before the final LayerNorm.

    Attention is causal, so columns behind the longest text may be cut off beforehand: the result is exactly the same.
    """
    x = _onward(tower, adapters, tower.embed(tokens))
    return tower.read(x, tokens), x

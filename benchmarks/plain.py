"""M2-CLIP in its plain form: obviously right, and slow. Exact shortcuts are tested against it, and speed is measured against it.

Functions of a model, written from docs/method.md: queries, keys and values by a matrix product each, softmax written out, the
temporal convolution as `conv1d` over the frames of each token, the spatial one as `conv2d` over the map of each frame, every token
through every block, every text at its full length, the texts of the batch encoded on their own, nothing kept from call to call.
Only a model's record and its tensors are read, by the names that checkpoints give them; gradients arrive at the model's own
parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.data.text.prompts import NOT_A_TARGET, Masker
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.info import ModelInfo
from m2clip.model.m2clip import M2CLIP
from m2clip.model.video_clip import TextFeatures, VideoFeatures

Weights = Mapping[str, Tensor]


def weights_of(model: M2CLIP) -> dict[str, Tensor]:
    """The tensors of a model by name: its very parameters. ValueError for a model that `model.precision` has changed for speed."""
    if model.rounded != "nothing":
        raise ValueError(
            "this model's weights were rounded and folded for speed; the plain form takes it as it was before"
        )
    return model.state_dict(keep_vars=True)


def part(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without these."""
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in weights.items() if name.startswith(f"{prefix}.")
    }


def linear(x: Tensor, weights: Weights) -> Tensor:
    """[..., I] -> [..., O]."""
    return x @ weights["weight"].T + weights["bias"]


def layer_norm(x: Tensor, weights: Weights, *, eps: float = 1e-5) -> Tensor:
    """Over the last dimension."""
    return F.layer_norm(x, x.shape[-1:], weights["weight"], weights["bias"], eps)


def attention(x: Tensor, memory: Tensor, weights: Weights, *, heads: int, causal: bool) -> Tensor:
    """Queries of x [B, N, C], keys and values of memory [B, M, C] -> [B, N, C]."""
    wq, wk, wv = weights["qkv.weight"].chunk(3)
    bq, bk, bv = weights["qkv.bias"].chunk(3)

    def by_head(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (heads, -1)).permute(0, 2, 1, 3)  # [B, heads, N, C / heads]

    query, key, value = by_head(x @ wq.T + bq), by_head(memory @ wk.T + bk), by_head(memory @ wv.T + bv)
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    mixed = scores.softmax(dim=-1) @ value
    return linear(mixed.permute(0, 2, 1, 3).flatten(2), part(weights, "out"))


def attend(x: Tensor, weights: Weights, *, heads: int, causal: bool = False, memory: Tensor | None = None) -> Tensor:
    """The first half of a block; `memory` goes through the block's LN1, too."""
    normed = layer_norm(x, part(weights, "ln_1"))
    seen = normed if memory is None else layer_norm(memory, part(weights, "ln_1"))
    return x + attention(normed, seen, part(weights, "attention"), heads=heads, causal=causal)


def feed_forward(x: Tensor, weights: Weights, *, quick_gelu: bool) -> Tensor:
    """The second half of a block."""
    hidden = linear(layer_norm(x, part(weights, "ln_2")), part(weights, "mlp.0"))
    hidden = hidden * torch.sigmoid(1.702 * hidden) if quick_gelu else F.gelu(hidden)
    return x + linear(hidden, part(weights, "mlp.2"))


def enhancement(x: Tensor, weights: Weights) -> Tensor:
    """TE of tokens [B, T, N, C]: a depthwise convolution over the T values of each token and channel."""
    batch, frames, tokens, _ = x.shape
    hidden = linear(x, part(weights, "down"))
    rows = hidden.permute(0, 2, 3, 1).reshape(batch * tokens, -1, frames)  # [B*N, A, T]
    kernel = weights["convolution.weight"].T.unsqueeze(1)  # [A, 1, 3]
    rows = F.conv1d(rows, kernel, weights["convolution.bias"], padding=1, groups=len(kernel))
    hidden = rows.reshape(batch, tokens, -1, frames).permute(0, 3, 1, 2)
    return linear(hidden, part(weights, "up"))


def difference(x: Tensor, weights: Weights, grid: tuple[int, int]) -> Tensor:
    """TD of patch tokens [B, T, h*w, C]: each frame minus the one before it, seen in a 3x3 neighbourhood."""
    batch, frames, tokens, _ = x.shape
    change = [torch.zeros_like(x[:, 0])] + [x[:, t] - x[:, t - 1] for t in range(1, frames)]
    hidden = linear(torch.stack(change, dim=1), part(weights, "down"))
    maps = hidden.reshape(batch * frames, *grid, -1).permute(0, 3, 1, 2).contiguous()  # [B*T, A, h, w]
    kernel = weights["convolution.weight"]
    maps = F.conv2d(maps, kernel, weights["convolution.bias"], padding=1, groups=len(kernel))
    hidden = maps.permute(0, 2, 3, 1).reshape(batch, frames, tokens, -1)
    return linear(hidden, part(weights, "up"))


def ted(x: Tensor, weights: Weights, grid: tuple[int, int], *, strength: float) -> Tensor:
    """Tokens [B, T, 1 + h*w, C] -> the same shape; a branch that was left out has no tensors."""
    added = torch.zeros_like(x)
    if te := part(weights, "enhancement"):
        added = added + enhancement(x, te)
    if td := part(weights, "difference"):
        patches = difference(x[:, :, 1:], td, grid)
        added = added + torch.cat([torch.zeros_like(patches[:, :, :1]), patches], dim=2)
    return x + strength * added


def positions(weights: Weights, info: ModelInfo, grid: tuple[int, int]) -> Tensor:
    """[1 + h*w, C]: as trained, or interpolated to another grid."""
    own = weights["positional_embedding"]
    side = info.sizes.image_size // info.sizes.patch_size
    if grid == (side, side):
        return own
    maps = own[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([own[:1], maps[0].flatten(1).T])


def encode_video(model: M2CLIP, clips: Tensor, kept: Tensor | None = None) -> VideoFeatures:
    """Clips [B, T, 3, H, W] -> what `M2CLIP.encode_video` gives; `kept` [B, C] is what dropout leaves, None: all."""
    info, weights, strength = model.info, weights_of(model), model.strength
    sizes, tower = info.sizes, part(weights, "clip.visual")
    batch, frames = clips.shape[:2]
    maps = F.conv2d(clips.flatten(0, 1), tower["patch_embedding.weight"], stride=sizes.patch_size)  # [B*T, C, h, w]
    grid = (maps.shape[2], maps.shape[3])
    first = tower["class_embedding"].expand(batch * frames, 1, -1)
    x = torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1) + positions(tower, info, grid)
    x = layer_norm(x, part(tower, "ln_pre"))

    def adapted(x: Tensor, place: str, layer: int) -> Tensor:
        own = part(weights, f"vision_adapters.{place}.{layer}")
        tokens = x.unflatten(0, (batch, frames))
        return ted(tokens, own, grid, strength=strength).flatten(0, 1) if own else x

    for layer in range(sizes.vision_layers):
        block = part(tower, f"blocks.{layer}")
        x = adapted(x, "pre_attention", layer)
        x = attend(x, block, heads=sizes.vision_heads)
        x = adapted(x, "pre_mlp", layer)
        x = feed_forward(x, block, quick_gelu=sizes.quick_gelu)

    class_tokens = x[:, 0].unflatten(0, (batch, frames))
    embeddings = layer_norm(class_tokens, part(tower, "ln_post")) @ tower["projection"]
    if own := part(weights, "vision_adapters.output_temporal.enhancement"):
        embeddings = embeddings + strength * enhancement(embeddings.unsqueeze(2), own).squeeze(2)
    logits = None
    if model.visual_head is not None:
        read = layer_norm(class_tokens.mean(dim=1), part(tower, "ln_post"))
        if kept is not None:
            read = torch.where(kept, read / (1 - model.visual_head.dropout.p), 0.0)
        logits = linear(read, part(weights, "visual_head.linear"))
    return VideoFeatures(embedding=embeddings.mean(dim=1), frames=embeddings, visual_logits=logits)


def text_adapter(x: Tensor, weights: Weights, *, strength: float) -> Tensor:
    """[K, L, C] -> [K, L, C]."""
    return x + strength * linear(F.gelu(linear(x, part(weights, "down"))), part(weights, "up"))


def encode_text(model: M2CLIP, tokens: Tensor) -> TextFeatures:
    """Token ids [K, L] -> what `M2CLIP.encode_text` gives; padding behind the end token is computed, too."""
    sizes, weights, strength = model.info.sizes, weights_of(model), model.strength
    tower = part(weights, "clip.text")
    x = tower["token_embedding.weight"][tokens] + tower["positional_embedding"][: tokens.shape[1]]
    for layer in range(sizes.text_layers):
        block = part(tower, f"blocks.{layer}")
        x = attend(x, block, heads=sizes.text_heads, causal=True)
        if own := part(weights, f"text_adapters.pre_mlp.{layer}"):
            x = text_adapter(x, own, strength=strength)
        x = feed_forward(x, block, quick_gelu=sizes.quick_gelu)
    normed = layer_norm(x, part(tower, "ln_final"))
    ends = tokens.argmax(dim=-1)
    return TextFeatures(embedding=normed[torch.arange(len(tokens)), ends] @ tower["projection"], hidden=x)


def mlm_logits(model: M2CLIP, hidden: Tensor, frames: Tensor) -> Tensor:
    """Hidden states [B, L, C] of masked texts and frame embeddings [B, T, D] -> word logits [B, L, W]."""
    sizes, weights = model.info.sizes, weights_of(model)
    block, own = part(weights, "masked_block"), part(weights, "masked_words")
    memory = linear(frames, part(own, "frame_map")) if "frame_map.weight" in own else frames
    x = attend(hidden, block, heads=sizes.text_heads, memory=memory)
    x = text_adapter(x, part(own, "adapter"), strength=model.strength)
    x = layer_norm(feed_forward(x, block, quick_gelu=sizes.quick_gelu), part(weights, "clip.text.ln_final"))
    head = part(own, "head")
    x = layer_norm(F.gelu(linear(x, part(head, "dense"))), part(head, "norm"), eps=1e-12)
    return linear(x, part(head, "decoder"))


@dataclass(frozen=True)
class StepInputs:
    """What a training step sees, every text at the full context length L."""

    clips: Tensor
    """[B, T, 3, H, W]."""
    labels: Tensor
    """int64 [B]."""
    class_tokens: Tensor
    """int64 [K, L]."""
    batch_tokens: Tensor
    """int64 [B, L]: the class text of each video."""
    masked_tokens: Tensor
    """int64 [B, L]."""
    targets: Tensor
    """int64 [B, L]: words to predict; NOT_A_TARGET elsewhere."""
    kept: Tensor
    """bool [B, C]: what dropout leaves of the visual head's input."""


def step_inputs(model: M2CLIP, batch: Batch, *, config: RunConfig, epoch: int) -> StepInputs:
    """The inputs that the objective makes of a batch in an epoch, with the same masks and dropout; a class is its first text."""
    info, tokenizer = model.info, get_tokenizer()
    length = info.sizes.context_length
    texts = [own[0] for own in info.texts]
    masker = Masker(
        info.words,
        policy=config.loss.mlm_policy,
        rate=config.loss.mlm_rate,
        tokenizer=tokenizer,
        template=info.template,
        context_length=length,
    )
    assert model.visual_head is not None
    masked, targets, kept = [], [], []
    for label, index in zip(batch.labels.tolist(), batch.indices.tolist(), strict=True):
        row = masker([texts[label]], np.random.default_rng((config.train.seed, epoch, index)))
        drawn = np.random.default_rng((config.train.seed, epoch, index, 1)).random(info.sizes.vision_width)
        kept.append(torch.from_numpy(drawn >= model.visual_head.dropout.p))
        behind = length - row.tokens.shape[1]
        masked.append(F.pad(row.tokens, (0, behind)))
        targets.append(F.pad(row.targets, (0, behind), value=NOT_A_TARGET))
    return StepInputs(
        clips=batch.clips[:, 0],
        labels=batch.labels,
        class_tokens=tokenizer(texts, context_length=length),
        batch_tokens=tokenizer([texts[label] for label in batch.labels.tolist()], context_length=length),
        masked_tokens=torch.cat(masked),
        targets=torch.cat(targets),
        kept=torch.stack(kept),
    )


def step_losses(model: M2CLIP, inputs: StepInputs, *, config: RunConfig) -> dict[str, Tensor]:
    """The terms of the four heads and their weighted sum, `total`."""
    video = encode_video(model, inputs.clips, inputs.kept)
    assert video.visual_logits is not None
    unit = F.normalize(video.embedding.float(), dim=-1)
    own_texts = F.normalize(encode_text(model, inputs.batch_tokens).embedding.float(), dim=-1)
    classes = F.normalize(encode_text(model, inputs.class_tokens).embedding.float(), dim=-1)
    words = mlm_logits(model, encode_text(model, inputs.masked_tokens).hidden, video.frames)

    scale = weights_of(model)["clip.logit_scale"].exp()
    same = torch.softmax(10.0 * (inputs.labels[:, None] == inputs.labels[None, :]).float(), dim=-1)
    both_ways = [
        (same * (same.log() - torch.log_softmax(scale * a @ b.T, dim=-1))).sum(dim=-1).mean()
        for a, b in ((unit, own_texts), (own_texts, unit))
    ]
    hidden_places = inputs.targets != NOT_A_TARGET
    terms = {
        "contrastive": (both_ways[0] + both_ways[1]) / 2,
        "cross_modal": F.cross_entropy(100.0 * unit @ classes.T, inputs.labels),
        "visual": F.cross_entropy(video.visual_logits.float(), inputs.labels),
        "mlm": F.cross_entropy(words.float()[hidden_places], inputs.targets[hidden_places]),
    }
    return terms | {"total": torch.stack([config.loss_weights[name] * value for name, value in terms.items()]).sum()}


def adamw(model: M2CLIP, *, config: RunConfig) -> torch.optim.AdamW:
    """PyTorch's AdamW, one tensor after the other."""
    groups = model.parameter_groups(
        lr=config.train.peak_lr, text_lr_scale=config.train.text_lr_scale, weight_decay=config.train.weight_decay
    )
    return torch.optim.AdamW(groups, foreach=False, fused=False)

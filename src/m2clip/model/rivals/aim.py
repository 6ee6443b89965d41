"""AIM (Yang et al. 2023, arXiv 2302.03024, section 3): the frozen attention used over space and over time, with small adapters."""

from collections.abc import Iterable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from m2clip.model.adapters import Residual
from m2clip.model.clip import CLIP, Block
from m2clip.model.info import ModelInfo
from m2clip.model.video_clip import VideoCLIP

JOINT_SCALE = 0.5
"""What the adapter beside the MLP is multiplied by (s in the paper's equation for the joint adaptation)."""


class Bottleneck(Residual):
    """Up(GELU(Down(x))), without the skip: who wants it adds x. Up starts at zero, so a fresh one gives zero."""

    def __init__(self, width: int, *, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return self.weakened(self.up(F.gelu(self.down(x))))


class TemporalEmbedding(Residual):
    """A learned vector for each frame, added to all of its tokens. Starts at zero."""

    def __init__(self, width: int, *, frames: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(frames, width))

    def forward(self, frames: int) -> Tensor:
        """The vectors of a clip [T, C]; another number of frames than the trained one is interpolated linearly."""
        # To the number that it has, interpolation gives back the same bits; a graph for any T could not ask.
        weight = F.interpolate(self.weight.float().T[None], size=frames, mode="linear", align_corners=False)[0].T
        return self.weakened(weight)


class NormChange(Residual):
    """What training changes in a frozen LayerNorm: LN(x; w + dw, b + db), the same as training a copy of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """[..., C] -> [..., C]."""
        weight, bias = norm.weight + self.weakened(self.weight), norm.bias + self.weakened(self.bias)
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


class BlockAdapters(nn.Module):
    """The three adapters of a block; `forward` runs a frozen block with them."""

    def __init__(self, width: int, *, bottleneck: int) -> None:
        super().__init__()
        self.temporal = Bottleneck(width, bottleneck=bottleneck)
        self.spatial = Bottleneck(width, bottleneck=bottleneck)
        self.joint = Bottleneck(width, bottleneck=bottleneck)

    def forward(self, x: Tensor, block: Block, *, frames: int, class_only: bool = False) -> Tensor:
        """Tokens [B*T, N, C] -> [B*T, N, C]; with `class_only` just the class tokens [B*T, 1, C], the same numbers for less.

        Over time, each token attends to the tokens at its own place in all frames; both attentions are the block's own.
        """
        over_time = block.ln_1(x).unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # [B*N, T, C]
        mixed = self.temporal(block.attention(over_time))
        x = x + mixed.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)
        if class_only:
            attended = block.attention(block.ln_1(x[:, :1]), block.ln_1(x))
            x = x[:, :1]
        else:
            attended = block.attention(block.ln_1(x))
        x = x + (attended + self.spatial(attended))
        normed = block.ln_2(x)
        return x + block.mlp(normed) + JOINT_SCALE * self.joint(normed)


class AIMAdapters(nn.Module):
    """All that AIM trains of the image tower."""

    def __init__(self, width: int, *, layers: int, bottleneck: int, frames: int) -> None:
        super().__init__()
        self.temporal_embedding = TemporalEmbedding(width, frames=frames)
        self.blocks = nn.ModuleList(BlockAdapters(width, bottleneck=bottleneck) for _ in range(layers))
        self.ln_post = NormChange(width)


class AIM(VideoCLIP):
    """Adapters in each image block, a temporal embedding, the final LayerNorm and the visual head; the text tower is CLIP's."""

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = True) -> None:
        super().__init__(clip, info=info, visual_head=visual_head)
        sizes = info.sizes
        self.vision_adapters = AIMAdapters(
            sizes.vision_width, layers=sizes.vision_layers, bottleneck=info.rival.width, frames=info.frames
        )

    def encode_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, 3, H, W] -> frame embeddings [B, T, D] and class tokens [B, T, C]."""
        tower, adapters = self.clip.visual, self.vision_adapters
        batch, frames = clips.shape[:2]
        tokens, _ = tower.tokens(clips.flatten(0, 1))  # [B*T, N, C]
        moments = adapters.temporal_embedding(frames).to(tokens.dtype)  # [T, C]
        x = tower.ln_pre(tokens + moments.repeat(batch, 1)[:, None])
        last = len(tower.blocks) - 1
        pairs = zip(cast(Iterable[Block], tower.blocks), cast(Iterable[BlockAdapters], adapters.blocks), strict=True)
        for layer, (block, adapted) in enumerate(pairs):
            run = partial(adapted, block=block, frames=frames, class_only=layer == last)
            recompute = self.recompute_blocks and torch.is_grad_enabled()
            x = checkpoint(run, x, use_reentrant=False) if recompute else run(x)
        class_tokens = x[:, 0].to(tower.projection.dtype)
        embeddings = adapters.ln_post(class_tokens, tower.ln_post) @ tower.projection
        return embeddings.unflatten(0, (batch, frames)), class_tokens.unflatten(0, (batch, frames))

    def head_features(self, class_tokens: Tensor) -> Tensor:
        """Class tokens [B, T, C] -> what the visual head classifies [B, C]: each through the final LayerNorm, then their mean."""
        return self.vision_adapters.ln_post(class_tokens, self.clip.visual.ln_post).mean(dim=1)

    def block_adapters(self) -> Iterable[nn.Module]:
        """The three adapters of each block."""
        return (self.vision_adapters.blocks,)

    def trained_parts(self) -> dict[str, nn.Module]:
        """The adapters, and the visual head where there is one."""
        return {"vision_adapters": self.vision_adapters, **super().trained_parts()}

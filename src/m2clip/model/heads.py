"""The heads of the multi-task decoder that have parameters (SPEC: the four heads).

The contrastive and the cross-modal head have none: they are cosines of embeddings, see `losses.py` and `scoring.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from m2clip.model.adapters import TextAdapter
from m2clip.model.clip import Block


class VisualHead(nn.Module):
    """Dropout and a linear map from the mean class token (after CLIP's own final LayerNorm) to the trained classes."""

    def __init__(self, width: int, *, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Features [B, C] -> logits [B, K]. `kept`, bool [B, C]: what dropout leaves of them; None: drawn here, in training."""
        if kept is None:
            return self.linear(self.dropout(features))
        return self.linear(features * kept / (1 - self.dropout.p))


class WordHead(nn.Module):
    """BERT-style prediction head: dense, GELU, LayerNorm, and a linear map to the words that can be masked."""

    def __init__(self, width: int, *, words: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.decoder = nn.Linear(width, words)
        for linear in (self.dense, self.decoder):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, L, C] -> logits [B, L, W]."""
        return self.decoder(self.norm(F.gelu(self.dense(hidden))))


class MaskedWordModel(nn.Module):
    """The trained parts of masked language modelling: the cross-attention block's text adapter, the word head, and, where the
    embedding and the text width differ, a linear map that brings the frames to the text width.

    The block itself is a frozen copy of the last text block; it lives beside CLIP and is passed to `forward`.
    """

    def __init__(self, width: int, *, embed_dim: int, bottleneck: int, words: int) -> None:
        super().__init__()
        self.frame_map = nn.Linear(embed_dim, width) if embed_dim != width else None
        self.adapter = TextAdapter(width, bottleneck=bottleneck)
        self.head = WordHead(width, words=words)

    def forward(self, hidden: Tensor, frames: Tensor, *, block: Block, norm: nn.Module) -> Tensor:
        """Hidden states [B, L, C] of the masked texts and frame embeddings [B, T, D] -> word logits [B, L, W]."""
        memory = frames if self.frame_map is None else self.frame_map(frames)
        x = self.adapter(block.attend(hidden, memory))
        return self.head(norm(block.feed_forward(x)))

"""Learned text prompts (CoOp, arXiv 2109.01134, section 3.2; the text side of Vita-CLIP, arXiv 2304.03307): words nobody wrote."""

import torch
from torch import Tensor, nn

from m2clip.model.clip import CLIP
from m2clip.model.info import ModelInfo
from m2clip.model.video_clip import VideoCLIP


class LearnedPrompt(nn.Module):
    """M vectors [M, C] in the space of the token embeddings, the same for all classes."""

    def __init__(self, width: int, *, tokens: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(0.02 * torch.randn(tokens, width))


class TextPrompts(VideoCLIP):
    """Both towers frozen, with learned vectors between the start token and the text of a class.

    Unlike a fresh adapter, a fresh prompt is random words: an untrained model is not CLIP. There is no residual to weaken.
    """

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = False) -> None:
        super().__init__(clip, info=info, visual_head=visual_head)
        self.prompt = LearnedPrompt(info.sizes.text_width, tokens=info.rival.prompt_tokens)

    @property
    def text_length(self) -> int:
        """The most tokens that a text may have, with start and end: the learned ones take their share of the context."""
        return self.info.sizes.context_length - self.info.rival.prompt_tokens

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids [K, L], L up to `text_length` -> embeddings [K, D] and hidden states [K, L + M, C] after the last block."""
        if tokens.ndim != 2 or tokens.shape[1] > self.text_length:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; [K, L] with L <= {self.text_length} is needed")
        tower, vectors = self.clip.text, self.prompt.vectors
        gap = tokens.new_zeros(
            len(tokens), len(vectors)
        )  # keeps the learned tokens' places, so that the end is found behind
        spaced = torch.cat([tokens[:, :1], gap, tokens[:, 1:]], dim=1)
        words = tower.token_embedding(tokens)
        learned = vectors.to(words.dtype).expand(len(tokens), -1, -1)
        x = torch.cat([words[:, :1], learned, words[:, 1:]], dim=1) + tower.positional_embedding[: spaced.shape[1]]
        for block in tower.blocks:
            x = block(x)
        return tower.read(x, spaced), x

    def trained_parts(self) -> dict[str, nn.Module]:
        """The learned vectors."""
        return {"prompt": self.prompt}

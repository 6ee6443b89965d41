"""M2-CLIP: a frozen CLIP, its adapters and the multi-task decoder's heads (arXiv 2401.11649)."""

from collections.abc import Iterable

from torch import Tensor, nn

from m2clip.model.adapters import OutputTemporalAdapter, TEDAdapter, TextAdapter
from m2clip.model.clip import CLIP, Block
from m2clip.model.heads import MaskedWordModel
from m2clip.model.info import ModelInfo
from m2clip.model.towers import (
    PreparedTexts,
    TextAdapters,
    VisionAdapters,
    encode_frames,
    encode_words,
    finish_words,
    prepare_words,
)
from m2clip.model.video_clip import VideoCLIP


class M2CLIP(VideoCLIP):
    """CLIP with TED-, text and output adapters and four heads. `clip` and `masked_block` are frozen, all else is trained and saved.

    Build one with `m2clip.create`, `m2clip.load` or `m2clip.from_reference`.
    """

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = True) -> None:
        sizes, layout = info.sizes, info.layout

        def ted() -> TEDAdapter:
            branches = "both" if layout.ted == "off" else layout.ted
            return TEDAdapter(sizes.vision_width, bottleneck=layout.ted_width, branches=branches)

        super().__init__(clip, info=info, visual_head=visual_head)
        self.vision_adapters = VisionAdapters(
            pre_attention={layer: ted() for layer in layout.pre_attention},
            pre_mlp={layer: ted() for layer in layout.pre_mlp},
            output_temporal=OutputTemporalAdapter(sizes.embed_dim, bottleneck=layout.output_temporal_width)
            if layout.output_temporal_width
            else None,
        )
        self.text_adapters = TextAdapters(
            {layer: TextAdapter(sizes.text_width, bottleneck=layout.text_width) for layer in layout.text}
        )
        words = len(info.words)
        self.masked_words = (
            MaskedWordModel(sizes.text_width, embed_dim=sizes.embed_dim, bottleneck=layout.text_width, words=words)
            if words
            else None
        )
        # The extra block of masked language modelling: a frozen copy of the last text block, used with the frames as its memory.
        self.masked_block = (
            Block(sizes.text_width, heads=sizes.text_heads, causal=True, quick_gelu=sizes.quick_gelu) if words else None
        )
        if self.masked_block is not None:
            self.masked_block.load_state_dict(clip.text.blocks[-1].state_dict())
            self.masked_block.requires_grad_(False)

    def encode_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, 3, H, W] -> frame embeddings [B, T, D] after the output temporal adapter, and class tokens [B, T, C]."""
        return encode_frames(self.clip.visual, self.vision_adapters, clips, recompute=self.recompute_blocks)

    def frame_adapters(self) -> VisionAdapters:
        """The TED-Adapters and the output temporal adapter."""
        return self.vision_adapters

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids [K, L] -> embeddings [K, D] and hidden states [K, L, C] after the last block."""
        return encode_words(self.clip.text, self.text_adapters, tokens)

    def prepare_texts(self, tokens: Tensor) -> PreparedTexts:
        """Token ids [K, L] -> what stands in front of the first text adapter."""
        return prepare_words(self.clip.text, self.text_adapters, tokens)

    def finish_texts(self, prepared: PreparedTexts) -> Tensor:
        """What `prepare_texts` gave -> embeddings [K, D]."""
        return finish_words(self.clip.text, self.text_adapters, prepared)

    def mlm_logits(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Word logits [B, L, W] from the masked texts' hidden states [B, L, C] and their videos' frame embeddings [B, T, D].

        Raises ValueError for a model without words to predict.
        """
        if self.masked_words is None or self.masked_block is None:
            raise ValueError("this model has no masked-word head; build it with class names")
        return self.masked_words(hidden, frames, block=self.masked_block, norm=self.clip.text.ln_final)

    def block_adapters(self) -> Iterable[nn.Module]:
        """The TED-Adapters."""
        return (self.vision_adapters.pre_attention, self.vision_adapters.pre_mlp)

    def trained_parts(self) -> dict[str, nn.Module]:
        """The modules whose parameters, all of them, are trained; keyed by their attribute name."""
        parts = {
            "vision_adapters": self.vision_adapters,
            "text_adapters": self.text_adapters,
            "visual_head": self.visual_head,
            "masked_words": self.masked_words,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def text_parameters(self) -> Iterable[nn.Parameter]:
        """Text adapters, the masked-word block's too."""
        yield from self.text_adapters.parameters()
        if self.masked_words is not None:
            yield from self.masked_words.adapter.parameters()

"""The whole model: a frozen CLIP, its adapters and the multi-task decoder's heads (M2-CLIP, arXiv 2401.11649)."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialized
from torch import Tensor, nn

from m2clip import __version__
from m2clip.model.adapters import OutputTemporalAdapter, TEDAdapter, TextAdapter
from m2clip.model.clip import CLIP, Block
from m2clip.model.heads import MaskedWordModel, VisualHead
from m2clip.model.info import ModelInfo
from m2clip.model.saving import replace_file
from m2clip.model.towers import TextAdapters, VisionAdapters, encode_frames, encode_words

FORMAT_VERSION = 1


@dataclass(frozen=True)
class VideoFeatures:
    """What a batch of clips became."""

    embedding: Tensor
    """[B, D]: the mean of the frame embeddings, not normalised."""
    frames: Tensor
    """[B, T, D]: frame embeddings after the output temporal adapter."""
    visual_logits: Tensor | None
    """[B, K]: logits of the visual head; None for a model without one."""

    def __post_init__(self) -> None:
        batch, _, width = self.frames.shape
        if self.embedding.shape != (batch, width) or (
            self.visual_logits is not None and len(self.visual_logits) != batch
        ):
            raise ValueError(
                f"features disagree: embedding {tuple(self.embedding.shape)}, frames {tuple(self.frames.shape)}"
            )


@dataclass(frozen=True)
class TextFeatures:
    """What a batch of texts became."""

    embedding: Tensor
    """[K, D]: read at the end token, not normalised."""
    hidden: Tensor
    """[K, L, C]: hidden states after the last block, before the final LayerNorm."""

    def __post_init__(self) -> None:
        if len(self.embedding) != len(self.hidden) or self.hidden.ndim != 3:
            raise ValueError(
                f"features disagree: embedding {tuple(self.embedding.shape)}, hidden {tuple(self.hidden.shape)}"
            )


@dataclass(frozen=True)
class Outputs:
    """What one training step needs; parts that were not asked for are None."""

    video: VideoFeatures
    text: TextFeatures | None
    mlm_logits: Tensor | None


class M2CLIP(nn.Module):
    """A CLIP for video. `clip` and `masked_block` are frozen; everything else is trained and saved.

    Build one with `m2clip.create`, `m2clip.load` or `m2clip.from_reference`.
    """

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = True) -> None:
        super().__init__()
        sizes, layout = info.sizes, info.layout

        def ted() -> TEDAdapter:
            branches = "both" if layout.ted == "off" else layout.ted
            return TEDAdapter(sizes.vision_width, bottleneck=layout.ted_width, branches=branches)

        self.info = info
        self.clip = clip
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
        classes, words = len(info.class_names), len(info.words)
        self.visual_head = VisualHead(sizes.vision_width, classes=classes) if classes and visual_head else None
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
        self.clip.requires_grad_(False)

    def encode_video(self, clips: Tensor) -> VideoFeatures:
        """Clips [B, T, 3, H, W], normalised with the backbone's mean and std; any B, any T, any size from one patch on.

        Another size than the model's interpolates the positions, with a warning. Raises ValueError on other shapes.
        """
        if clips.ndim != 5 or clips.shape[2] != 3 or clips.shape[1] < 1:
            raise ValueError(
                f"clips have shape {tuple(clips.shape)}; [B, T, 3, H, W] with at least one frame is needed"
            )
        size = self.info.image_size
        if clips.shape[3:] != (size, size):
            warnings.warn(
                f"the model takes {size}x{size} pixels and gets {clips.shape[3]}x{clips.shape[4]}: "
                "its position embeddings are interpolated",
                stacklevel=2,
            )
        frames, class_tokens = encode_frames(self.clip.visual, self.vision_adapters, clips)
        logits = None
        if self.visual_head is not None:
            logits = self.visual_head(self.clip.visual.ln_post(class_tokens.mean(dim=1)))
        return VideoFeatures(embedding=frames.mean(dim=1), frames=frames, visual_logits=logits)

    def encode_text(self, tokens: Tensor) -> TextFeatures:
        """Token ids [K, L], any L up to the context length, each row with its end token (the largest id)."""
        embedding, hidden = encode_words(self.clip.text, self.text_adapters, tokens)
        return TextFeatures(embedding=embedding, hidden=hidden)

    def mlm_logits(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Word logits [B, L, W] from the masked texts' hidden states [B, L, C] and their videos' frame embeddings [B, T, D].

        Raises ValueError for a model without words to predict.
        """
        if self.masked_words is None or self.masked_block is None:
            raise ValueError("this model has no masked-word head; build it with class names")
        return self.masked_words(hidden, frames, block=self.masked_block, norm=self.clip.text.ln_final)

    def forward(
        self, clips: Tensor, class_tokens: Tensor | None = None, masked_tokens: Tensor | None = None
    ) -> Outputs:
        """One call for a training step: clips [B, T, 3, H, W], class texts [K, L] and, for MLM, one masked text a clip [B, L]."""
        video = self.encode_video(clips)
        text = None if class_tokens is None else self.encode_text(class_tokens)
        logits = None
        if masked_tokens is not None:
            logits = self.mlm_logits(self.encode_text(masked_tokens).hidden, video.frames)
        return Outputs(video=video, text=text, mlm_logits=logits)

    def trained_parts(self) -> dict[str, nn.Module]:
        """The modules whose parameters, all of them, are trained; keyed by their attribute name."""
        parts = {
            "vision_adapters": self.vision_adapters,
            "text_adapters": self.text_adapters,
            "visual_head": self.visual_head,
            "masked_words": self.masked_words,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters by their key in the model's state dict."""
        return dict(self._trained())

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, part in self.trained_parts().items():
            yield from part.named_parameters(prefix=name)

    def trained_state(self) -> dict[str, Tensor]:
        """The trained tensors, detached: what a checkpoint holds."""
        return {name: parameter.detach() for name, parameter in self._trained()}

    def parameter_groups(self, *, lr: float, text_lr_scale: float, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW groups: text adapters (the masked-word block's, too) at `text_lr_scale` of the rate, no decay on biases and norms."""
        text = {id(p) for p in self.text_adapters.parameters()}
        if self.masked_words is not None:
            text |= {id(p) for p in self.masked_words.adapter.parameters()}
        groups: list[dict[str, Any]] = []
        for is_text, rate in ((False, lr), (True, lr * text_lr_scale)):
            for decays, decay in ((True, weight_decay), (False, 0.0)):
                chosen = [p for _, p in self._trained() if (id(p) in text) == is_text and (p.ndim > 1) == decays]
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        return groups

    def save(self, path: str | Path, *, with_backbone: bool | None = None) -> Path:
        """Write a checkpoint: the trained tensors, with `info` as JSON in the header. Written whole or not at all.

        `with_backbone` None: the frozen weights go in only where no file holds them (random weights, or tensors given in memory).
        Raises CheckpointError where the disk is full or refuses.
        """
        path = Path(path)
        keep_all = self.info.weights.source is None if with_backbone is None else with_backbone
        tensors = self.state_dict() if keep_all else self.trained_state()
        header = {
            "format": "m2clip",
            "format_version": str(FORMAT_VERSION),
            "code_version": __version__,
            "info": self.info.model_dump_json(),
        }
        replace_file(path, serialized({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, header))
        return path

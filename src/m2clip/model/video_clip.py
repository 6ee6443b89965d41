"""What every method of adapting CLIP to video shares: a frozen CLIP, features of clips and texts, a record, a checkpoint."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from m2clip import __version__
from m2clip.errors import CheckpointError, ConfigError
from m2clip.model.adapters import Residual
from m2clip.model.clip import CLIP, Block, VisionTower
from m2clip.model.heads import VisualHead
from m2clip.model.info import ModelInfo
from m2clip.model.saving import replace_file, serialized
from m2clip.model.towers import (
    NO_TEXT_ADAPTERS,
    NO_VISION_ADAPTERS,
    PreparedTexts,
    VisionAdapters,
    encode_frames,
    encode_words,
    finish_words,
    prepare_words,
)

FORMAT_VERSION = 3
LARGEST_TENSOR_BYTES = 12 * 2**20
"""How large a tensor of a few clips may become on a CPU; the C library keeps memory up to 32 MiB for the next use."""


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
            self.visual_logits is not None and self.visual_logits.shape[0] != batch
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
    class_embeddings: Tensor | None
    """[K, D], not normalised."""
    mlm_logits: Tensor | None
    """[B, L, W]."""


@dataclass(frozen=True)
class CompiledImages:
    """Compiled code for `encode_frames` (`model.compiled`)."""

    shape: tuple[int, ...]
    """Of a clip: (T, 3, H, W)."""
    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    """One clip [1, T, 3, H, W] -> frame embeddings [1, T, D] and class tokens [1, T, C]."""


def checkpoint_header(info: ModelInfo) -> dict[str, str]:
    """The metadata of a checkpoint's file: the format, and what the model says of itself."""
    return {
        "format": "m2clip",
        "format_version": str(FORMAT_VERSION),
        "code_version": __version__,
        "info": info.model_dump_json(),
    }


class VideoCLIP(nn.Module):
    """A CLIP that reads clips of video. By itself it is the frozen CLIP, the mean of its frames; methods are its subclasses.

    A method says what it trains (`trained_parts`) and replaces `encode_frames` and `encode_words` where it changes them.
    `clip` is frozen. Build one with `m2clip.create` or `m2clip.load`.
    """

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = False) -> None:
        super().__init__()
        self.info = info
        self.clip = clip
        self.clip.requires_grad_(False)
        classes = len(info.class_names)
        self._strength = 1.0
        self.rounded: Literal["nothing", "frozen", "all"] = "nothing"
        """Which weights were rounded for speed (`model.precision`) and are no longer what a file should hold."""
        self.compiled: CompiledImages | None = None
        """Code that takes the place of `encode_frames` where clips have its shape and nobody wants gradients."""
        self.loaded_tensors = 0
        """How many tensors came from files; the others are as they were initialised."""
        self.recompute_blocks = False
        """Whether training keeps only the input of each image block and computes the rest again on the way back."""
        self.visual_head = VisualHead(info.sizes.vision_width, classes=classes) if classes and visual_head else None

    @property
    def strength(self) -> float:
        """The share of each adapter's residual that is added: 1 fully adapted, 0 the frozen CLIP."""
        return self._strength

    def set_strength(self, strength: float) -> None:
        """Weaken all adapters to `strength` in [0, 1] of what they learned, for video and text; the checkpoint stays as it is.

        Raises ConfigError for a number outside, and for a method without adapters.
        """
        if not 0.0 <= strength <= 1.0:
            raise ConfigError(f"the adapter strength is {strength:g}; it must be between 0 (the frozen CLIP) and 1")
        adapters = [module for module in self.modules() if isinstance(module, Residual)]
        if strength != 1.0 and not adapters:
            raise ConfigError(
                f"a model of the method {self.info.method} has no adapters to weaken; leave the strength at 1"
            )
        for adapter in adapters:
            adapter.strength = strength
        self._strength = strength
        self.compiled = None  # it was made for another strength

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of what the contrastive loss multiplies cosines by."""
        return self.clip.logit_scale

    @property
    def text_length(self) -> int:
        """The most tokens that a text may have, with start and end."""
        return self.info.sizes.context_length

    def encode_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, 3, H, W] -> frame embeddings [B, T, D] and what the visual head reads of each frame [B, T, C]."""
        return encode_frames(self.clip.visual, NO_VISION_ADAPTERS, clips)

    def frame_adapters(self) -> VisionAdapters | None:
        """What `towers.encode_frames` runs between the frozen blocks, all through which a frame sees others (`model.frame_stream`).

        None: a frame may see the whole clip. That is taken for granted of a method that replaces `encode_frames`, unless it
        replaces this as well.
        """
        return NO_VISION_ADAPTERS if type(self).encode_frames is VideoCLIP.encode_frames else None

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids [K, L] -> embeddings [K, D] and hidden states [K, L, C] after the last block."""
        return encode_words(self.clip.text, NO_TEXT_ADAPTERS, tokens)

    def head_features(self, class_tokens: Tensor) -> Tensor:
        """Class tokens [B, T, C] -> what the visual head classifies [B, C]: their mean, through CLIP's final LayerNorm."""
        return self.clip.visual.ln_post(class_tokens.mean(dim=1))

    def encode_video(self, clips: Tensor, *, kept: Tensor | None = None) -> VideoFeatures:
        """Clips [B, T, 3, H, W], normalised with the backbone's mean and std; any B, any T, any size from one patch on.

        Another size than the model's interpolates the positions, with a warning. `kept`: as of the visual head. Raises ValueError on
        other shapes.
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
        compiled = None if torch.is_grad_enabled() else self.compiled
        if compiled is not None and clips.shape[1:] == compiled.shape and len(clips):
            parts = [compiled.run(clip) for clip in clips.split(1)]
        else:
            parts = [self.encode_frames(part) for part in clips.split(self.clips_at_once(clips))]
        frames, class_tokens = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        return self.read_frames(frames, class_tokens, kept=kept)

    def read_frames(self, frames: Tensor, class_tokens: Tensor, *, kept: Tensor | None = None) -> VideoFeatures:
        """What `encode_frames` gave of the T frames of B clips (or windows of one sequence) -> their features."""
        logits = None if self.visual_head is None else self.visual_head(self.head_features(class_tokens), kept)
        return VideoFeatures(embedding=frames.mean(dim=1), frames=frames, visual_logits=logits)

    def clips_at_once(self, clips: Tensor, *, largest_bytes: int | None = None) -> int:
        """How many clips go through the tower together: on a CPU, without gradients, only as many as have small tensors.

        What is larger goes back to the operating system after each use and comes again page by page, which costs more than
        the arithmetic on it. Autocast rounds the weights anew for each part, so there all go together. `largest_bytes`: how
        large a tensor may be; None: as is best for clips.
        """
        if clips.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return max(len(clips), 1)
        tower = self.clip.visual
        tokens = clips.shape[1] * (clips.shape[3] // tower.patch_size) * (clips.shape[4] // tower.patch_size)
        clip_bytes = tokens * 3 * tower.ln_post.weight.numel() * tower.patch_embedding.weight.element_size()
        return max(1, (largest_bytes or LARGEST_TENSOR_BYTES) // max(clip_bytes, 1))

    def encode_text(self, tokens: Tensor) -> TextFeatures:
        """Token ids [K, L], any L up to `text_length`, each row with its end token (the largest id)."""
        embedding, hidden = self.encode_words(tokens)
        return TextFeatures(embedding=embedding, hidden=hidden)

    def mlm_logits(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Word logits of masked texts; ValueError for a method or a model without words to predict."""
        raise ValueError(f"the method {self.info.method} has no masked-word head")

    def prepare_texts(self, tokens: Tensor) -> PreparedTexts:
        """Token ids [K, L] -> what training needs of them again and again: all that no trained parameter changes, computed once.

        A method that replaces `encode_words` trains in there, so nothing is computed, unless it replaces this as well.
        """
        if type(self).encode_words is not VideoCLIP.encode_words:
            return PreparedTexts(None, tokens)
        return prepare_words(self.clip.text, NO_TEXT_ADAPTERS, tokens)

    def finish_texts(self, prepared: PreparedTexts) -> Tensor:
        """What `prepare_texts` gave -> embeddings [K, D], not normalised, the same as `encode_text` gives."""
        if prepared.hidden is None:
            return self.encode_words(prepared.tokens)[0]
        return finish_words(self.clip.text, NO_TEXT_ADAPTERS, prepared)

    def forward(
        self,
        clips: Tensor,
        class_texts: PreparedTexts | None = None,
        masked_tokens: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> Outputs:
        """One call for a training step: clips [B, T, 3, H, W], all class texts and, for MLM, one masked text a clip [B, L].

        `kept`: as of the visual head.
        """
        video = self.encode_video(clips, kept=kept)
        classes = None if class_texts is None else self.finish_texts(class_texts)
        logits = None
        if masked_tokens is not None:
            logits = self.mlm_logits(self.encode_text(masked_tokens).hidden, video.frames)
        return Outputs(video=video, class_embeddings=classes, mlm_logits=logits)

    def image_towers(self) -> Iterable[VisionTower]:
        """The image towers that may be run."""
        return (self.clip.visual,)

    def block_adapters(self) -> Iterable[nn.Module]:
        """The trained modules that work inside the image tower's blocks."""
        return ()

    def frozen_blocks(self) -> Iterator[Block]:
        """The blocks that training runs and does not train."""
        return (module for module in self.modules() if isinstance(module, Block))

    def trained_parts(self) -> dict[str, nn.Module]:
        """The modules whose parameters, all of them, are trained; keyed by their attribute name."""
        return {} if self.visual_head is None else {"visual_head": self.visual_head}

    def text_parameters(self) -> Iterable[nn.Parameter]:
        """Trained parameters that learn at the text adapters' rate."""
        return ()

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
        """AdamW groups: `text_parameters` at `text_lr_scale` of the rate, no decay on biases and norms."""
        text = {id(p) for p in self.text_parameters()}
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
        if self.rounded == "all" or (self.rounded == "frozen" and keep_all):
            raise CheckpointError(
                f"{path} is not written: the model's weights were rounded for speed; save it before `model.precision` rounds them"
            )
        tensors = self.state_dict() if keep_all else self.trained_state()
        header = checkpoint_header(self.info)
        replace_file(path, serialized({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, header))
        return path

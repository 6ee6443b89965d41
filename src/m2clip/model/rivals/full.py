"""Full fine-tuning of both towers, a video being the mean of its frames (ActionCLIP, arXiv 2109.08472; ViFi-CLIP, arXiv 2212.03640)."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from m2clip.model.adapters import Residual
from m2clip.model.clip import CLIP, Block, VisionTower
from m2clip.model.info import ModelInfo
from m2clip.model.towers import NO_TEXT_ADAPTERS, NO_VISION_ADAPTERS, VisionAdapters, encode_frames, encode_words
from m2clip.model.video_clip import VideoCLIP

Tower = TypeVar("Tower", bound=nn.Module)
Encoded = tuple[Tensor, Tensor]


class _Run(nn.Module):
    """A tower and what is done with it as one module, which is what `functional_call` can lend other weights to."""

    def __init__(self, tower: nn.Module, encode: Callable[..., Encoded]) -> None:
        super().__init__()
        self.tower = tower
        self._encode = encode

    def forward(self, inputs: Tensor) -> Encoded:
        return self._encode(self.tower, inputs)


class WeightInterpolation(Residual):
    """Runs a tower with the weights frozen + strength * (tuned - frozen) (WiSE-FT, arXiv 2109.01903, section 3).

    The change of the weights is the residual. Neither set of weights is written to, so any strength can follow any other.
    """

    def forward(
        self, encode: Callable[[Tower, Tensor], Encoded], frozen: Tower, tuned: Tower, inputs: Tensor
    ) -> Encoded:
        """What `encode(tower, inputs)` gives; at strength 0 and 1 the very towers are run."""
        if self.strength in (0.0, 1.0):
            return encode(tuned if self.strength else frozen, inputs)
        before = dict(frozen.named_parameters())
        weights = {
            f"tower.{name}": torch.lerp(before[name], after, self.strength) for name, after in tuned.named_parameters()
        }
        return functional_call(_Run(tuned, encode), weights, (inputs,))


class FullFineTuning(VideoCLIP):
    """A second CLIP, `tuned`, that starts as a copy of the frozen one and is trained whole, its logit scale included."""

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = False) -> None:
        super().__init__(clip, info=info, visual_head=visual_head)
        self.tuned = copy.deepcopy(clip).requires_grad_(True)
        self.interpolation = WeightInterpolation()

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of what the contrastive loss multiplies cosines by; it is trained, too."""
        return self.tuned.logit_scale

    def encode_frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, 3, H, W] -> frame embeddings [B, T, D] and class tokens [B, T, C]."""
        return self.interpolation(
            lambda tower, x: encode_frames(tower, NO_VISION_ADAPTERS, x, recompute=self.recompute_blocks),
            self.clip.visual,
            self.tuned.visual,
            clips,
        )

    def frame_adapters(self) -> VisionAdapters:
        """None: each frame is an image."""
        return NO_VISION_ADAPTERS

    def encode_words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids [K, L] -> embeddings [K, D] and hidden states [K, L, C] after the last block."""
        return self.interpolation(
            lambda tower, x: encode_words(tower, NO_TEXT_ADAPTERS, x), self.clip.text, self.tuned.text, tokens
        )

    def image_towers(self) -> Iterable[VisionTower]:
        """The frozen and the tuned one: which of them is run depends on the strength."""
        return (self.clip.visual, self.tuned.visual)

    def frozen_blocks(self) -> Iterator[Block]:
        """None: training runs the tuned towers only."""
        return iter(())

    def trained_parts(self) -> dict[str, nn.Module]:
        """The tuned CLIP."""
        return {"tuned": self.tuned}

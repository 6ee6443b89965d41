"""Linear probe: a linear classifier on the features of the frozen CLIP (Radford et al. 2021, arXiv 2103.00020, section 3.2)."""

from torch import Tensor

from m2clip.model.clip import CLIP
from m2clip.model.info import ModelInfo
from m2clip.model.video_clip import VideoCLIP


class LinearProbe(VideoCLIP):
    """Only the visual head is trained, without dropout; compared with texts, the model is the frozen CLIP."""

    def __init__(self, clip: CLIP, *, info: ModelInfo, visual_head: bool = True) -> None:
        super().__init__(clip, info=info, visual_head=visual_head)
        if self.visual_head is not None:
            self.visual_head.dropout.p = 0.0

    def head_features(self, class_tokens: Tensor) -> Tensor:
        """Class tokens [B, T, C] -> the mean [B, C] of the frames' features, each after ln_post and before the projection."""
        return self.clip.visual.ln_post(class_tokens).mean(dim=1)

"""What a score rests on: a map over frames and patches for one label of one video (`model.attention_relevance`)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2clip.data.clip_reader import ReadClips
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import ConfigError
from m2clip.losses import SIMILARITY_SCALE
from m2clip.model.attention_relevance import relevance
from m2clip.model.video_clip import VideoFeatures
from m2clip.recognizer import Recognizer
from m2clip.video_scores import Classes


@dataclass(frozen=True)
class Explanation:
    """Where and when the model finds what speaks for a label, in a clip of T frames of S x S pixels and h x w patches."""

    label: str
    score: float
    """The label's probability, as `Recognizer.classify` gives it."""
    patch_heat: NDArray[np.float32]
    """[T, h, w]: what each patch contributes; the largest is 1 (all are 0 where nothing speaks for the label)."""
    time: NDArray[np.float32]
    """[T]: each frame's share of the heat; they sum to 1."""
    patch_difference: NDArray[np.float32] | None
    """[T, h, w]: how strongly the difference branches answer to each patch's change since the frame before; the largest is 1 and
    frame 0 is 0 (all are 0 for fresh adapters and at strength 0). None for a model without difference branches."""
    pixels: NDArray[np.uint8]
    """[T, 3, S, S]: the frames as the model takes them."""
    frame_indices: NDArray[np.int64]
    """[T]: which frames of the video they are."""
    frame_seconds: NDArray[np.float64]
    """[T]: their times from the video's first frame."""

    def __post_init__(self) -> None:
        frames = {
            len(self.pixels),
            len(self.patch_heat),
            len(self.time),
            len(self.frame_indices),
            len(self.frame_seconds),
        }
        if len(frames) > 1 or self.patch_heat.ndim != 3:
            raise ValueError(f"parts of an explanation are of clips of {sorted(frames)} frames")
        if self.patch_difference is not None and self.patch_difference.shape != self.patch_heat.shape:
            raise ValueError(f"maps disagree: {self.patch_heat.shape} and {self.patch_difference.shape}")

    @cached_property
    def heat(self) -> NDArray[np.float32]:
        """`patch_heat` in the size of the pixels, [T, S, S] in 0..1."""
        return self._enlarged(self.patch_heat)

    @cached_property
    def difference(self) -> NDArray[np.float32] | None:
        """`patch_difference` in the size of the pixels, [T, S, S] in 0..1."""
        return None if self.patch_difference is None else self._enlarged(self.patch_difference)

    def _enlarged(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        size = self.pixels.shape[-2:]
        return F.interpolate(torch.from_numpy(patches)[:, None], size=size, mode="bilinear")[:, 0].numpy()


def explain(recognizer: Recognizer, clips: ReadClips, label: str, classes: Classes) -> Explanation:
    """What the score of `label`, one of `classes`, rests on in a clip that `recognizer.reader` read.

    The model is only read, so this may run beside other uses of it; it takes about as long as a step of training.

    Raises ConfigError for a label that is not among the classes, more than one part or view, and a method without such maps.
    """
    if label not in classes.names:
        raise ConfigError(f"{label!r} is not among the {len(classes.names)} labels; explain one of them")
    parts, views = clips.pixels.shape[:2]
    if parts * views != 1:
        raise ConfigError(
            f"an explanation is of one clip, not of {parts} parts in {views} views: read the video in one view"
        )
    index = classes.names.index(label)
    model, pixels = recognizer.model, clips.pixels[0]
    statistics = PixelStatistics(model.info.sizes.mean, model.info.sizes.std)
    clip = statistics.normalize(pixels.to(next(model.parameters()).device))
    found = relevance(model, clip, lambda features: log_odds(features, classes, index))
    (scores,) = recognizer.score_features(found.features, clips, classes)
    heat = found.patches[0].cpu()
    total = heat.sum((1, 2))
    time = total / total.sum() if total.sum() > 0 else torch.full_like(total, 1 / len(total))
    return Explanation(
        label=label,
        score=float(scores.probabilities[index]),
        patch_heat=_to_one(heat),
        time=time.numpy(),
        patch_difference=None if found.change is None else _to_one(found.change[0].cpu()),
        pixels=pixels[0].cpu().numpy(),
        frame_indices=clips.frame_indices[0, 0],
        frame_seconds=clips.frame_seconds[0, 0],
    )


def log_odds(features: VideoFeatures, classes: Classes, index: int) -> Tensor:
    """log(p / (1 - p)) of a class's probability in the reading of `classes`, [B]: what speaks for it rather than for the others.

    Unlike p and log p it keeps its gradient where the model is sure. Of a single class, whose p is always 1: 100 * cosine.
    """
    cosines = F.normalize(features.embedding.float(), dim=-1) @ classes.embeddings.clone().float().T
    logits = SIMILARITY_SCALE * cosines
    if len(classes.names) == 1:
        return logits[:, 0]
    readings = [logits]
    if classes.head_columns is not None and features.visual_logits is not None:
        readings.append(features.visual_logits[:, list(classes.head_columns)].float())
    table = torch.stack(readings).log_softmax(-1)  # [readings, B, K]; their mean is the ensemble
    others = torch.arange(table.shape[-1], device=table.device) != index
    return table[..., index].logsumexp(0) - table[..., others].logsumexp((0, -1))


def _to_one(values: Tensor) -> NDArray[np.float32]:
    most = values.max()
    return (values / most if most > 0 else values).numpy()

"""The four loss terms and their weighted sum (SPEC: the four heads and their losses)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.config import LossConfig

TERMS = ("contrastive", "cross_modal", "visual", "mlm")
DEFAULT_WEIGHTS: Mapping[str, float] = {name: getattr(LossConfig(), name) for name in TERMS}
SIMILARITY_SCALE = 100.0
"""What cosines are multiplied by before the softmax: the logit scale at which CLIP's training ends."""


@dataclass(frozen=True)
class Losses:
    """The named terms and their weighted sum, each a scalar; a term whose head is off is None."""

    contrastive: Tensor | None
    cross_modal: Tensor | None
    visual: Tensor | None
    mlm: Tensor | None
    total: Tensor

    def terms(self) -> dict[str, Tensor]:
        """The terms that were computed, by name, and `total`."""
        named = {name: getattr(self, name) for name in TERMS}
        return {name: value for name, value in named.items() if value is not None} | {"total": self.total}


def contrastive(video: Tensor, text: Tensor, labels: Tensor, *, logit_scale: Tensor) -> Tensor:
    """KL from the log-softmax of exp(logit_scale) * cos to the softmax of 10 * (same class), rows and columns averaged.

    `video` [B, D] and `text` [B, D] belong to the same samples, `labels` [B] are their classes; all samples of one class are
    positives of each other. In distributed training the three hold the global batch.
    """
    similarity = logit_scale.exp() * F.normalize(video.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
    target = torch.softmax(10.0 * (labels[:, None] == labels[None, :]).float(), dim=-1)  # symmetric: serves both ways
    per_direction = [
        F.kl_div(F.log_softmax(s, dim=-1), target, reduction="batchmean") for s in (similarity, similarity.T)
    ]
    return (per_direction[0] + per_direction[1]) / 2


def cross_modal(video: Tensor, class_text: Tensor, labels: Tensor, *, double_softmax: bool = False) -> Tensor:
    """Cross-entropy of 100 * cos(video [B, D], class text [K, D]) with `labels` [B].

    `double_softmax` repeats the reference implementation's fault (softmax before cross-entropy, which flattens the gradient);
    it is there for experiments only.
    """
    logits = SIMILARITY_SCALE * F.normalize(video.float(), dim=-1) @ F.normalize(class_text.float(), dim=-1).T
    return F.cross_entropy(logits.softmax(dim=-1) if double_softmax else logits, labels)


def mlm(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of word logits [B, L, W] at the masked positions of `targets` [B, L] (-100 = not masked); 0 if nothing is masked."""
    # Sum over count, not the mean: the mean of no positions would be NaN, and this form keeps the gradient graph.
    total = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return total / (targets != -100).sum().clamp(min=1)


def visual(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the visual head's logits [B, K] with `labels` [B]."""
    return F.cross_entropy(logits.float(), labels)


def combine(terms: Mapping[str, Tensor | None], weights: Mapping[str, float] = DEFAULT_WEIGHTS) -> Losses:
    """The weighted sum of the terms that are there; a term with a weight above 0 that was not computed is an error."""
    named = {name: terms.get(name) for name in TERMS}
    absent = [name for name in TERMS if weights.get(name, 0.0) > 0 and named[name] is None]
    if absent:
        raise ValueError(
            f"the loss weights ask for {', '.join(absent)}, which the model did not compute; set these weights to 0"
        )
    weighted = [
        weights[name] * value for name, value in named.items() if value is not None and weights.get(name, 0.0) > 0
    ]
    if not weighted:
        raise ValueError("no loss term counts; at least one loss weight must be above 0")
    return Losses(**named, total=torch.stack(weighted).sum())

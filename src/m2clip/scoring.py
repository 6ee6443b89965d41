"""Embeddings to scores: class embeddings, the three readings, fusion over views.

Everything here is a function of tensors, so training, evaluation and recognition read scores in one way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.errors import ConfigError
from m2clip.losses import SIMILARITY_SCALE

if TYPE_CHECKING:
    from m2clip.model.video_clip import VideoCLIP

TEXTS_PER_BATCH = 128

Reading = Literal["similarity", "visual", "ensemble"]


@dataclass(frozen=True)
class Prediction:
    """A class name and its score, a probability between 0 and 1."""

    label: str
    score: float


@dataclass(frozen=True)
class Scores:
    """Probabilities of K classes, one tensor a reading, all of the shape [..., K]; the last two need the visual head.

    `similarity` compares video and text, `visual` is the classification head, `ensemble` the mean of the two.
    """

    similarity: Tensor
    visual: Tensor | None = None
    ensemble: Tensor | None = None
    evidence: Tensor = field(kw_only=True)
    """What speaks for each class before they compete: the visual head's logits where it is read, else the cosines; [..., K].

    Probabilities say which of the classes it is, given that it is one of them. The largest evidence tells more of whether it is
    (max logit, Hendrycks et al., arXiv 1911.11132).
    """

    def __post_init__(self) -> None:
        if (self.visual is None) != (self.ensemble is None):
            raise ValueError("visual and ensemble come together")
        for tensor in (self.visual, self.ensemble, self.evidence):
            if tensor is not None and tensor.shape != self.similarity.shape:
                raise ValueError(f"shapes differ: {tuple(tensor.shape)} and {tuple(self.similarity.shape)}")

    def readings(self) -> dict[Reading, Tensor]:
        """The readings that are there, by name."""
        named: dict[Reading, Tensor | None] = {
            "similarity": self.similarity,
            "visual": self.visual,
            "ensemble": self.ensemble,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def class_embeddings(model: "VideoCLIP", texts: Sequence[Sequence[str]], *, names: Sequence[str] = ()) -> Tensor:
    """K classes with one or more texts each -> float32 [K, D] of unit norm, on the model's device.

    A class is the mean of the unit embeddings of its texts, brought back to unit norm. The model is read in evaluation
    mode. Call it once for a set of classes and keep the result: it does not depend on the videos. `names` of the classes are for the
    warning about a text that is too long.
    """
    return embed_classes(model, class_tokens(model, texts, names=names), [len(of_class) for of_class in texts])


def class_tokens(model: "VideoCLIP", texts: Sequence[Sequence[str]], *, names: Sequence[str] = ()) -> Tensor:
    """The texts of all classes as the model's text tower reads them: int64 [all texts, L], class after class, on the CPU.

    Raises ConfigError where there is no class, or a class without a text.
    """
    if not texts or any(len(of_class) == 0 for of_class in texts):
        raise ConfigError("every class needs at least one text; name at least one class")
    flat = [text for of_class in texts for text in of_class]
    owners = [name for name, of_class in zip(names, texts, strict=True) for _ in of_class] if names else ()
    # Attention is causal: cutting the padding behind the longest text changes nothing but the time it takes.
    return get_tokenizer()(flat, context_length=model.text_length, pad_to_longest=True, names=owners)


@torch.inference_mode()
def embed_classes(model: "VideoCLIP", tokens: Tensor, counts: Sequence[int]) -> Tensor:
    """What `class_embeddings` gives, from the tokens of all texts and how many of them each class has."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        batches = [model.encode_text(part.to(device)).embedding for part in tokens.split(TEXTS_PER_BATCH)]
    finally:
        model.train(training)
    return mean_of_texts(torch.cat(batches), counts)


def mean_of_texts(embeddings: Tensor, counts: Sequence[int]) -> Tensor:
    """Embeddings of all texts [M, D], class after class, and how many each class has -> float32 [K, D] of unit norm."""
    unit = F.normalize(embeddings.float(), dim=-1)
    return torch.stack([F.normalize(part.mean(0), dim=-1) for part in unit.split(list(counts))])


def scores(video: Tensor, classes: Tensor, visual_logits: Tensor | None = None) -> Scores:
    """Compare video embeddings [..., D] of any norm with class embeddings [K, D] of unit norm: probabilities [..., K].

    With the visual head's logits [..., K] there are three readings:
    similarity = softmax(100 cos), visual = softmax(logits), ensemble = their mean.
    """
    with torch.autocast(video.device.type, enabled=False):  # bfloat16 would round 100 * cosine to steps of a half
        cosines = F.normalize(video.float(), dim=-1) @ classes.float().T
    similarity = (SIMILARITY_SCALE * cosines).softmax(-1)
    if visual_logits is None:
        return Scores(similarity, evidence=cosines)
    logits = visual_logits.float()
    visual = logits.softmax(-1)
    return Scores(similarity, visual, (similarity + visual) / 2, evidence=logits)


def fuse_views(probabilities: Tensor) -> Tensor:
    """[..., V, K] -> [..., K]: the mean of probabilities (not of logits) over the views."""
    return probabilities.mean(-2)


def calibrated(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities [..., K] at another temperature: softmax(log p / temperature); above 1 less sure, below 1 surer.

    For the softmax of logits that is softmax(logits / temperature) (Guo et al., arXiv 1706.04599, eq. 9). Views, and the two readings of
    the ensemble, are averaged before (Rahaman and Thiery, arXiv 2007.08792), so that the order of the classes never changes.
    """
    if temperature == 1:
        return probabilities
    # In double precision, else different scores might become equal; 1e-45 is the smallest number of float32.
    logarithms = probabilities.double().clamp_min(1e-45).log()
    return (logarithms / temperature).softmax(-1).to(probabilities.dtype)


def top_predictions(probabilities: Tensor, labels: Sequence[str], *, top: int = 5) -> list[Prediction]:
    """[K] and K labels -> the `top` best (all where K is smaller), best first; equal scores keep the labels' order."""
    if probabilities.shape != (len(labels),):
        raise ValueError(f"{len(labels)} labels for scores of the shape {tuple(probabilities.shape)}")
    if not isinstance(top, int) or top < 1:
        raise ConfigError(f"top is {top!r}: it must be a whole number, 1 or more")
    order = probabilities.argsort(descending=True, stable=True)[:top].tolist()
    return [Prediction(labels[k], float(probabilities[k])) for k in order]

"""How good a map is: its mass on the object, what removing its best patches does, and how it follows weights and labels."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explaining.methods import Target, enlarged, scored
from m2clip.model.video_clip import VideoCLIP

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def localisation(maps: Tensor, objects: Tensor) -> dict[str, float]:
    """Maps [B, T, h, w] and objects 0 or 1 [B, T, S, S]: the mean share of a map's mass on the object (`mass`), the object's mean share
    of the pixels (`chance`), their ratio, and how often the hottest pixel of a frame lies on the object (`pointing`; Zhang et al. 2016).

    Frames without a visible object count for the mass, and are left out of the pointing.
    """
    drawn = enlarged(maps, objects.shape[-1])
    mass = ((drawn * objects).sum((1, 2, 3)) / drawn.sum((1, 2, 3)).clamp_min(1e-30)).mean()
    chance = objects.mean()
    seen = objects.flatten(2).amax(-1) > 0
    hits = objects.flatten(2).gather(2, drawn.flatten(2).argmax(2, keepdim=True))[..., 0]
    return {
        "mass": round(float(mass), 3),
        "chance": round(float(chance), 3),
        "ratio": round(float(mass / chance), 1),
        "pointing": round(float(hits[seen].mean()), 3),
    }


def deletion_and_insertion(model: VideoCLIP, clip: Tensor, heat: Tensor, target: Target) -> tuple[float, float]:
    """The area under the target (a probability) while patches of one clip [T, 3, H, W] go, or come, in the order of their heat
    [T, h, w], from the hottest on (Petsiuk et al. 2018). What is gone has the clip's mean colour. Low and high are good."""
    order = heat.flatten().argsort(descending=True)
    gone = clip.mean((0, 2, 3), keepdim=True).expand_as(clip)
    deleted, inserted = [], []
    for fraction in FRACTIONS:
        chosen = torch.zeros(heat.numel())
        chosen[order[: round(fraction * heat.numel())]] = 1
        pixels = F.interpolate(chosen.reshape(heat.shape)[:, None], size=clip.shape[-2:], mode="nearest")
        deleted.append(torch.where(pixels > 0, gone, clip))
        inserted.append(torch.where(pixels > 0, clip, gone))
    steps = torch.tensor(FRACTIONS)
    left, gained = scored(model, torch.stack(deleted + inserted), target).split(len(FRACTIONS))
    return float(torch.trapezoid(left, steps)), float(torch.trapezoid(gained, steps))


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's, of maps [B, ...] -> [B]."""
    ranks = [values.flatten(1).argsort(1).argsort(1).double() for values in (one, other)]
    a, b = (values - values.mean(1, keepdim=True) for values in ranks)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-30)).float()


def shuffled(model: Any, blocks: Sequence[int]) -> Any:
    """A copy of an M2CLIP in which each tensor of these image blocks, and of their adapters, is shuffled: its numbers, no longer what was
    learned (the model randomisation test of Adebayo et al. 2018)."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    for block in blocks:
        parts = [other.clip.visual.blocks[block]]
        for table in (other.vision_adapters.pre_attention, other.vision_adapters.pre_mlp):
            parts += [table[str(block)]] if str(block) in table else []
        for part in parts:
            for parameter in part.parameters():
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.data = parameter.data.flatten()[order].reshape(parameter.shape)
    return other

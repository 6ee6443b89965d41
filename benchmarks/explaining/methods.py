"""The methods that were compared, each as [B, T, h, w], 0 or more, from clips [B, T, 3, H, W] (normalised) and a target of each."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.model.attention_relevance import Trace, relevance, trace
from m2clip.model.video_clip import VideoCLIP, VideoFeatures

Target = Callable[[VideoFeatures], Tensor]

NAMES = {
    "relevance": "gradient-weighted attention, all blocks (Chefer et al. 2021)",
    "last_attention": "gradient-weighted attention, last block only",
    "legrad": "LeGrad: gradients of attention, all blocks (Bousselham et al. 2024)",
    "grad_cam": "Grad-CAM on the last block's tokens (Selvaraju et al. 2017)",
    "gradient_input": "gradient x input on the last block's tokens",
    "attention": "attention of the last block, of no label",
    "occlusion": "occlusion, a patch at a time (Zeiler & Fergus 2014)",
    "random": "random numbers",
}
SHIPPED = "relevance"


def fast_maps(model: VideoCLIP, clips: Tensor, target: Target) -> dict[str, Tensor]:
    """Every method that needs one or two passes, and the answer of the difference branches."""
    grid = (len(clips), clips.shape[1], *(side // model.clip.visual.patch_size for side in clips.shape[3:]))
    traced = trace(model, clips, target)
    weights, gradient = traced.attended[-1].weights_and_gradient()
    tokens, by_token = _last_tokens(model, clips, target)
    channels = by_token.reshape(len(clips), -1, by_token.shape[-1]).mean(
        1
    )  # Grad-CAM's weights: the mean over all places
    weighed = tokens.reshape(len(clips), -1, tokens.shape[-1]) @ channels[..., None]
    ours = relevance(model, clips, target)
    found = {
        "relevance": ours.patches,
        "difference": torch.zeros(grid) if ours.change is None else ours.change,
        "last_attention": (weights * gradient).clamp_min(0).mean(1)[:, 0, 1:],
        "legrad": _legrad(traced),
        "grad_cam": weighed.clamp_min(0),
        "gradient_input": (tokens * by_token).sum(-1).clamp_min(0),
        "attention": weights.mean(1)[:, 0, 1:],
        "random": torch.rand(grid, generator=torch.Generator().manual_seed(0)),
    }
    return {name: values.reshape(grid) for name, values in found.items()}


def _legrad(traced: Trace) -> Tensor:
    """Gradients of the attention weights, the positive part, mean over heads and askers, summed over blocks; from the final
    score instead of one score a block."""
    return torch.stack([one.weights_and_gradient()[1].clamp_min(0).mean((1, 2))[:, 1:] for one in traced.attended]).sum(
        0
    )


def _last_tokens(model: VideoCLIP, clips: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The patch tokens that the last block gets, [B*T, h*w, C], and their gradients."""
    seen: list[Tensor] = []
    norm: Any = model.clip.visual.blocks[-1]
    hook = norm.ln_1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.enable_grad():
            score = target(model.encode_video(clips.clone().requires_grad_())).sum()
            (gradient,) = torch.autograd.grad(score, [seen[-1]])  # the class token asks first, then all are asked
    finally:
        hook.remove()
    return seen[-1][:, 1:].detach(), gradient[:, 1:]


def occlusion(model: VideoCLIP, clip: Tensor, target: Target) -> Tensor:
    """One clip [T, 3, H, W] -> [T, h, w]: how far the target falls where a patch is filled with the clip's mean colour."""
    size = model.clip.visual.patch_size
    frames, _, height, width = clip.shape
    grid = (frames, height // size, width // size)
    mean = clip.mean((0, 2, 3))[:, None, None]
    places = [(t, y, x) for t in range(frames) for y in range(grid[1]) for x in range(grid[2])]
    whole = scored(model, clip[None], target)
    falls = []
    for start in range(0, len(places), 64):
        some = places[start : start + 64]
        hidden = clip.repeat(len(some), 1, 1, 1, 1)
        for k, (t, y, x) in enumerate(some):
            hidden[k, t, :, y * size : (y + 1) * size, x * size : (x + 1) * size] = mean
        falls.append(whole - scored(model, hidden, target))
    return torch.cat(falls).clamp_min(0).reshape(grid)


def scored(model: VideoCLIP, clips: Tensor, target: Target) -> Tensor:
    """The target of clips [B, T, 3, H, W], [B]."""
    with torch.inference_mode():
        return target(model.encode_video(clips)).clone()


def enlarged(maps: Tensor, size: int) -> Tensor:
    """[B, T, h, w] -> [B, T, size, size], as an explanation is drawn."""
    return F.interpolate(maps.flatten(0, 1)[:, None], size=(size, size), mode="bilinear")[:, 0].unflatten(
        0, maps.shape[:2]
    )

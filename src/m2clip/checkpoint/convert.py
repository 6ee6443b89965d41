"""Foreign files -> one of our checkpoints that needs no other file (`m2clip convert`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from m2clip.checkpoint.builder import create
from m2clip.checkpoint.files import read_tensors
from m2clip.checkpoint.layouts import clip_state, infer_sizes
from m2clip.checkpoint.reference import from_reference
from m2clip.config import BACKBONES, BackboneConfig
from m2clip.model.video_clip import VideoCLIP


def convert(
    source: str | Path,
    out: str | Path,
    *,
    clip_weights: str | Path | None = None,
    class_names: Sequence[str] = (),
    words: Sequence[str] = (),
    frames: int = 8,
    stride_frames: int = 0,
    quick_gelu: bool | None = None,
) -> VideoCLIP:
    """Read `source`, write `out` with all weights inside, and return the model.

    `source` holds either the reference implementation's tensors (then `clip_weights` is needed if only the trained ones are there,
    and `class_names` and `words` may name its classes and words in their order) or a plain CLIP, which gets fresh adapters.
    """
    tensors = read_tensors(source).tensors
    if any("adapter" in key for key in tensors):
        model: VideoCLIP = from_reference(
            tensors,
            clip_weights=None if clip_weights is None else read_tensors(clip_weights).tensors,
            class_names=class_names,
            words=words,
            frames=frames,
            stride_frames=stride_frames,
        )
    else:
        backbone = _backbone(tensors, where=str(source), quick_gelu=True if quick_gelu is None else quick_gelu)
        model = create(
            backbone,
            weights=source,
            class_names=class_names,
            frames=frames,
            stride_frames=stride_frames,
            quick_gelu=quick_gelu,
        )
    model.save(out, with_backbone=True)
    return model


def _backbone(tensors: Mapping[str, Tensor], *, where: str, quick_gelu: bool) -> str | BackboneConfig:
    """The named backbone of these sizes, or the sizes."""
    state, _ = clip_state(tensors, where=where)
    sizes = infer_sizes(state, quick_gelu=quick_gelu, where=where)
    named = (name for name, known in BACKBONES.items() if known.model_copy(update={"quick_gelu": quick_gelu}) == sizes)
    return next(named, sizes)

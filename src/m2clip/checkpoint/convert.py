"""Foreign files -> one of our checkpoints that needs no other file (`m2clip convert`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from m2clip.checkpoint.builder import create
from m2clip.checkpoint.files import read_tensors
from m2clip.checkpoint.layouts import clip_state, infer_sizes
from m2clip.checkpoint.publisher import stated_beside
from m2clip.checkpoint.reference import from_reference
from m2clip.config import BACKBONES, BackboneConfig, checked
from m2clip.errors import CheckpointError
from m2clip.model.video_clip import VideoCLIP

_WIDEST_OF_OPENAI = 1024


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
        backbone = _backbone(tensors, source=Path(source), quick_gelu=True if quick_gelu is None else quick_gelu)
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


def _backbone(tensors: Mapping[str, Tensor], *, source: Path, quick_gelu: bool) -> str | BackboneConfig:
    """The named backbone of these sizes, or the sizes."""
    state, _ = clip_state(tensors, where=str(source))
    sizes = infer_sizes(state, quick_gelu=quick_gelu, where=str(source))
    stated = stated_beside(source)
    # OpenAI's heads have 64 channels, those of larger CLIPs 80, 88 or 104: no tensor shows it, and a wrong guess gives wrong scores.
    if stated.vision_heads is None and sizes.vision_width > _WIDEST_OF_OPENAI:
        raise CheckpointError(
            f"{source} does not say how many heads its image tower of {sizes.vision_width} channels has; convert it where it lies in a "
            "copy of its hub folder, beside open_clip_config.json or config.json"
        )
    heads = {"vision_heads": stated.vision_heads, "text_heads": stated.text_heads}
    known_heads = {name: count for name, count in heads.items() if count is not None}
    sizes = checked(BackboneConfig, sizes.model_dump() | known_heads, where=f"the config file beside {source}")
    named = (name for name, known in BACKBONES.items() if known.model_copy(update={"quick_gelu": quick_gelu}) == sizes)
    return next(named, sizes)

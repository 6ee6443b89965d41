"""A CLIP's weights, wherever they lie: in the package, in a file, on the hub, in a checkpoint of ours."""

import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from m2clip.builtin.weights import WEIGHTS as TINY_CLIP
from m2clip.builtin.weights import load_tiny_clip
from m2clip.checkpoint.files import read_tensors, sha256
from m2clip.checkpoint.layouts import clip_state, infer_sizes
from m2clip.checkpoint.publisher import Stated, clip_from_hub, stated_beside
from m2clip.checkpoint.record import read_info
from m2clip.config import BACKBONES, BackboneConfig
from m2clip.errors import CheckpointError
from m2clip.model.info import WeightSource

OPENAI_HUB = {
    "ViT-B-32": "openai/clip-vit-base-patch32",
    "ViT-B-16": "openai/clip-vit-base-patch16",
    "ViT-L-14": "openai/clip-vit-large-patch14",
    "ViT-L-14-336": "openai/clip-vit-large-patch14-336",
}
"""Where OpenAI publishes each of its backbones on the Hugging Face hub."""

State = dict[str, Tensor]


def clip_weights(
    name: str, sizes: BackboneConfig, source: str | None, *, chosen: Collection[str] | None
) -> tuple[BackboneConfig, State | None, WeightSource]:
    """Sizes, tensors in CLIP's names, float32 (None: random), and where they came from.

    `name` and `sizes`: the backbone that is asked for. `source`: None, "builtin", "openai", a hub id or a path. The sizes get activation
    and pixel statistics as the weights' publisher states them, but for those `chosen` (None: all are known).

    Raises CheckpointError, one sentence, for weights that cannot be had, are no CLIP, or another CLIP than was asked for.
    """
    if name == "builtin" and source in (None, "builtin"):
        shipped, state = load_tiny_clip()
        return sizes.model_copy(update=shipped), state, WeightSource(source="builtin", sha256=sha256(TINY_CLIP))
    if source is None:
        return sizes, None, WeightSource()
    identity: str | None = None
    if source == "openai":
        if name not in OPENAI_HUB:
            raise CheckpointError(f"OpenAI has no weights for the backbone {name!r}; it has {', '.join(OPENAI_HUB)}")
        identity = OPENAI_HUB[name]
    elif not is_path(source):
        identity = source
    path = Path(source) if identity is None else clip_from_hub(identity)
    file = read_tensors(path)
    if file.metadata.get("format") == "m2clip" and not any(key.startswith("clip.") for key in file.tensors):
        raise CheckpointError(
            f"{source} is a checkpoint of trained tensors without the CLIP that they sit in; pass the CLIP's own file as weights"
        )
    state, _ = clip_state(file.tensors, where=source)
    if chosen is not None:
        if file.metadata.get("format") == "m2clip":
            own = read_info(file.metadata, where=source)
            stated = Stated(own.sizes.quick_gelu, own.sizes.mean, own.sizes.std)
            if own.trained:
                warnings.warn(f"the frozen CLIP of {source} is used; what was trained on it is left out", stacklevel=3)
        else:
            stated = stated_beside(path, identity=identity)
        for tower in ("vision_heads", "text_heads"):
            if getattr(stated, tower) not in (None, getattr(sizes, tower)):
                raise CheckpointError(
                    f"{source} has {getattr(stated, tower)} {tower} by its config file, the backbone {name} has "
                    f"{getattr(sizes, tower)}; pass its sizes as the backbone"
                )
        # What the caller chose stands above what the publisher says.
        sizes = replace(stated, **dict.fromkeys(chosen)).applied(sizes)
        if "quick_gelu" not in chosen and stated.quick_gelu is None and not file.is_torchscript:
            warnings.warn(
                f"{source} does not say which activation it was trained with; {'QuickGELU' if sizes.quick_gelu else 'GELU'} is used "
                "(OpenAI's weights want QuickGELU, most of open_clip's GELU; pass quick_gelu to choose)",
                stacklevel=3,
            )
    _same_sizes(sizes, infer_sizes(state, quick_gelu=sizes.quick_gelu, where=source), name=name, where=source)
    return sizes, state, WeightSource(source=source, sha256=file.sha256)


def is_path(source: str) -> bool:
    """A path exists, or looks like one; a hub id is "owner/name" and no file ends so."""
    known = (".safetensors", ".pt", ".pth", ".bin")
    return (
        Path(source).exists() or source.endswith(known) or source.startswith((".", "/", "~")) or source.count("/") != 1
    )


def _same_sizes(asked: BackboneConfig, found: BackboneConfig, *, name: str, where: str) -> None:
    # Heads cannot be read off tensors; they follow the family's rule, which custom sizes need not.
    skipped = {"vision_heads", "text_heads", "mean", "std", "quick_gelu"}
    want, have = asked.model_dump(exclude=skipped), found.model_dump(exclude=skipped)
    differences = [f"{key} {have[key]} instead of {want[key]}" for key in want if want[key] != have[key]]
    if differences:
        fitting = next((other for other, s in BACKBONES.items() if s.model_dump(exclude=skipped) == have), None)
        remedy = f"use the backbone {fitting}" if fitting else "pass its sizes as the backbone"
        raise CheckpointError(f"{where} is another CLIP than {name}: {', '.join(differences)}; {remedy}")

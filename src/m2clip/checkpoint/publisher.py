"""What the publisher of a CLIP says beside its weights: activation, heads and pixel statistics, which no tensor shows."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m2clip.checkpoint.files import CLIP_NAMES, from_hub
from m2clip.config import BackboneConfig
from m2clip.errors import CheckpointError

RGB = tuple[float, float, float]

# open_clip says everything in the first; transformers the activation in the second, the statistics in the third.
_CONFIG_NAMES = ("open_clip_config.json", "config.json", "preprocessor_config.json")
_MOST_BYTES = 1 << 20  # a config takes a few kB; what is longer is cut, and then no JSON
_MOST_HEADS = 2**16
_FAR_OUTSIDE = 1e6  # pixels are in 0..1; a whole number may also be too long for a float


@dataclass(frozen=True)
class Stated:
    """What is known of how the weights want to be used; None: nobody says it."""

    quick_gelu: bool | None = None
    mean: RGB | None = None
    """Mean of the training pixels, RGB in 0..1."""
    std: RGB | None = None
    """Standard deviation of the training pixels, RGB in 0..1."""
    vision_heads: int | None = None
    """Attention heads of the image tower; None: its channels by 64, as OpenAI has them."""
    text_heads: int | None = None
    """Attention heads of the text tower; None: as above."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to ask for."""
        return None not in (self.quick_gelu, self.mean, self.std)

    def beside(self, other: "Stated") -> "Stated":
        """This, and what only the other says."""
        return Stated(
            other.quick_gelu if self.quick_gelu is None else self.quick_gelu,
            other.mean if self.mean is None else self.mean,
            other.std if self.std is None else self.std,
            self.vision_heads or other.vision_heads,
            self.text_heads or other.text_heads,
        )

    def applied(self, sizes: BackboneConfig) -> BackboneConfig:
        """The sizes with activation and statistics as they are stated."""
        known = {"quick_gelu": self.quick_gelu, "mean": self.mean, "std": self.std}
        return sizes.model_copy(update={name: value for name, value in known.items() if value is not None})


def clip_from_hub(identity: str) -> Path:
    """A CLIP's weight file in a hub repository."""
    return from_hub(identity, CLIP_NAMES)


def stated_beside(path: Path, *, identity: str | None = None) -> Stated:
    """What the config files in the folder of a weight file say; those that are missing are fetched from its hub repository, if it has one.

    A file of the user's own naming has no config files: what lies beside it may belong to other weights.
    Raises CheckpointError for statistics that cannot be.
    """
    stated = Stated()
    if path.name not in CLIP_NAMES:
        return stated
    for name in _CONFIG_NAMES:
        config = path.parent / name
        if identity is not None and not config.is_file():
            try:
                config = from_hub(identity, (name,))
            except CheckpointError:
                continue
        stated = stated.beside(stated_in(config))
        if stated.complete:
            break
    return stated


def stated_in(config: Path) -> Stated:
    """What a CLIP's config.json or preprocessor_config.json (transformers) or open_clip_config.json says; nothing for another file."""
    try:
        with config.open("rb") as file:
            values = json.loads(file.read(_MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return Stated()
    if not isinstance(values, dict):
        return Stated()
    if isinstance(values.get("model_cfg"), dict):
        pixels, model = values.get("preprocess_cfg"), values["model_cfg"]
        quick = bool(model.get("quick_gelu", False))
        stated = _with_pixels(quick, pixels if isinstance(pixels, dict) else {}, "mean", "std", where=config)
        width, channels = _number(model, "vision_cfg", "width"), _number(model, "vision_cfg", "head_width")
        heads = width // channels if width and channels else None
        return replace(stated, vision_heads=heads, text_heads=_number(model, "text_cfg", "heads"))
    if "image_mean" in values or "image_std" in values:
        # transformers may leave the normalisation out altogether; then pixels stay in 0..1.
        if values.get("do_normalize") is False:
            return Stated(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return _with_pixels(None, values, "image_mean", "image_std", where=config)
    if "vision_config" in values or values.get("model_type") == "clip":
        vision = values.get("vision_config")
        # transformers leaves out what equals its default, and its default is quick_gelu.
        return Stated(
            (vision.get("hidden_act", "quick_gelu") if isinstance(vision, dict) else "quick_gelu") == "quick_gelu",
            vision_heads=_number(values, "vision_config", "num_attention_heads"),
            text_heads=_number(values, "text_config", "num_attention_heads"),
        )
    return Stated()


def _number(values: dict[str, Any], section: str, name: str) -> int | None:
    """A whole number above 0 in a part of the config; None where there is none."""
    part = values.get(section)
    value = part.get(name) if isinstance(part, dict) else None
    return value if isinstance(value, int) and 0 < value <= _MOST_HEADS else None


def _with_pixels(quick: bool | None, values: dict[str, Any], mean: str, std: str, *, where: Path) -> Stated:
    return Stated(quick, _rgb(values, mean, where=where), _rgb(values, std, above=0, where=where))


def _rgb(values: dict[str, Any], name: str, *, above: float = -math.inf, where: Path) -> RGB | None:
    value = values.get(name)
    if value is None:
        return None
    numbers = [value] * 3 if isinstance(value, int | float) else value
    if (
        not isinstance(numbers, list)
        or len(numbers) != 3
        or not all(isinstance(one, int | float) and abs(one) < _FAR_OUTSIDE and one > above for one in numbers)
    ):
        wanted = "three numbers above 0" if above == 0 else "three numbers"
        raise CheckpointError(f"{where}: {name} is {str(value)[:80]} instead of {wanted}; mend it, or remove the entry")
    red, green, blue = map(float, numbers)
    return red, green, blue

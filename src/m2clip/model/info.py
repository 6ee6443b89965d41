"""What a model says of itself: everything that using it needs, written as JSON into each checkpoint's header."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from m2clip.config import BackboneConfig

Ted = Literal["both", "enhancement", "difference", "off"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class WeightSource(_Record):
    """Where the frozen CLIP weights came from, so that they can be found again and told from others."""

    source: str | None = None
    """What was asked for: "builtin", "openai", a hub id or a path; None: no file (random, or given in memory)."""
    sha256: str | None = None
    """SHA-256 of the file that was read."""


class AdapterLayout(_Record):
    """Which adapters sit where. Blocks count from 0."""

    ted: Ted = "both"
    """Branches of each TED-Adapter."""
    pre_mlp: tuple[int, ...] = ()
    """Vision blocks with a TED-Adapter before their MLP."""
    pre_attention: tuple[int, ...] = ()
    """Vision blocks with a TED-Adapter before their attention."""
    ted_width: int = 0
    """Bottleneck channels of the TED-Adapters."""
    text: tuple[int, ...] = ()
    """Text blocks with an adapter before their MLP."""
    text_width: int = 0
    """Bottleneck channels of the text adapters, the one of the masked-word block included."""
    output_temporal_width: int = 0
    """Bottleneck channels of the output temporal adapter; 0: there is none."""


class ModelInfo(_Record):
    """The record of a model. A change gives a new record: `info.model_copy(update=...)`."""

    backbone: str
    """A name of `config.BACKBONES`, or "custom"."""
    sizes: BackboneConfig
    """Sizes, activation and pixel statistics of the CLIP."""
    weights: WeightSource = WeightSource()
    """Source of the frozen weights."""
    layout: AdapterLayout = AdapterLayout()
    """The adapters."""
    image_size: int
    """Side of the square input, pixels; other than `sizes.image_size`: positions are interpolated."""
    frames: int = 8
    """Frames of a training clip. Any number can be encoded; this one is the default."""
    stride_frames: int = 0
    """Gap between a clip's frames, in frames of the video; 0: uniform segments over the whole video."""
    template: str = "A video of {}"
    """The sentence that class names are put into."""
    class_names: tuple[str, ...] = ()
    """The K trained classes, in the order of the visual head."""
    texts: tuple[tuple[str, ...], ...] = ()
    """The texts of each class as the text tower sees them, the first being the training text."""
    words: tuple[str, ...] = ()
    """The W words that the masked-word head predicts."""
    training: dict[str, Any] = {}
    """Recipe, epochs and validation figures of the training run; empty: the adapters are fresh."""

    @property
    def trained(self) -> bool:
        """Whether the adapters have been trained at all."""
        return bool(self.training)

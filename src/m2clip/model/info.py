"""What a model says of itself: everything that using it needs, written as JSON into each checkpoint's header."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from m2clip.config import BackboneConfig, Method
from m2clip.config.file import need
from m2clip.data.sampling import ClipSampling
from m2clip.errors import ConfigError

Width = Annotated[int, Field(ge=0, le=2**16)]
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
    ted_width: Width = 0
    """Bottleneck channels of the TED-Adapters."""
    text: tuple[int, ...] = ()
    """Text blocks with an adapter before their MLP."""
    text_width: Width = 0
    """Bottleneck channels of the text adapters, the one of the masked-word block included."""
    output_temporal_width: Width = 0
    """Bottleneck channels of the output temporal adapter; 0: there is none."""


class RivalLayout(_Record):
    """What the rivals of M2-CLIP add to CLIP (`model/rivals`). A size that a method has no use for is 0."""

    width: Width = 0
    """Bottleneck channels of the adapters of ST-Adapter or AIM."""
    prompt_tokens: Annotated[int, Field(ge=0, le=2**10)] = 0
    """Learned context vectors in front of a class name."""


Temperature = Annotated[float, Field(ge=1e-4, le=1e4, allow_inf_nan=False)]


class Calibration(_Record):
    """How a model's scores of one set of labels are to be read: set on validation videos (`m2clip calibrate`)."""

    texts_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The labels, by the texts that are read of them (`texts_sha256`). Scores of other labels are left as they are."""
    temperatures: dict[Literal["similarity", "visual", "ensemble"], Temperature]
    """What the logarithms of a reading's probabilities are divided by (`scoring.calibrated`)."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """A video whose evidence (`scoring.Scores.evidence`) is below this shows none of the labels; None: there is no such answer."""
    evidence: Literal["cosine", "visual logit"] = "cosine"
    """What the threshold is compared with."""
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The adapter strength that the threshold was set at."""
    measured: dict[str, Any] = {}
    """The validation videos, and what changed on them."""

    def holds_for(self, texts: Sequence[Sequence[str]]) -> bool:
        """Whether it was set on the labels with these texts, in any order."""
        return self.texts_sha256 == texts_sha256(texts)

    def threshold_for(self, *, visual_head: bool, strength: float) -> float | None:
        """The threshold, where the same evidence is read at the same strength; else None."""
        same = self.strength == strength and (self.evidence == "visual logit") == visual_head
        return self.threshold if same else None


def texts_sha256(texts: Sequence[Sequence[str]]) -> str:
    """SHA-256, in hex, of the texts of all labels; the order of the labels does not matter."""
    return hashlib.sha256(json.dumps(sorted(map(list, texts))).encode()).hexdigest()


class ModelInfo(_Record):
    """The record of a model. A change gives a new record: `info.model_copy(update=...)`."""

    backbone: str
    """A name of `config.BACKBONES`, or "custom"."""
    sizes: BackboneConfig
    """Sizes, activation and pixel statistics of the CLIP."""
    weights: WeightSource = WeightSource()
    """Source of the frozen weights."""
    method: Method = "m2clip"
    """What is trained, and how."""
    layout: AdapterLayout = AdapterLayout()
    """The adapters of M2-CLIP; a rival has none of them."""
    rival: RivalLayout = RivalLayout()
    """What a rival has instead."""
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of each adapter's residual that is added, unless told otherwise: 1 fully adapted, 0 the frozen CLIP."""
    image_size: Annotated[int, Field(ge=1, le=2048)]
    """Side of the square input, pixels; other than `sizes.image_size`: positions are interpolated."""
    frames: Annotated[int, Field(ge=1, le=1024)] = 8
    """Frames of a training clip. Any number can be encoded; this one is the default."""
    stride_frames: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Gap between a clip's frames, in frames of the video; 0: not dense."""
    fps: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Frames that a clip takes of each second."""
    clip_seconds: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Seconds from a clip's first frame to its last; none of the three set: uniform segments over the whole video."""
    template: str = "A video of {}"
    """The sentence that class names are put into."""
    more_templates: tuple[str, ...] = ()
    """Further sentences; the embedding of a class is the mean over all its texts."""
    class_names: tuple[str, ...] = ()
    """The K trained classes, in the order of the visual head."""
    texts: tuple[tuple[str, ...], ...] = ()
    """The texts of each class as the text tower sees them, the first being the training text."""
    words: tuple[str, ...] = ()
    """The W words that the masked-word head predicts."""
    training: dict[str, Any] = {}
    """Recipe, epochs and validation figures of the training run; empty: the adapters are fresh."""
    calibration: Calibration | None = None
    """How its scores are read; None: as they come out of the softmax."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        """A header may come from a stranger: what it claims is checked before anything is built by it."""
        layout, sizes, names = self.layout, self.sizes, self.class_names
        need(self.rival.width > 0 or self.method not in ("st-adapter", "aim"), "the rival's width is 0")
        need(self.rival.prompt_tokens > 0 or self.method != "text-prompts", "the rival's prompt_tokens is 0")
        need(self.rival.prompt_tokens + 3 <= sizes.context_length, "the learned prompt leaves no room for a class name")
        need(self.image_size % sizes.patch_size == 0, "image_size is no multiple of the patch size")
        try:
            _ = self.sampling
        except ConfigError as error:
            raise ValueError(str(error)) from None
        for name, blocks, count in (
            ("pre_mlp", layout.pre_mlp, sizes.vision_layers),
            ("pre_attention", layout.pre_attention, sizes.vision_layers),
            ("text", layout.text, sizes.text_layers),
        ):
            need(len(set(blocks)) == len(blocks), f"the layout's {name} names a block twice")
            need(all(0 <= block < count for block in blocks), f"the layout's {name} names a block that is not there")
        need(layout.ted_width > 0 or not (layout.pre_mlp or layout.pre_attention), "the layout's ted_width is 0")
        need(layout.text_width > 0 or not (layout.text or self.words), "the layout's text_width is 0")
        need(len(set(names)) == len(names) and all(name.strip() for name in names), "class names are empty or repeat")
        need(len(self.texts) == len(names) and all(self.texts), "the classes need one text or more each")
        return self

    @classmethod
    def described(cls, *, where: str, **values: Any) -> Self:
        """The record of these values; ConfigError, one sentence that begins with `where`, for values that do not fit together."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {first_fault(error)}; mend it and call again") from None

    @property
    def sampling(self) -> ClipSampling:
        """Which frames its training clips took."""
        return ClipSampling(self.frames, self.stride_frames, self.fps, self.clip_seconds)

    @property
    def further_texts(self) -> tuple[tuple[str, ...], ...]:
        """The texts of each class beside those that the templates make of its name."""
        return tuple(of_class[1 + len(self.more_templates) :] for of_class in self.texts)

    def calibration_for(self, texts: Sequence[Sequence[str]]) -> Calibration | None:
        """The calibration, where it was set on the labels with these texts."""
        return self.calibration if self.calibration is not None and self.calibration.holds_for(texts) else None

    @property
    def trained(self) -> bool:
        """Whether the adapters have been trained at all."""
        return bool(self.training)


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found, as "place: what is wrong"."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message

"""The settings of a model: the frozen CLIP, the method that adapts it, and what is added where. Nothing here imports torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, field_validator, model_validator

from m2clip.config.file import Settings, nearest, need

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of OpenAI CLIP's training pixels, RGB in 0..1."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of OpenAI CLIP's training pixels, RGB in 0..1."""

# Far above every CLIP, and low enough that sizes read from a stranger's file are refused before they cost memory or time.
Width = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=256)]
RGB = tuple[float, float, float]


Method = Literal["m2clip", "frozen", "linear-probe", "full", "st-adapter", "aim", "text-prompts"]
Term = Literal["contrastive", "cross_modal", "visual", "mlm"]
METHOD_TERMS: Mapping[Method, tuple[Term, ...]] = {
    "m2clip": ("contrastive", "cross_modal", "visual", "mlm"),
    "frozen": (),
    "linear-probe": ("visual",),
    "full": ("contrastive", "cross_modal"),
    "st-adapter": ("contrastive", "cross_modal", "visual"),
    "aim": ("contrastive", "cross_modal", "visual"),
    "text-prompts": ("contrastive", "cross_modal"),
}
"""The methods, and the loss terms that reach what each of them trains."""


class BackboneConfig(Settings):
    """Sizes of a CLIP: an image tower and a text tower that meet in one embedding space."""

    image_size: Annotated[int, Field(ge=1, le=2048)]
    """Side of the square input, pixels."""
    patch_size: PositiveInt
    """Side of a patch, pixels."""
    vision_width: Width
    """Channels of the image tower."""
    vision_layers: Layers
    """Blocks of the image tower."""
    vision_heads: Width
    """Attention heads of the image tower."""
    embed_dim: Width
    """Width of the joint embedding."""
    text_width: Width
    """Channels of the text tower."""
    text_layers: Layers
    """Blocks of the text tower."""
    text_heads: Width
    """Attention heads of the text tower."""
    vocab_size: Annotated[int, Field(ge=1, le=2**24)] = 49408
    """Tokens of the vocabulary; 49408 is CLIP's."""
    context_length: Annotated[int, Field(ge=3, le=2**16)] = 77
    """Longest text, tokens, with start and end."""
    quick_gelu: bool = True
    """x * sigmoid(1.702 x), as OpenAI's weights want, instead of the exact GELU."""
    mean: RGB = CLIP_MEAN
    """Mean of the training pixels, RGB in 0..1."""
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = CLIP_STD
    """Standard deviation of the training pixels, RGB in 0..1."""

    def towers(self) -> dict[str, Any]:
        """What `model.clip.CLIP` is built from: all but the pixel statistics."""
        return self.model_dump(exclude={"mean", "std"})

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        need(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}",
        )
        for tower in ("vision", "text"):
            width, heads = getattr(self, f"{tower}_width"), getattr(self, f"{tower}_heads")
            need(width % heads == 0, f"{tower}_width {width} must be a multiple of {tower}_heads {heads}")
        return self


def _vit(image: int, patch: int, width: int, layers: int, text_width: int) -> BackboneConfig:
    # OpenAI's ViTs: heads of 64 channels everywhere, twelve text blocks, embedding as wide as the text tower.
    return BackboneConfig(
        image_size=image, patch_size=patch, vision_width=width, vision_layers=layers, vision_heads=width // 64,
        embed_dim=text_width, text_width=text_width, text_layers=12, text_heads=text_width // 64,
    )  # fmt: skip


BACKBONES: dict[str, BackboneConfig] = {
    "ViT-B-32": _vit(224, 32, 768, 12, 512),
    "ViT-B-16": _vit(224, 16, 768, 12, 512),
    "ViT-L-14": _vit(224, 14, 1024, 24, 768),
    "ViT-L-14-336": _vit(336, 14, 1024, 24, 768),
    "builtin": BackboneConfig(
        image_size=64, patch_size=8, vision_width=128, vision_layers=4, vision_heads=2,
        embed_dim=128, text_width=128, text_layers=4, text_heads=2,
    ),
}  # fmt: skip
"""Backbones with a name. `builtin` is the tiny CLIP in the package: it knows coloured shapes, not the world."""

Backbone = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[BackboneConfig, Tag("<sizes>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<sizes>"),
]


_M2CLIP_SETTINGS = (
    *("ted", "ted_positions", "ted_layers", "ted_width"),
    *("text_adapter_layers", "text_adapter_width", "output_temporal"),
)


class ModelConfig(Settings):
    """The frozen CLIP and what is added to it."""

    backbone: Backbone = "builtin"
    """A name of BACKBONES, or the sizes themselves."""
    weights: str | None = None
    """Where the CLIP weights come from: openai, a hub id, a path; none: random (the shipped file for `builtin`)."""
    image_size: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Side of the square input, pixels; none: the backbone's. Another size interpolates the position embeddings."""
    method: Method = "m2clip"
    """What is trained: M2-CLIP's adapters and heads, or one of its rivals (docs/rivals)."""
    ted: Literal["both", "enhancement", "difference", "off"] = "both"
    """Branches of the TED-Adapters."""
    ted_positions: tuple[Literal["pre_mlp", "pre_attention"], ...] = ("pre_mlp",)
    """Where in a block a TED-Adapter sits."""
    ted_layers: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Blocks with TED-Adapters, counted from 0; none: all."""
    ted_width: Width | None = None
    """Bottleneck channels of a TED-Adapter; none: half the vision width."""
    text_adapter_layers: Annotated[int, Field(ge=0)] = 1
    """How many of the last text blocks have an adapter."""
    text_adapter_width: Width | None = None
    """Bottleneck channels of a text adapter; none: three quarters of the text width."""
    output_temporal: bool | None = None
    """Whether the frame embeddings pass the output temporal adapter; none: unless `ted` is off, so that off leaves no sense of time."""
    adapter_width: Width | None = None
    """Bottleneck channels of a rival's adapters; none: its paper's share (half the vision width for st-adapter, a quarter for aim)."""
    prompt_tokens: Annotated[int, Field(ge=1, le=64)] | None = None
    """Learned vectors in front of a class name, for text-prompts; none: 16."""
    template: str = "A video of {}"
    """The sentence a class name is put into, at {}."""
    more_templates: tuple[str, ...] = ()
    """Further sentences; the embedding of a class is the mean over all its texts."""

    @property
    def sizes(self) -> BackboneConfig:
        """The backbone's sizes, with `image_size` put in."""
        sizes = BACKBONES[self.backbone] if isinstance(self.backbone, str) else self.backbone
        return sizes if self.image_size is None else sizes.model_copy(update={"image_size": self.image_size})

    @field_validator("backbone", mode="after")
    @classmethod
    def _known_backbone(cls, value: str | BackboneConfig) -> str | BackboneConfig:
        if isinstance(value, str):
            need(
                value in BACKBONES,
                f"it must be one of {', '.join(BACKBONES)}, or a mapping of sizes{nearest(value, BACKBONES)}",
            )
        return value

    @field_validator("template", "more_templates", mode="after")
    @classmethod
    def _one_gap(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for template in (value,) if isinstance(value, str) else value:
            need(
                template.count("{}") == 1 and template.count("{") == 1 and template.count("}") == 1,
                "it must hold {} exactly once, for the class name, and no other brace",
            )
        return value

    @model_validator(mode="after")
    def _settings_of_the_method(self) -> Self:
        """A setting that the method would ignore is a mistake."""
        owners: dict[str, tuple[Method, ...]] = {
            **dict.fromkeys(_M2CLIP_SETTINGS, ("m2clip",)),
            "adapter_width": ("st-adapter", "aim"),
            "prompt_tokens": ("text-prompts",),
        }
        for name, methods in owners.items():
            need(
                self.method in methods or getattr(self, name) == type(self).model_fields[name].default,
                f"{name} is set, but the method {self.method} has no use for it; leave it out, or set method to {' or '.join(methods)}",
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        sizes = self.sizes
        need(
            sizes.image_size % sizes.patch_size == 0,
            f"image_size {sizes.image_size} must be a multiple of the backbone's patch size {sizes.patch_size}",
        )
        need(len(set(self.ted_positions)) == len(self.ted_positions), "ted_positions names a position twice")
        need(
            self.ted == "off" or len(self.ted_positions) > 0,
            "ted_positions is empty: name pre_mlp or pre_attention, or set ted to off",
        )
        layers = self.ted_layers or ()
        last = max(layers, default=0)
        need(len(set(layers)) == len(layers), "ted_layers names a block twice")
        need(
            self.ted_layers is None or self.ted == "off" or len(layers) > 0,
            "ted_layers is empty: leave it out for all blocks, or set ted to off",
        )
        need(
            last < sizes.vision_layers,
            f"ted_layers names block {last}, but the image tower has the blocks 0 to {sizes.vision_layers - 1}",
        )
        need(
            self.text_adapter_layers <= sizes.text_layers,
            f"text_adapter_layers is {self.text_adapter_layers}, but the text tower has {sizes.text_layers} blocks",
        )
        return self

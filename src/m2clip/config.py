"""The settings of a run: what may be set, in which unit, and what fits together.

A run is one YAML file plus dotted overrides (`train.epochs=3`). Every mistake ends in one sentence (ConfigError) that
names the file and line, the key, the value, what is allowed and what to do. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, field_validator, model_validator

from m2clip.config_file import Model, Settings, Source, nearest, need, validate

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of OpenAI CLIP's training pixels, RGB in 0..1."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of OpenAI CLIP's training pixels, RGB in 0..1."""

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
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


class DataConfig(Settings):
    """The videos of a run and how clips are taken from them. Paths are relative to the working directory."""

    train: str | None = None
    """Training videos: a folder with one folder a class, a CSV, or a list file."""
    val: str | None = None
    """Videos that choose the best checkpoint, one view each; none: the last is the best."""
    test: str | None = None
    """Videos that the best checkpoint is measured on at the end, by `eval`; the report goes to the run's folder."""
    classes: str | None = None
    """Class table: CSV `id,name` or one name a line; none: the names in the folder or CSV of `train`."""
    texts: str | None = None
    """JSON file `{"class": ["text", ...]}`: texts of each class beside those of the templates and the class table."""
    root: str | None = None
    """Folder that the paths inside the lists are relative to; none: the list's own folder."""
    frames: Annotated[int, Field(ge=1, le=1024)] = 8
    """Frames in a clip."""
    stride_frames: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Gap between a clip's frames, in frames of the video; 0: uniform segments over the whole video."""
    recipe: Literal["kinetics", "something"] = "kinetics"
    """Training augmentation: scale and crop (kinetics), or random resized crop with RandAugment (something)."""
    flip: bool | None = None
    """Whether training clips are mirrored at random; none: yes for kinetics, no for something."""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Processes that decode videos, for each training process; 0: in the training process itself."""
    on_bad_file: Literal["skip", "stop"] = "skip"
    """What an unreadable video does: named, counted and skipped, or the end of the run."""

    @property
    def flips(self) -> bool:
        """Whether training clips are mirrored, after the recipe's default."""
        return self.recipe == "kinetics" if self.flip is None else self.flip


class LossConfig(Settings):
    """Weights of the loss terms. A weight of 0 removes the term, its head and its cost."""

    contrastive: Weight = 0.5
    """Video-text contrast over the global batch."""
    cross_modal: Weight = 0.5
    """Cross-entropy of the similarities to all class texts."""
    visual: Weight = 1.0
    """Cross-entropy of the visual classification head."""
    mlm: Weight = 0.1
    """Masked words of the class text, predicted from the video."""
    double_softmax: bool = False
    """Softmax before the cross-entropy of `cross_modal`, as the reference code has it; for comparisons only."""
    mlm_policy: Literal["verbs", "random", "off"] = "verbs"
    """Which words are masked; off removes the MLM head like a weight of 0."""
    mlm_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a text's words that is masked, at least one word."""

    @property
    def mlm_weight(self) -> float:
        """The weight of the MLM term, 0 where nothing is masked."""
        return 0.0 if self.mlm_policy == "off" else self.mlm

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        total = self.contrastive + self.cross_modal + self.visual + self.mlm_weight
        need(
            total > 0,
            "every loss weight is 0, so nothing would be learned; give contrastive, cross_modal or visual a weight",
        )
        return self


class TrainConfig(Settings):
    """How the adapters and heads are trained."""

    epochs: Annotated[int, Field(gt=0, le=10**6)] = 12
    """Passes over the training videos."""
    stop_after_epoch: PositiveInt | None = None
    """Leave off after this epoch, to be resumed later; the schedule still spans all `epochs`."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
    """Passes over which the learning rate rises linearly from 0; then a cosine takes it to 0."""
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 32
    """Videos an optimiser step sees, over all processes and accumulated parts."""
    accumulate: PositiveInt = 1
    """Parts that a step's batch is cut into to save memory; the contrastive loss sees one part at a time."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; none: 1e-3 * batch_size / 256."""
    text_lr_scale: Weight = 0.5
    """Learning rate of the text adapters, as a multiple of the others'."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay; biases have none."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of a step's gradient; none: no limit."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The one source of randomness: initial weights, order, sampling, augmentation, masking, dropout."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the forward and backward pass; trained tensors are float32 in any case."""
    class_text: Literal["first", "mean"] = "first"
    """What stands for a class in the loss: its name in the template (first), or the mean over all its texts, as in evaluation;
    the mean encodes every text of every class at each step."""
    best_by: Literal["similarity", "visual", "ensemble"] | None = None
    """The reading whose validation top-1 chooses the best checkpoint; none: similarity (visual for a linear probe)."""
    average: Literal["off", "ema", "swa"] = "off"
    """Whether checkpoints hold an average of the trained weights: over all steps, the latest counting most (ema), or over the
    ends of the last epochs (swa)."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the old average that each step keeps; none: n / (n + 1) for n = a tenth of the run's steps, so that the average
    looks back over a tenth of the run."""
    swa_epochs: Annotated[int, Field(ge=2)] | None = None
    """How many of the last epochs are averaged; none: a quarter of them, at least two."""

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return 1e-3 * self.batch_size / 256 if self.lr is None else self.lr

    @property
    def averaged_epochs(self) -> int:
        """How many of the last epochs `swa` averages."""
        return max(2, -(-self.epochs // 4)) if self.swa_epochs is None else self.swa_epochs

    def decay(self, steps: int) -> float:
        """The decay of `ema` in a run of so many steps."""
        return steps / (steps + 10) if self.ema_decay is None else self.ema_decay

    @model_validator(mode="after")
    def _average_fits(self) -> Self:
        for name, kind in (("ema_decay", "ema"), ("swa_epochs", "swa")):
            need(
                getattr(self, name) is None or self.average == kind,
                f"{name} is set, but average is {self.average}; leave it out, or set average to {kind}",
            )
        need(
            self.average != "swa" or self.averaged_epochs <= self.epochs,
            f"swa averages the ends of {self.averaged_epochs} epochs, but there are only {self.epochs}; "
            "give a smaller swa_epochs (at least 2), more epochs, or another average",
        )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        need(
            self.warmup_epochs < self.epochs,
            f"warmup_epochs ({self.warmup_epochs:g}) must be smaller than epochs ({self.epochs})"
            ": the schedule would never leave its warm-up",
        )
        need(
            self.batch_size % self.accumulate == 0,
            f"batch_size {self.batch_size} must be a multiple of accumulate {self.accumulate}",
        )
        return self


class EvalConfig(Settings):
    """How the videos of `data.test` are seen at the end of the run."""

    views_temporal: Annotated[int, Field(ge=1, le=99)] = 1
    """Clips taken along a video."""
    views_spatial: Annotated[int, Field(ge=1, le=99)] = 1
    """Crops of a clip, evenly spaced along its longer side."""
    batch_size: PositiveInt = 8
    """Videos encoded at a time, in each process; in validation, too."""


class RunConfig(Settings):
    """Everything a training run needs to know."""

    out: str
    """Folder for checkpoints and logs."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each term: as `loss` says where the method has the term, else 0."""
        weights = {
            "contrastive": self.loss.contrastive,
            "cross_modal": self.loss.cross_modal,
            "visual": self.loss.visual,
            "mlm": self.loss.mlm_weight,
        }
        return {term: weight if term in METHOD_TERMS[self.model.method] else 0.0 for term, weight in weights.items()}

    @model_validator(mode="after")
    def _terms_of_the_method(self) -> Self:
        method, weights = self.model.method, self.loss_weights
        for term in sorted(self.loss.model_fields_set & set(weights)):
            need(
                term in METHOD_TERMS[method] or getattr(self.loss, term) == 0,
                f"loss.{term} has a weight, but the method {method} has no such term; leave it out",
            )
        settings = (
            (self.loss, "loss.double_softmax", "cross_modal" in METHOD_TERMS[method]),
            (self.loss, "loss.mlm_policy", "mlm" in METHOD_TERMS[method] or self.loss.mlm_policy == "off"),
            (self.loss, "loss.mlm_rate", "mlm" in METHOD_TERMS[method]),
            (self.train, "train.text_lr_scale", method == "m2clip"),
            (
                self.train,
                "train.class_text",
                "contrastive" in METHOD_TERMS[method] or "cross_modal" in METHOD_TERMS[method],
            ),
        )
        for section, key, used in settings:
            name = key.split(".")[1]
            need(
                used or getattr(section, name) == type(section).model_fields[name].default,
                f"{key} is set, but the method {method} has no use for it; leave it out",
            )
        need(
            self.train.class_text == "first" or any(weights[term] > 0 for term in ("contrastive", "cross_modal")),
            "train.class_text is mean, but no loss term reads class texts; give loss.contrastive or loss.cross_modal a weight, "
            "or leave it out",
        )
        need(
            method == "frozen" or any(weights.values()),
            f"no loss term of the method {method} has a weight; give {' or '.join(METHOD_TERMS[method])} one",
        )
        need(
            self.best_by == "similarity" or weights["visual"] > 0,
            f"train.best_by is {self.best_by}, but loss.visual is 0 or the method has no visual head; use similarity",
        )
        return self

    @property
    def best_by(self) -> Literal["similarity", "visual", "ensemble"]:
        """The reading that chooses the best checkpoint."""
        return self.train.best_by or ("visual" if self.model.method == "linear-probe" else "similarity")


def checked(kind: type[Model], values: Mapping[str, Any], *, where: str) -> Model:
    """Build settings from plain values; the ConfigError of a mistake starts with `where`."""
    return validate(kind, values, where=lambda key: where)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's YAML file and put overrides such as "train.epochs=3" over it (values are read as YAML).

    Raises ConfigError, one sentence, for a file that cannot be read, an unknown key and a value that does not fit.
    """
    source = Source.read(path)
    for text in overrides:
        source = source.override(text)
    return validate(RunConfig, source.values, where=source.where)

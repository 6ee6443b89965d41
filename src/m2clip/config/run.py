"""The settings of a run: what may be set, in which unit, and what fits together.

A run is one YAML file plus dotted overrides (`train.epochs=3`). Every mistake ends in one sentence (ConfigError) that
names the file and line, the key, the value, what is allowed and what to do. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from m2clip.config.file import Model, Settings, Source, need, validate
from m2clip.config.model import METHOD_TERMS, ModelConfig

Precision = Literal["auto", "bf16", "fp32"]
Sharding = Literal["off", "full"]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class DataConfig(Settings):
    """The videos of a run and how clips are taken from them. Paths are relative to the working directory."""

    train: str | None = None
    """Training videos: a folder with one folder a class, a CSV, a list file, or shards in a folder or at a web address."""
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
    fps: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Frames that a clip takes of each second, whatever the rates of the videos; it spans (frames - 1) / fps seconds."""
    clip_seconds: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Seconds from a clip's first frame to its last, whatever the rates of the videos; the others lie evenly between."""
    recipe: Literal["kinetics", "something"] = "kinetics"
    """Training augmentation: scale and crop (kinetics), or random resized crop with RandAugment (something)."""
    flip: bool | None = None
    """Whether training clips are mirrored at random; none: yes for kinetics, no for something."""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Processes that decode videos, for each training process; 0: in the training process itself."""
    on_bad_file: Literal["skip", "stop"] = "skip"
    """What an unreadable video does: named, counted and skipped, or the end of the run."""
    most_lost: Share = 0.5
    """Share of a video's frames that may be lost to damage before it counts as unreadable."""
    file_seconds: Annotated[float, Field(gt=0)] = 300.0
    """How long a video may keep its worker busy while batches are waited for; then it counts as unreadable."""
    cache: str | None = None
    """Folder that keeps the decoded frames of the videos for training and validation, for many epochs on a machine with few
    cores; none: videos are decoded for each clip."""
    cache_gib: Annotated[float, Field(gt=0)] = 20.0
    """How large `cache` may grow, in GiB; videos that do not fit are decoded for each clip."""
    shrink_cache_to: PositiveInt | None = None
    """Pixels that the short side of cached frames is shrunk to, at least 1.15 times the model's image size; none: frames are
    cached as they are, so that the cache changes no clip."""
    mixed_shards: PositiveInt = 4
    """How many of the shards that training fetches from web addresses are mixed at a time; the cache of shards
    ($M2CLIP_SHARDS_GIB) should hold two more of them."""

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings of a clip's frames, as keywords."""
        return {name: getattr(self, name) for name in ("frames", "stride_frames", "fps", "clip_seconds")}

    @property
    def flips(self) -> bool:
        """Whether training clips are mirrored, after the recipe's default."""
        return self.recipe == "kinetics" if self.flip is None else self.flip

    @model_validator(mode="after")
    def _one_way_to_sample(self) -> Self:
        ways = {name: value for name, value in self.sampling.items() if name != "frames" and value}
        both = " and ".join(f"{name} is {value:g}" for name, value in ways.items())
        need(
            len(ways) < 2,
            f"{both}, but only one of stride_frames, fps and clip_seconds may be set; leave out the rest",
        )
        return self

    @model_validator(mode="after")
    def _shards_are_fetched(self) -> Self:
        need(
            self.mixed_shards == type(self).model_fields["mixed_shards"].default
            or (self.train or "").lower().startswith(("http://", "https://")),
            "mixed_shards is set, but train is no set of shards at a web address, and all others are mixed as a whole; "
            "leave it out",
        )
        return self

    @model_validator(mode="after")
    def _cache_is_there(self) -> Self:
        for name in sorted({"cache_gib", "shrink_cache_to"} & self.model_fields_set):
            need(
                self.cache is not None or getattr(self, name) == type(self).model_fields[name].default,
                f"{name} is set, but there is no cache; set cache to a folder, or leave it out",
            )
        return self


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
    precision: Precision = "auto"
    """Arithmetic of the forward and backward pass; trained tensors are float32 in any case."""
    recompute: bool = False
    """Whether the image blocks run again on the way back instead of keeping what they computed: about a third more time for a
    fraction of the memory."""
    sharding: Sharding = "off"
    """How several processes hold the model: each of them whole (off: DDP), or in shares that are gathered for each use (full: FSDP2),
    for models whose weights, gradients and optimiser do not fit into one GPU. One process has it whole in any case."""
    class_text: Literal["first", "mean"] = "first"
    """What stands for a class in the loss: its name in the template (first), or the mean over all its texts, as in evaluation;
    the mean encodes every text of every class at each step."""
    save_minutes: Annotated[float, Field(ge=0)] = 10.0
    """How often the training state is written inside an epoch, too, so that a run that is killed loses no more; 0: after each step."""
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
            ", or the schedule never leaves its warm-up; lower warmup_epochs (0: none) or give more epochs",
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
    precision: Precision = "fp32"
    """Arithmetic of the test: fp32 measures the checkpoint the same on every machine; auto: bf16 where it is native."""


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

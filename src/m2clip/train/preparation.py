"""What happens before the first step: processes and precision, data, model, and the state of a run that is resumed."""

import hashlib
import logging
import os
import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from m2clip.checkpoint import create
from m2clip.config import METHOD_TERMS, Precision, RunConfig, Sharding
from m2clip.data.lists.splits import check_classes, check_repeats, check_splits
from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.data.shards.members import fetched_shards
from m2clip.data.shards.reading import names_shards
from m2clip.data.text.descriptions import read_text_source
from m2clip.data.text.prompts import name_doubt
from m2clip.data.web import is_web_address, shown_address
from m2clip.errors import CheckpointError, ConfigError, M2CLIPError
from m2clip.launcher import read_launcher
from m2clip.model.precision import lower_frozen, native_bf16
from m2clip.model.video_clip import VideoCLIP
from m2clip.train.sharding import shard
from m2clip.train.state import TrainingState

if TYPE_CHECKING:
    from lightning.fabric import Fabric

# Settings that may differ when a run is resumed: they change where it runs and what is measured, not what is learned.
_FREE_SETTINGS = (
    *(
        "out",
        "data.train",
        "data.val",
        "data.test",
        "data.classes",
        "data.texts",
        "data.root",
        "data.workers",
        "data.on_bad_file",
        "data.file_seconds",
        "data.cache",
        "data.cache_gib",
    ),
    *("model.weights", "train.stop_after_epoch", "train.recompute", "train.save_minutes", "train.sharding", "eval."),
)

# Adapters start at no effect. With the builtin CLIP and 8 videos of 4 classes, 30 steps that allow 0.005 leave training accuracy
# at chance, 0.016 begin to raise it. Pretrained weights that are trained themselves ("full") need less.
_LEAST_REACH = 0.005


# How long the others wait for a process: it may have got the slow files of a batch or of the validation, and NCCL's own ten minutes
# are less than a few of data.file_seconds. A process that has ended is noticed at once, by gloo or by the launcher.
_PATIENCE = timedelta(minutes=60)


def start_fabric(precision: Precision, *, sharding: Sharding = "off") -> "Fabric":
    """The processes of this run, as the launcher (torchrun, srun, or none) started them; one of them shares nothing out."""
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
        from lightning.fabric.strategies.strategy import Strategy
    except ImportError:
        raise M2CLIPError("training needs more packages; install them with: pip install 'm2clip[train]'") from None
    from m2clip.train.cluster import StartedProcesses

    processes = read_launcher(os.environ)
    strategy: Strategy | str = "auto"
    if processes.count > 1 and sharding == "full":
        strategy = ModelParallelStrategy(
            shard, data_parallel_size=processes.count, tensor_parallel_size=1, timeout=_PATIENCE
        )
    elif processes.count > 1:
        # It is a side of length 1 whose stride differs, so nothing is copied for it.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides", category=UserWarning)
        # Weights that no loss reaches (text adapters, where no term reads texts) must not stop the exchange of gradients.
        strategy = DDPStrategy(find_unused_parameters=True, timeout=_PATIENCE)
    with _without_remarks():
        fabric = Fabric(
            devices=processes.on_machine,
            num_nodes=processes.machines,
            strategy=strategy,
            precision=_arithmetic(precision),
            plugins=StartedProcesses(processes),
        )
        fabric.launch()
    return fabric


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Fabric tells its precision and its processes on stderr, in front of whatever sentence we have to say; warnings come through."""
    from lightning_utilities.core import rank_zero

    logs = (rank_zero.log, logging.getLogger("lightning.fabric"))
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _arithmetic(precision: Precision) -> Literal["bf16-mixed", "32-true"]:
    """auto is bfloat16 where the hardware multiplies it natively.

    Measured on a core with AMX: even at the tiny CLIP's width a training step takes half of its time in float32.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16-mixed" if precision == "bf16" or (precision == "auto" and native_bf16(device)) else "32-true"


def ready_to_train(model: VideoCLIP, *, config: RunConfig) -> None:
    """Make a step fast and small: frozen weights in the precision of the run, blocks recomputed if that is wished."""
    model.recompute_blocks = config.train.recompute
    if _arithmetic(config.train.precision) == "bf16-mixed":
        lower_frozen(model)


def seed_everything(*numbers: int) -> None:
    """Seed Python, numpy and torch by one or more numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def read_data(config: RunConfig) -> tuple[Manifest, Manifest | None, Manifest | None]:
    """The videos for training, validation and test, with the same classes."""
    data = config.data
    if data.train is None:
        raise ConfigError(
            "data.train is not set, so there is nothing to learn from; give a folder, a CSV or a list file"
        )
    training = read_manifest(data.train, classes=data.classes, root=_root(data.train, data.root))
    if not training.samples:
        raise ConfigError(f"data.train: {data.train} holds no videos; give a folder, a CSV or a list file with some")
    texts = read_text_source(descriptions=data.texts)
    if texts is not None:
        described = texts.describe(training.class_names)
        table = training.further_texts or ((),) * len(described)
        further = tuple((*own, *more) for own, more in zip(table, described, strict=True))
        training = replace(training, further_texts=further)
    # The other lists speak of the same classes, by the same names and ids.
    classes = data.classes or ClassTable(training.class_names, training.further_texts)
    validation, test = (
        None if source is None else read_manifest(source, classes=classes, root=_root(source, data.root))
        for source in (data.val, data.test)
    )
    return training, validation, test


def _root(source: str, root: str | None) -> str | None:
    return None if Path(source).is_dir() or names_shards(source) else root  # their videos lie in them


def plain_settings(config: RunConfig) -> dict[str, Any]:
    """The settings as plain values, to be kept; web addresses without user, password and what stands behind a question mark."""
    values = config.model_dump(mode="json")
    for name, value in values["data"].items():
        if isinstance(value, str) and is_web_address(value):
            values["data"][name] = shown_address(value)
    return values


def build_model(config: RunConfig, training: Manifest) -> VideoCLIP:
    """The model that the settings describe, with heads for the terms that have a weight."""
    if not METHOD_TERMS[config.model.method]:
        raise ConfigError(f"the method {config.model.method} trains nothing; evaluate its backbone as it is")
    model = create(
        **config.model.model_dump(),
        class_names=training.class_names,
        further_texts=training.further_texts,
        **config.data.sampling,
        visual_head=config.loss_weights["visual"] > 0,
        masked_words=config.loss_weights["mlm"] > 0,
    )
    if config.train.class_text == "mean" and all(len(texts) == 1 for texts in model.info.texts):
        raise ConfigError(
            "train.class_text is mean, but every class has one text only; give more by model.more_templates, data.texts or "
            "columns text_1, text_2... of the class table, or leave it out"
        )
    return model


def doubts(config: RunConfig, training: Manifest, *others: Manifest | None) -> list[str]:
    """What looks like a mistake in the data, a sentence each; `others` are validation and test."""
    given = [other for other in others if other is not None]
    told = [sentence for manifest in (training, *given) for sentence in check_repeats(manifest)]
    told += [sentence for other in given for sentence in check_splits(training, other)] + check_classes(training)
    found = list(dict.fromkeys(told))
    sided = re.compile(r"\b(left|right|clockwise|counterclockwise|anticlockwise)\b", re.IGNORECASE)
    names = [name for name in training.class_names if sided.search(name)]
    if config.data.flips and names:
        found.append(
            f"training clips are mirrored at random, but {len(names)} class names have a direction (first: {names[0]!r}); "
            "set data.flip=false"
        )
    steps = -(-len(training.samples) // config.train.batch_size) * config.train.epochs
    reach = (
        config.train.peak_lr * steps / 2
    )  # AdamW moves a weight by the rate at most; warm-up and cosine halve it on average
    if config.model.method != "full" and reach < _LEAST_REACH:
        found.append(
            f"the steps are few and small: {steps} of them, with train.lr at {config.train.peak_lr:.1e} and less, can move a weight "
            f"by about {reach:.1g} in all, where the recipes in configs/ allow 0.1 and more; give a larger train.lr (3e-3 there, for "
            "small sets) or more train.epochs"
        )
    reads_names = any(config.loss_weights[term] > 0 for term in ("contrastive", "cross_modal", "mlm"))
    if reads_names and (doubt := name_doubt(training.class_names)):
        found.append(doubt)
    return found


def hashes(training: Manifest, model: VideoCLIP) -> dict[str, str]:
    """SHA-256 of what a run stands on, for `TrainingState`; and in which way it goes through its videos."""
    return {
        "training list": training.sha256,
        "way of taking videos (shard by shard, or mixed as a whole)": (
            "by shard" if fetched_shards(training.samples.places) is not None else "whole"
        ),
        "classes": hashlib.sha256(repr(model.info.texts).encode()).hexdigest(),
        "CLIP weights": model.info.weights.sha256 or "",
    }


def read_state(config: RunConfig, path: Path) -> TrainingState:
    """The state of a run to be resumed. Raises ConfigError where the settings would make it another run."""
    state = TrainingState.read(path)
    before, now = _flat(state.settings), _flat(config.model_dump(mode="json"))
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(_FREE_SETTINGS)
    ]
    if changed:
        raise ConfigError(
            f"{path}: this run cannot be resumed with other settings: {'; '.join(changed)}; "
            "take the old ones, or start a new run with out=FOLDER"
        )
    return state


def restore(model: VideoCLIP, state: TrainingState, *, training: Manifest, path: Path) -> None:
    """Put the trained tensors of a state into a model. Raises ConfigError or CheckpointError where they do not belong there."""
    for what, value in hashes(training, model).items():
        if state.hashes.get(what) != value:
            raise ConfigError(f"{path}: the {what} changed since this run began; start a new run with out=FOLDER")
    current = model.trained_parameters()
    shapes = {name: parameter.shape for name, parameter in current.items()}
    stored = [state.trained, *([state.average] if state.averaged else [])]
    if any({name: tensor.shape for name, tensor in tensors.items()} != shapes for tensors in stored):
        raise CheckpointError(f"{path} holds the tensors of another model; start a new run with out=FOLDER")
    with torch.no_grad():
        for name, parameter in current.items():
            parameter.copy_(state.trained[name])


def _flat(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat

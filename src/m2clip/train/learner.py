"""What learns: the model with its data, optimiser, loss and average, on the processes of a run; and one step of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from m2clip.config import RunConfig
from m2clip.data.dataset import Batch, VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.loading import VideoLoader, make_loader
from m2clip.data.manifest import Manifest
from m2clip.errors import CheckpointError
from m2clip.model.video_clip import VideoCLIP
from m2clip.train.averaging import WeightAverage
from m2clip.train.file_notes import listed_in
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import build_model, hashes, ready_to_train, restore
from m2clip.train.readback import StepFigures, global_counts, read_step
from m2clip.train.sharding import clip_gradients, load_optimizer, set_up
from m2clip.train.state import TrainingState

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.wrappers import _FabricModule, _FabricOptimizer


@dataclass(frozen=True)
class Learner:
    """The parts of a run that change with its steps; `fabric` is the place where they are."""

    config: RunConfig
    fabric: "Fabric"
    training: Manifest
    hashes: dict[str, str]
    """SHA-256 of what the run stands on."""
    model: VideoCLIP
    module: "_FabricModule"
    """The model as the processes share it."""
    dataset: VideoDataset
    loader: VideoLoader
    optimizer: torch.optim.Optimizer
    stepper: "_FabricOptimizer"
    """The optimiser as Fabric wants it called."""
    objective: Objective
    average: WeightAverage
    cache: FrameCache | None
    peak_rates: list[float]
    """Of each group of the optimiser."""
    largest: int
    """Videos of one process in one part of a step, at most."""

    @classmethod
    def make(
        cls, fabric: "Fabric", config: RunConfig, training: Manifest, *, state: TrainingState | None, path: Path
    ) -> Self:
        """Everything as it is before the first step, or after the last one of `state`, which was read from `path`.

        Raises ConfigError or CheckpointError where the state belongs to something else.
        """
        options, data = config.train, config.data
        model = build_model(config, training)
        stands_on = hashes(training, model)
        if state is not None:
            restore(model, state, training=training, path=path)
        ready_to_train(model, config=config)
        cache = None
        if data.cache is not None:
            most_bytes = round(data.cache_gib * 2**30)
            cache = FrameCache(data.cache, most_bytes=most_bytes, short_side=data.shrink_cache_to)
        dataset = VideoDataset(
            training,
            **data.sampling,
            size=model.info.image_size,
            mean=model.info.sizes.mean,
            std=model.info.sizes.std,
            train=True,
            recipe=data.recipe,
            flip=data.flips,
            seed=options.seed,
            cache=cache,
            most_lost=data.most_lost,
        )
        loader = make_loader(
            dataset,
            batch_size=options.batch_size,
            parts=options.accumulate,
            shuffle=True,
            workers=data.workers,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            file_seconds=data.file_seconds,
            known_bad=() if state is None else listed_in(training, state.known_files()[0]),
            mixed_shards=data.mixed_shards,
        )
        module = set_up(fabric, Step(model), model)
        groups = model.parameter_groups(
            lr=options.peak_lr, text_lr_scale=options.text_lr_scale, weight_decay=options.weight_decay
        )
        optimizer = torch.optim.AdamW(groups, fused=True)  # one kernel for all tensors, on a CPU and on a GPU
        peak_rates = [group["lr"] for group in optimizer.param_groups]
        stepper = fabric.setup_optimizers(optimizer)
        assert not isinstance(stepper, tuple)  # for one optimiser Fabric gives one
        largest = -(-options.batch_size // (options.accumulate * fabric.world_size))
        objective = Objective(model, config=config, largest=largest, device=fabric.device)
        steps = len(loader) // options.accumulate * options.epochs
        average = WeightAverage(model.trained_parameters(), options=options, steps=steps)
        if state is not None:
            average.restore(state.average, state.averaged)
            try:
                load_optimizer(optimizer, state.optimizer)
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"{path}: its optimiser's state does not fit ({error}); start a new run with out=FOLDER"
                ) from None
        return cls(
            config, fabric, training, stands_on, model, module, dataset, loader, optimizer, stepper, objective, average, cache,
            peak_rates, largest,
        )  # fmt: skip

    @property
    def steps_an_epoch(self) -> int:
        """How many steps take all videos."""
        return len(self.loader) // self.config.train.accumulate

    def batches(self, epoch: int, *, after: int) -> Iterator[list[Batch]]:
        """The parts of each step of an epoch, of those that are left when `after` of its steps are done."""
        size = self.config.train.accumulate
        self.dataset.set_epoch(epoch)
        coming = self.loader.after(after * size)
        return iter(lambda: list(islice(coming, size)), [])

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1, as a share of the peak."""
        options = self.config.train
        warmup_steps, all_steps = self.steps_an_epoch * options.warmup_epochs, self.steps_an_epoch * options.epochs
        return learning_rate(step, warmup_steps=warmup_steps, all_steps=all_steps)

    def learn(self, parts: Sequence[Batch], *, epoch: int, step: int, wish: int) -> StepFigures:
        """One step on the parts of its batch. `wish`: as of `read_step`."""
        fabric = self.fabric
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * self.rate(step)
        terms: list[dict[str, Tensor]] = []
        counts = global_counts(fabric, parts)
        # A part counts by its videos, not as one of several: 5 videos in two parts are 3/5 and 2/5.
        shares = counts / counts.sum().clamp(min=1)
        for part, batch in enumerate(parts):
            with fabric.no_backward_sync(self.module, enabled=part < len(parts) - 1):
                losses = self.objective(fabric, self.module, batch, epoch=epoch)
                fabric.backward(losses.total * shares[part])
            terms.append({name: value.detach() for name, value in losses.terms().items()})
            del losses  # its graph lies between freed tensors, which the next step could not use as a whole
        norm = clip_gradients(fabric, self.module, self.stepper, most=self.config.train.clip_norm)
        # Here, and only here, the program waits for the device; what is not finite ends the run before a weight changes.
        read = read_step(
            fabric, terms, norm=norm, counts=counts, batches=parts, largest=self.largest,
            places=self.training.samples.places, step=step, wish=wish,
        )  # fmt: skip
        if read.videos:  # else all files of the step were bad: there is nothing to learn from
            self.stepper.step()
            self.average.after_step()
        self.stepper.zero_grad()
        return read

    def note(self, record: dict[str, Any]) -> None:
        """Let the model say how it was trained."""
        self.model.info = self.model.info.model_copy(update={"training": record})


def learning_rate(step: int, *, warmup_steps: float, all_steps: int) -> float:
    """Learning rate of step 1..all_steps as a share of the peak: a line up from 0, then half a cosine down to 0.

    The cosine is 1 in the first step after warm-up and would be 0 in the step after the last, so that no step is without
    effect. 6 steps, 2 of them warm-up: 0.5, 1, 1, 0.85, 0.5, 0.15.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    done = max(step - 1 - warmup_steps, 0.0) / (all_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))

"""The training loop: adapters and heads learn, CLIP stays frozen. All that happens in a run stands in `train`.

Runs on a CPU, on one GPU, or as several processes that torchrun or srun starts (Lightning Fabric; ranks come from the
environment).
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from m2clip.config import RunConfig
from m2clip.data.dataset import BadFile, Batch, DamagedFile, VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.loading import make_loader
from m2clip.errors import ConfigError, VideoError
from m2clip.evaluate.scoring_pass import everywhere
from m2clip.report.bad_files import FileReport
from m2clip.report.files import results_folder
from m2clip.train.averaging import WeightAverage
from m2clip.train.display import Display
from m2clip.train.log import RunLog
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import (
    build_model,
    doubts,
    hashes,
    read_data,
    read_state,
    ready_to_train,
    restore,
    seed_everything,
    start_fabric,
)
from m2clip.train.readback import global_counts, read_step
from m2clip.train.state import TrainingState
from m2clip.train.validation import measure_checkpoint, validate

LAST, BEST, STATE = "last.safetensors", "best.safetensors", "last.state.pt"
TEST = "test"


def train(config: RunConfig, *, resume: bool | Literal["auto"] = False, progress: bool | None = None) -> Path:
    """Train by `config` and return the path of the best checkpoint.

    After each epoch `config.out` gets last.safetensors, best.safetensors (by validation top-1; the last where there is no
    validation data) and last.state.pt; metrics.jsonl and tensorboard/ grow with each step. `resume` goes on after the last
    finished epoch: on a CPU with the same weights, to the last bit, as a run without a break; "auto" begins where there is no
    run yet. `progress`: a bar; None: on a terminal. With `data.test`, the best checkpoint is measured at the end and
    `config.out`/test gets its report. With `train.average` the checkpoints hold averaged weights, and validation measures them,
    once averaging has begun.

    Raises ConfigError and ManifestError for settings and lists that cannot be used, VideoError for a bad file where
    `data.on_bad_file` is stop or where none can be read, NonFiniteLoss with term, step, process and files.
    """
    fabric = start_fabric(config.train.precision)
    main, ranks = fabric.is_global_zero, fabric.world_size
    options, out = config.train, Path(config.out)
    training, validation, test = read_data(config)
    goes_on = (out / STATE).exists() if resume == "auto" else resume
    state = read_state(config, out / STATE) if goes_on else None
    if state is None and (out / STATE).exists():
        raise ConfigError(f"{out} already holds a run; resume it, or give another folder with out=FOLDER")
    results_folder(out)
    fabric.barrier()  # nobody writes before everybody has looked

    seed_everything(options.seed)
    model = build_model(config, training)
    if state is not None:
        restore(model, state, training=training, path=out / STATE)
    ready_to_train(model, config=config)
    cache = None
    if config.data.cache is not None:
        cache = FrameCache(
            config.data.cache,
            most_bytes=round(config.data.cache_gib * 2**30),
            short_side=config.data.shrink_cache_to,
        )
    dataset = VideoDataset(
        training,
        **config.data.sampling,
        size=model.info.image_size,
        mean=model.info.sizes.mean,
        std=model.info.sizes.std,
        train=True,
        recipe=config.data.recipe,
        flip=config.data.flips,
        seed=options.seed,
        cache=cache,
        most_lost=config.data.most_lost,
    )
    loader = make_loader(
        dataset,
        batch_size=options.batch_size,
        parts=options.accumulate,
        shuffle=True,
        workers=config.data.workers,
        rank=fabric.global_rank,
        world_size=ranks,
        file_seconds=config.data.file_seconds,
        mixed_shards=config.data.mixed_shards,
    )
    groups = model.parameter_groups(
        lr=options.peak_lr, text_lr_scale=options.text_lr_scale, weight_decay=options.weight_decay
    )
    optimizer = torch.optim.AdamW(groups, fused=True)  # one kernel for all tensors, on a CPU and on a GPU
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    module, stepper = fabric.setup(Step(model), optimizer)
    if state is not None:
        optimizer.load_state_dict(state.optimizer)  # after the model has moved to its device: the state follows it
    largest = -(-options.batch_size // (options.accumulate * ranks))  # videos of one process in one part of a step
    objective = Objective(model, config=config, largest=largest, device=fabric.device)

    steps_an_epoch = len(loader) // options.accumulate
    warmup_steps, all_steps = steps_an_epoch * options.warmup_epochs, steps_an_epoch * options.epochs
    last_epoch = min(options.epochs, options.stop_after_epoch or options.epochs)
    first_epoch, step, first_loss, best = 0, 0, math.nan, {}
    if state is not None:
        first_epoch, step, first_loss, best = state.epochs_done, state.steps_done, state.first_loss, dict(state.best)
    places = training.samples.places
    average = WeightAverage(model.trained_parameters(), options=options, steps=all_steps)
    if state is not None:
        average.restore(state.average, state.averaged)

    with ExitStack() as stack:
        display = stack.enter_context(
            Display(progress=progress if main else False, steps=steps_an_epoch * (last_epoch - first_epoch))
        )
        log = stack.enter_context(RunLog(out, steps_done=step)) if main else None
        stack.callback(loader.close)

        def warn(sentence: str) -> None:
            if log:  # the main process speaks for all
                display.say(sentence, warning=True)
                log.warn(sentence, step=step)

        files = FileReport(policy=config.data.on_bad_file, tell=warn)
        bad_in_validation: Sequence[BadFile] = ()
        for sentence in doubts(config, training, validation, test) if main and state is None else ():
            warn(sentence)

        for epoch in range(first_epoch, last_epoch):
            # Seeded by the epoch, so that a resumed run needs no stored random state.
            seed_everything(options.seed, epoch, fabric.global_rank)
            dataset.set_epoch(epoch)
            module.train()
            loss_sum, started = torch.zeros(2), time.perf_counter()
            bad, damaged = list[BadFile](), list[DamagedFile]()
            for parts in _groups(loader, options.accumulate):
                waited = time.perf_counter() - started
                step += 1
                if config.data.on_bad_file == "stop":
                    # Each process hears of the file, and ends by itself: none is left waiting for the one that met it.
                    files.note(everywhere([file for batch in parts for file in batch.bad]), ())
                rate = learning_rate(step, warmup_steps=warmup_steps, all_steps=all_steps)
                for group, peak in zip(optimizer.param_groups, peak_rates, strict=True):
                    group["lr"] = peak * rate
                terms: list[dict[str, Tensor]] = []
                counts = global_counts(fabric, parts)
                # A part counts by its videos, not as one of several: 5 videos in two parts are 3/5 and 2/5.
                shares = counts / counts.sum().clamp(min=1)
                for part, batch in enumerate(parts):
                    files.note(batch.bad, batch.damaged)
                    bad += batch.bad
                    damaged += batch.damaged
                    with fabric.no_backward_sync(module, enabled=part < len(parts) - 1):
                        losses = objective(fabric, module, batch, epoch=epoch)
                        fabric.backward(losses.total * shares[part])
                    terms.append({name: value.detach() for name, value in losses.terms().items()})
                    del losses  # its graph lies between freed tensors, which the next step could not use as a whole
                norm = fabric.clip_gradients(
                    module, stepper, max_norm=options.clip_norm or math.inf, error_if_nonfinite=False
                )
                assert norm is not None  # Fabric gives none only for value clipping
                # Here, and only here, the program waits for the device; what is not finite ends the run before a weight changes.
                read = read_step(
                    fabric, terms, norm=norm, counts=counts, batches=parts, largest=largest, places=places, step=step
                )
                if read.videos:  # else all files of the step were bad: there is nothing to learn from
                    stepper.step()
                    average.after_step()
                stepper.zero_grad()
                loss_sum += torch.tensor([read.terms["total"] * read.videos, read.videos])
                seconds, started = time.perf_counter() - started, time.perf_counter()
                if log:
                    log.write(
                        "step", step=step, epoch=epoch + 1, **read.terms, lr=options.peak_lr * rate,
                        grad_norm=read.grad_norm, videos=read.videos, seconds=seconds, wait_seconds=waited,
                    )  # fmt: skip
                display.advance(f"epoch {epoch + 1}/{options.epochs}  loss {read.terms['total']:.3f}")

            bad, damaged = everywhere(bad), everywhere(damaged)
            files.note(bad, damaged)
            if loss_sum[1] == 0:
                raise VideoError(
                    f"{training.source}: none of its {len(places)} videos could be read; the first: {bad[0].reason}"
                )
            loss = float(loss_sum[0] / loss_sum[1])
            first_loss = loss if epoch == 0 else first_loss
            if average.after_epoch(epoch):
                best = {}  # from here on averages compete with averages
            record: dict[str, Any] = {
                "epochs": epoch + 1,
                "loss": loss,
                "seed": options.seed,
                "recipe": config.data.recipe,
            }
            if average.count:
                record["average"] = average.record()
            model.info = model.info.model_copy(update={"training": record})
            with average.in_place():
                if validation is not None:
                    measured = validate(
                        fabric, model, validation, config=config, cache=cache, known_bad=bad_in_validation
                    )
                    bad_in_validation = measured.bad
                    files.note(measured.bad, measured.damaged)
                    record["validation"] = {reading: one.top1 for reading, one in measured.metrics.items()}
                    model.info = model.info.model_copy(update={"training": record})
                top1 = record.get("validation", {}).get(config.best_by)
                is_best = top1 is None or top1 >= (best.get("top1") or 0.0)  # of equals, the one trained longer
                if is_best:
                    best = {"epoch": epoch + 1, "top1": top1}
                if main:
                    for name in (LAST, BEST) if is_best else (LAST,):
                        model.save(out / name)
            if main and log:
                figures = {f"{reading}_top1": value for reading, value in record.get("validation", {}).items()}
                log.write(
                    "epoch", step=step, epoch=epoch + 1, loss=loss, bad_files=len(bad), damaged_files=len(damaged), **figures
                )  # fmt: skip
                files.write(out)
                if epoch + 1 == options.epochs and options.epochs > 1 and loss > 0.98 * first_loss:
                    warn(
                        f"the loss has not fallen: {first_loss:.3f} in the first epoch, {loss:.3f} in the last; "
                        "check the labels and train.lr"
                    )
                # The state comes last: a run killed before this line repeats the epoch, and with it all that stands above.
                TrainingState(
                    epochs_done=epoch + 1,
                    steps_done=step,
                    trained=model.trained_state(),
                    average=average.tensors,
                    averaged=average.count,
                    optimizer=optimizer.state_dict(),
                    best=best,
                    first_loss=first_loss,
                    settings=config.model_dump(mode="json"),
                    hashes=hashes(training, model),
                ).write(out / STATE)
                shown = "".join(f", {name.replace('_', ' ')} {100 * value:.1f} %" for name, value in figures.items())
                display.say(f"epoch {epoch + 1}/{options.epochs}: loss {loss:.3f}{shown}")
        fabric.barrier()  # the files are there for everybody
        if test is not None and last_epoch == options.epochs:
            result = measure_checkpoint(fabric, out / BEST, test, config=config)
            files.note(result.bad, result.damaged)
            if main and log:
                result.write(out / TEST)
                log.write("test", step=step, **{f"{name}_top1": m.top1 for name, m in result.metrics.items()})
                display.say(result.summary())
        if main and files.summary():
            display.say(f"{files.summary()}: see {' and '.join(str(out / name) for name in files.write(out))}")
    return out / BEST


def learning_rate(step: int, *, warmup_steps: float, all_steps: int) -> float:
    """Learning rate of step 1..all_steps as a share of the peak: a line up from 0, then half a cosine down to 0.

    The cosine is 1 in the first step after warm-up and would be 0 in the step after the last, so that no step is without
    effect. 6 steps, 2 of them warm-up: 0.5, 1, 1, 0.85, 0.5, 0.15.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    done = max(step - 1 - warmup_steps, 0.0) / (all_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches, `size` at a time: the parts of one step."""
    iterator = iter(batches)
    return iter(lambda: list(islice(iterator, size)), [])

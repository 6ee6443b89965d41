"""The training loop: adapters and heads learn, CLIP stays frozen. All that happens in a run stands in `train`, in its order.

Runs on a CPU, on one GPU, or as several processes that torchrun or srun starts (Lightning Fabric; ranks come from the
environment).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from m2clip.config import RunConfig
from m2clip.data.dataset import BadFile
from m2clip.data.manifest import Manifest
from m2clip.errors import Interrupted, VideoError
from m2clip.evaluate.scoring_pass import everywhere
from m2clip.report.bad_files import FileReport
from m2clip.report.files import results_folder
from m2clip.train.display import Display
from m2clip.train.file_notes import listed_in
from m2clip.train.interruption import Interruption
from m2clip.train.keeping import BEST, LAST, STATE, Keeper, find_state
from m2clip.train.learner import Learner
from m2clip.train.log import RunLog
from m2clip.train.preparation import doubts, read_data, seed_everything, start_fabric
from m2clip.train.progress import Progress
from m2clip.train.report import write_report
from m2clip.train.validation import measure_checkpoint, validate

TEST = "test"
_KEEP, _KEEP_AND_END = 1, 2  # what a process may wish after a step; the largest wish of all is done by all


def train(config: RunConfig, *, resume: bool | Literal["auto"] = False, progress: bool | None = None) -> Path:
    """Train by `config` and return the path of the best checkpoint.

    After each epoch `config.out` gets last.safetensors, best.safetensors (by validation top-1; the last where there is no
    validation data) and last.state.pt, which is written inside epochs, too (`train.save_minutes`); metrics.jsonl and tensorboard/
    grow with each step. `resume` goes on from last.state.pt: on a CPU to the same files, to the last bit, as a run without a
    break; "auto" begins where there is no run yet. `progress`: a bar; None: on a terminal. With `data.test`, the best checkpoint
    is measured at the end and `config.out`/test gets its report; `config.out`/report.json tells how to make the run again.
    With `train.average` the checkpoints hold averaged weights, and validation measures them, once averaging has begun. In
    the main thread, SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the run after the step that is under way, when its state is
    written, and in validation and test at once.

    Raises ConfigError and ManifestError for settings and lists that cannot be used, VideoError for a bad file where
    `data.on_bad_file` is stop or where none can be read, NonFiniteLoss with term, step, process and files, and Interrupted.
    """
    fabric = start_fabric(config.train.precision, sharding=config.train.sharding)
    main, options, out = fabric.is_global_zero, config.train, Path(config.out)
    training, validation, test = read_data(config)
    state = find_state(fabric, config, out / STATE, resume=resume)
    results_folder(out)
    fabric.barrier()  # nobody writes before everybody has looked

    seed_everything(options.seed)
    learner = Learner.make(fabric, config, training, state=state, path=out / STATE)
    reached = Progress.of(state, main=main)
    last_epoch = min(options.epochs, options.stop_after_epoch or options.epochs)

    with ExitStack() as stack:
        steps = learner.steps_an_epoch * (last_epoch - reached.epochs_done) - reached.epoch_steps
        display = stack.enter_context(Display(progress=progress if main else False, steps=steps))
        kept = None if state is None else state.log_sizes
        log = stack.enter_context(RunLog(out, kept=kept, steps_done=reached.steps)) if main else None
        stack.callback(learner.loader.close)

        def warn(sentence: str) -> None:
            if log:  # the main process speaks for all
                display.say(sentence, warning=True)
                log.warn(sentence, step=reached.steps)

        files = FileReport(policy=config.data.on_bad_file, tell=warn)
        bad_in_validation: Sequence[BadFile] = ()
        if state is not None:
            bad, damaged = state.known_files()
            files.go_on(bad, damaged)
            bad_in_validation = () if validation is None else listed_in(validation, bad)
        keeper = Keeper(out, learner=learner, progress=reached, files=files, log=log)
        for sentence in doubts(config, training, validation, test) if main and state is None else ():
            warn(sentence)

        run = _Run(config, out, learner, reached, keeper, files, display, log, warn, bad_in_validation)
        with Interruption(tells=main) as run.interruption:
            for epoch in range(reached.epochs_done, last_epoch):
                run.learn_epoch(epoch)
                run.end_epoch(epoch, validation)
            fabric.barrier()  # the files are there for everybody
            if test is not None and last_epoch == options.epochs:
                run.measure(test)
            if main:
                write_report(config, out, checkpoints=(LAST, BEST))
        if main and files.summary():
            display.say(f"{files.summary()}: see {' and '.join(str(out / name) for name in files.write(out))}")
    return out / BEST


@dataclass
class _Run:
    """What the parts of a run share."""

    config: RunConfig
    out: Path
    learner: Learner
    reached: Progress
    keeper: Keeper
    files: FileReport
    display: Display
    log: RunLog | None
    """None: this is not the main process."""
    warn: Callable[[str], None]
    bad_in_validation: Sequence[BadFile]
    """What the last validation could not read."""
    interruption: Interruption | None = None

    def learn_epoch(self, epoch: int) -> None:
        """The steps of an epoch, counted from 0, that are left."""
        learner, reached, options = self.learner, self.reached, self.config.train
        fabric = learner.fabric
        learner.module.train()
        started = time.perf_counter()
        for parts in learner.batches(epoch, after=reached.epoch_steps):
            waited = time.perf_counter() - started
            reached.begin_step()
            # Seeded by the step, so that a run which goes on in the middle of an epoch needs no stored random state.
            seed_everything(options.seed, epoch, reached.epoch_steps, fabric.global_rank)
            if self.config.data.on_bad_file == "stop":
                # Each process hears of the file, and ends by itself: none is left waiting for the one that met it.
                self.files.note(everywhere([file for batch in parts for file in batch.bad]), ())
            for batch in parts:
                self.files.note(batch.bad, batch.damaged)
            read = learner.learn(parts, epoch=epoch, step=reached.steps, wish=self._wish())
            reached.end_step(parts, read)
            seconds, started = time.perf_counter() - started, time.perf_counter()
            if self.log:
                self.log.write(
                    "step", step=reached.steps, epoch=epoch + 1, **read.terms, lr=options.peak_lr * learner.rate(reached.steps),
                    grad_norm=read.grad_norm, videos=read.videos, seconds=seconds, wait_seconds=waited,
                )  # fmt: skip
            self.display.advance(f"epoch {epoch + 1}/{options.epochs}  loss {read.terms['total']:.3f}")
            if read.wish:
                self.keeper.write_state()
            if read.wish == _KEEP_AND_END:
                raise self._ended(
                    f"after step {reached.epoch_steps} of {learner.steps_an_epoch} in epoch {epoch + 1} of {options.epochs}"
                )

    def _wish(self) -> int:
        if self.interruption is not None and self.interruption.number is not None:
            return _KEEP_AND_END
        return _KEEP if self.log is not None and self.keeper.due else 0

    def _ended(self, where: str) -> Interrupted:
        """What the signal that came has made of the run."""
        assert self.interruption is not None
        number = self.interruption.number
        return Interrupted(
            f"ended {Interruption.name(number)} {where}; {self.out} keeps all of it, so go on with --resume",
            signal_number=number,
        )

    def _measuring(self, where: str) -> AbstractContextManager[None]:
        """The run's place is kept, and what is measured need not be waited for."""
        assert self.interruption is not None
        return self.interruption.at_once(lambda: self._ended(where))

    def measure(self, test: Manifest) -> None:
        """The best checkpoint on the test videos."""
        with self._measuring("in the test"):
            result = measure_checkpoint(self.learner.fabric, self.out / BEST, test, config=self.config)
        self.files.note(result.bad, result.damaged)
        if self.log:
            result.write(self.out / TEST)
            top1 = {f"{name}_top1": metrics.top1 for name, metrics in result.metrics.items()}
            self.log.write("test", step=self.reached.steps, **top1)
            self.display.say(result.summary())

    def end_epoch(self, epoch: int, validation: Manifest | None) -> None:
        """What follows the steps of an epoch: the average, validation, checkpoints, the log, and last of all the state."""
        learner, reached, options = self.learner, self.reached, self.config.train
        # In the order of the list: what each process has met, and when, depends on breaks and on how many there are.
        bad = sorted(everywhere(reached.bad), key=lambda file: file.index)
        damaged = sorted(everywhere(reached.damaged), key=lambda file: file.index)
        self.files.note(bad, damaged)
        if reached.videos == 0:
            raise VideoError(
                f"{learner.training.source}: none of its {len(learner.training.samples)} videos could be read; the first: "
                f"{bad[0].reason}"
            )
        if validation is not None:
            self.keeper.write_state()  # validation may take longer than a scheduler waits
        loss = reached.loss_sum / reached.videos
        reached.first_loss = loss if epoch == 0 else reached.first_loss
        if learner.average.after_epoch(epoch):
            reached.best = {}  # from here on averages compete with averages
        record: dict[str, Any] = {
            "epochs": epoch + 1,
            "loss": loss,
            "seed": options.seed,
            "recipe": self.config.data.recipe,
        }
        if learner.average.count:
            record["average"] = learner.average.record()
        learner.note(record)
        with self.keeper.complete_model() as model:
            if validation is not None:
                with self._measuring(f"in the validation of epoch {epoch + 1} of {options.epochs}"):
                    measured = validate(
                        learner.fabric, model, validation, config=self.config, cache=learner.cache,
                        known_bad=self.bad_in_validation,
                    )  # fmt: skip
                self.bad_in_validation = measured.bad
                self.files.note(measured.bad, measured.damaged)
                record["validation"] = {reading: one.top1 for reading, one in measured.metrics.items()}
                learner.note(record)
                model.info = learner.model.info
            top1 = record.get("validation", {}).get(self.config.best_by)
            is_best = top1 is None or top1 >= (reached.best.get("top1") or 0.0)  # of equals, the one trained longer
            if is_best:
                reached.best = {"epoch": epoch + 1, "top1": top1}
            for name in (LAST, BEST) if is_best else (LAST,):
                self.keeper.write_checkpoint(model, name)
        figures = {f"{reading}_top1": value for reading, value in record.get("validation", {}).items()}
        if self.log:
            self.log.write(
                "epoch", step=reached.steps, epoch=epoch + 1, loss=loss, bad_files=len(bad), damaged_files=len(damaged), **figures
            )  # fmt: skip
            self.files.write(self.out)
        if epoch + 1 == options.epochs and options.epochs > 1 and loss > 0.98 * reached.first_loss:
            self.warn(
                f"the loss has not fallen: {reached.first_loss:.3f} in the first epoch, {loss:.3f} in the last; "
                "check the labels and train.lr"
            )
        # The state comes last: a run killed before this line repeats all that stands above.
        reached.end_epoch()
        self.keeper.write_state()
        shown = "".join(f", {name.replace('_', ' ')} {100 * value:.1f} %" for name, value in figures.items())
        if self.log:
            self.display.say(f"epoch {epoch + 1}/{options.epochs}: loss {loss:.3f}{shown}")

"""What a run keeps on the disk: checkpoints and its state. All processes take part, for each may have a share; the main one writes.

The state alone says where a run goes on. It is one file, written last and whole: whatever else a killed run has left is made
again, to the last bit, on the way from the state.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from m2clip.config import RunConfig
from m2clip.errors import ConfigError
from m2clip.evaluate.scoring_pass import everywhere
from m2clip.model.video_clip import VideoCLIP
from m2clip.report.bad_files import FileReport
from m2clip.train.file_notes import plain_bad, plain_damaged
from m2clip.train.learner import Learner
from m2clip.train.log import RunLog
from m2clip.train.objective import gathered
from m2clip.train.preparation import plain_settings, read_state
from m2clip.train.progress import Progress
from m2clip.train.sharding import gathered_state, whole
from m2clip.train.state import TrainingState

if TYPE_CHECKING:
    from lightning.fabric import Fabric

LAST, BEST, STATE = "last.safetensors", "best.safetensors", "last.state.pt"


def find_state(
    fabric: "Fabric", config: RunConfig, path: Path, *, resume: bool | Literal["auto"]
) -> TrainingState | None:
    """The state to go on from; None: a new run begins. Raises ConfigError where `resume` and what is there do not fit."""
    if path.exists() and not resume:
        raise ConfigError(f"{path.parent} already holds a run; resume it, or give another folder with out=FOLDER")
    state = read_state(config, path) if path.exists() or resume is True else None
    own = torch.tensor(-1 if state is None else state.steps_done, device=fabric.device)
    found = gathered(fabric, own).tolist()
    if len(set(found)) > 1:
        raise ConfigError(
            f"{path} is not the same for all processes (steps by process: {found}, -1: no file); put the run's folder where all "
            "machines see it"
        )
    return state


class Keeper:
    """Writes checkpoints and states of a run into its folder."""

    def __init__(
        self, out: Path, *, learner: Learner, progress: Progress, files: FileReport, log: RunLog | None
    ) -> None:
        self._out, self._learner, self._progress, self._files, self._log = out, learner, progress, files, log
        self._written = time.monotonic()
        self._kept: tuple[int, int] | None = None

    @property
    def due(self) -> bool:
        """Whether the state inside an epoch is to be written, by the clock of this process."""
        return time.monotonic() - self._written >= 60 * self._learner.config.train.save_minutes

    @contextmanager
    def complete_model(self) -> Iterator[VideoCLIP]:
        """What is saved and measured: the model with its average, where there is one, and all of it in each process."""
        with self._learner.average.in_place(), whole(self._learner.model) as model:
            yield model

    def write_checkpoint(self, model: VideoCLIP, name: str) -> None:
        """Write what `complete_model` gave into the run's folder."""
        if self._learner.fabric.is_global_zero:
            model.save(self._out / name)

    def write_state(self) -> None:
        """Write what the run goes on from, unless that was the last thing done."""
        learner, progress = self._learner, self._progress
        reached = (progress.epochs_done, progress.steps)
        if reached == self._kept:
            return
        bad, damaged = everywhere(progress.bad), everywhere(progress.damaged)
        trained, average, optimizer = (
            gathered_state(tree)
            for tree in (learner.model.trained_state(), learner.average.tensors, learner.optimizer.state_dict())
        )
        if self._log is not None:
            known_bad, known_damaged = self._files.known()
            TrainingState(
                epochs_done=progress.epochs_done,
                steps_done=progress.steps,
                trained=trained,
                average=average,
                averaged=learner.average.count,
                optimizer=optimizer,
                best=progress.best,
                first_loss=progress.first_loss,
                settings=plain_settings(learner.config),
                hashes=learner.hashes,
                epoch_steps=progress.epoch_steps,
                loss_sum=progress.loss_sum,
                videos=progress.videos,
                bad=plain_bad(bad),
                damaged=plain_damaged(damaged),
                known_bad=plain_bad(known_bad),
                known_damaged=plain_damaged(known_damaged),
                log_sizes=self._log.sizes(),
            ).write(self._out / STATE)
        learner.fabric.barrier()  # a launcher ends all when one has ended: nobody leaves before the state is written
        self._written, self._kept = time.monotonic(), reached

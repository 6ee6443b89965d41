"""How far a run has come: what the loop counts and sums up, apart from tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from m2clip.data.dataset import BadFile, Batch, DamagedFile
from m2clip.train.file_notes import bad_files, damaged_files
from m2clip.train.readback import StepFigures
from m2clip.train.state import TrainingState


@dataclass
class Progress:
    """The place in a run, the sums of the epoch that has begun, and the best so far."""

    epochs_done: int = 0
    steps: int = 0
    """In all epochs."""
    epoch_steps: int = 0
    """In the epoch that has begun."""
    loss_sum: float = 0.0
    """Of the total loss, over the videos of the epoch."""
    videos: int = 0
    """Of the epoch, in all processes."""
    bad: list[BadFile] = field(default_factory=list)
    """Of the epoch, in this process; the main one keeps those of all where the run was resumed."""
    damaged: list[DamagedFile] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    """Epoch and validation top-1; empty: there is none yet."""
    first_loss: float = math.nan
    """Mean loss of the first epoch."""

    @classmethod
    def of(cls, state: TrainingState | None, *, main: bool) -> Self:
        """Where a run goes on, or the beginning. `main`: whether this is the process that speaks for all."""
        if state is None:
            return cls()
        return cls(
            epochs_done=state.epochs_done,
            steps=state.steps_done,
            epoch_steps=state.epoch_steps,
            loss_sum=state.loss_sum,
            videos=state.videos,
            bad=bad_files(state.bad) if main else [],
            damaged=damaged_files(state.damaged) if main else [],
            best=dict(state.best),
            first_loss=state.first_loss,
        )

    def begin_step(self) -> None:
        """A step is under way."""
        self.steps += 1
        self.epoch_steps += 1

    def end_step(self, parts: Sequence[Batch], read: StepFigures) -> None:
        """A step is done."""
        for batch in parts:
            self.bad += batch.bad
            self.damaged += batch.damaged
        self.loss_sum += read.terms["total"] * read.videos
        self.videos += read.videos

    def end_epoch(self) -> None:
        """An epoch is done, and another one may begin."""
        self.epochs_done += 1
        self.epoch_steps, self.loss_sum, self.videos, self.bad, self.damaged = 0, 0.0, 0, [], []

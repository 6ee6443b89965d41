"""The training state beside a checkpoint: what an interrupted run needs to go on as if nothing had happened.

It holds tensors and plain values only, so that `torch.load(weights_only=True)` reads it. There is no random state in it: the
random numbers of a step are derived from (seed, epoch, step, rank), and those of a sample from (seed, epoch, sample).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from m2clip.checkpoint.pytorch_files import read_plain
from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.errors import CheckpointError
from m2clip.model.saving import replace_file
from m2clip.train.file_notes import bad_files, damaged_files
from m2clip.train.log import sizes_after

STATE_VERSION = 3


@dataclass(frozen=True)
class TrainingState:
    """A run after one of its steps."""

    epochs_done: int
    steps_done: int
    """Optimiser steps, in all epochs."""
    trained: dict[str, Tensor]
    """The trained tensors, by their key in the model: those that training goes on from."""
    average: dict[str, Tensor]
    """The average of the trained tensors, by their key in the model; empty: there is none yet."""
    averaged: int
    """How many sets of tensors the average holds."""
    optimizer: dict[str, Any]
    """State dict of the optimiser."""
    best: dict[str, Any]
    """Epoch and validation top-1 of the best checkpoint so far; empty: none."""
    first_loss: float
    """Mean total loss of the first epoch."""
    settings: dict[str, Any]
    """The run's settings as plain values."""
    hashes: dict[str, str]
    """SHA-256 of what the run stands on: the training list, the class names, the frozen weights."""
    epoch_steps: int = 0
    """Steps of the epoch that has begun."""
    loss_sum: float = 0.0
    """Sum of the total loss over the videos of these steps."""
    videos: int = 0
    """How many videos these are."""
    bad: list[dict[str, Any]] = field(default_factory=list)
    """The files that could not be read in these steps, as `plain_bad` gives them."""
    damaged: list[dict[str, Any]] = field(default_factory=list)
    """The damaged files of these steps, as `plain_damaged` gives them."""
    known_bad: list[dict[str, Any]] = field(default_factory=list)
    """All files of the run that could not be read, in the order in which they were told."""
    known_damaged: list[dict[str, Any]] = field(default_factory=list)
    """All damaged files of the run, in the order in which they were told."""
    log_sizes: dict[str, int] = field(default_factory=dict)
    """How long each file of the log was, in bytes."""

    def write(self, path: Path) -> None:
        """Write the whole file or nothing: a crash leaves the state of before. Raises CheckpointError for a full disk."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        memory = io.BytesIO()  # torch.save into a file says of a full disk only that a position is unexpected
        torch.save({"format": "m2clip-state", "format_version": STATE_VERSION, **content}, memory)
        replace_file(path, memory.getbuffer())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a state on the CPU, also one of version 2, which lies at the end of an epoch.

        Raises CheckpointError for an absent, damaged or foreign file.
        """
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no run to resume; start one without resume")
        try:
            content = read_plain(path)
        except CheckpointError as error:
            raise _unreadable(path, str(error).removeprefix(f"{path} ").partition(";")[0]) from None
        if not isinstance(content, dict) or content.get("format") != "m2clip-state":
            raise CheckpointError(f"{path} is no training state of m2clip; resume needs the folder that a run wrote")
        version = content.get("format_version")
        if version not in (2, STATE_VERSION):
            raise CheckpointError(
                f"{path} has state version {version}, this m2clip reads 2 and {STATE_VERSION}; go on with the version that wrote it"
            )
        try:
            if version == 2:
                content = {**content, "log_sizes": sizes_after(path.parent, content["steps_done"])}
            state = cls(
                **{field.name: content[field.name] for field in fields(cls) if version > 2 or field.name in content}
            )
            state._check()
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(path, f"{type(error).__name__}: {error}") from None
        return state

    def known_files(self) -> tuple[list[BadFile], list[DamagedFile]]:
        """The bad and the damaged files of the run, in the order in which they were told."""
        return bad_files(self.known_bad), damaged_files(self.known_damaged)

    def _check(self) -> None:
        """TypeError or ValueError where a value is of another kind than it has to be."""
        for name, kind in _KINDS.items():
            if type(getattr(self, name)) is not kind:
                raise TypeError(f"{name} is of the type {type(getattr(self, name)).__name__}")
        if min(self.epochs_done, self.steps_done, self.epoch_steps, self.averaged) < 0:
            raise ValueError("a number of epochs or steps is less than 0")
        if not all(isinstance(tensor, Tensor) for tensor in (*self.trained.values(), *self.average.values())):
            raise TypeError("the trained tensors are no tensors")
        if not all(type(size) is int and size >= 0 for size in self.log_sizes.values()):
            raise TypeError("log_sizes holds no sizes")
        for files in (self.bad, self.known_bad):
            bad_files(files)
        for files in (self.damaged, self.known_damaged):
            damaged_files(files)


_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("epochs_done", "steps_done", "epoch_steps", "averaged", "videos"), int),
    **dict.fromkeys(("first_loss", "loss_sum"), float),
    **dict.fromkeys(("trained", "average", "optimizer", "best", "settings", "hashes", "log_sizes"), dict),
    **dict.fromkeys(("bad", "damaged", "known_bad", "known_damaged"), list),
}


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: the training state cannot be read ({reason}); start again in a new folder")

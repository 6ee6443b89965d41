"""The training state beside a checkpoint: what an interrupted run needs to go on as if nothing had happened.

It holds tensors and plain values only, so that `torch.load(weights_only=True)` reads it. There is no random state in it: the
random numbers of an epoch are derived from (seed, epoch), see `loop.py`.
"""

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from m2clip.errors import CheckpointError
from m2clip.model.saving import replace_file

STATE_VERSION = 2


@dataclass(frozen=True)
class TrainingState:
    """A run at the end of an epoch."""

    epochs_done: int
    steps_done: int
    """Optimiser steps."""
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

    def write(self, path: Path) -> None:
        """Write the whole file or nothing: a crash leaves the state of the epoch before. Raises CheckpointError for a full disk."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        memory = io.BytesIO()  # torch.save into a file says of a full disk only that a position is unexpected
        torch.save({"format": "m2clip-state", "format_version": STATE_VERSION, **content}, memory)
        replace_file(path, memory.getbuffer())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a state on the CPU. Raises CheckpointError for an absent, damaged or foreign file."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: there is no run to resume; start one without resume") from None
        except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{path}: the training state cannot be read ({reason}); start again in a new folder"
            ) from None
        if not isinstance(content, dict) or content.get("format") != "m2clip-state":
            raise CheckpointError(f"{path} is no training state of m2clip; resume needs the folder that a run wrote")
        if content["format_version"] != STATE_VERSION:
            raise CheckpointError(
                f"{path} has state version {content['format_version']}, this m2clip reads {STATE_VERSION}; "
                "go on with the version that wrote it"
            )
        return cls(**{field.name: content[field.name] for field in fields(cls)})

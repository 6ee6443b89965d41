"""What a step tells the program, read from the device all at once and before any weight changes.

A read makes the program wait until the device has done everything that it was given. Between two reads the program is ahead of
the device, which then never waits for it; so there is one read a step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from m2clip.data.dataset import Batch
from m2clip.data.places import Place
from m2clip.errors import M2CLIPError
from m2clip.train.objective import NOBODY, gathered

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class NonFiniteLoss(M2CLIPError):
    """A loss or a gradient is not a finite number."""


@dataclass(frozen=True)
class StepFigures:
    """One step, over all processes and parts."""

    terms: dict[str, float]
    """The loss terms and their total: means over the videos."""
    grad_norm: float
    """The norm of the gradient before it was clipped."""
    videos: int
    """Videos that could be read."""
    wish: int = 0
    """The largest wish of all processes."""


def global_counts(fabric: "Fabric", batches: Sequence[Batch]) -> Tensor:
    """How many readable videos each of these batches has over all processes: float32 [parts], on the device."""
    own = torch.tensor([len(batch.labels) for batch in batches], dtype=torch.float32)
    return gathered(fabric, own.to(fabric.device, non_blocking=True)).sum(0)


def read_step(
    fabric: "Fabric",
    terms: Sequence[Mapping[str, Tensor]],
    *,
    norm: Tensor,
    counts: Tensor,
    batches: Sequence[Batch],
    largest: int,
    places: Sequence[Place],
    step: int,
    wish: int = 0,
) -> StepFigures:
    """The figures of a step whose gradients are there. Raises NonFiniteLoss, in every process, if one of them is not finite.

    `terms`: scalars of each part, as this process has them; `norm`: of the gradient; `counts` [parts] as `global_counts` gives
    them. `batches` are this process's parts, of `largest` videos at most, and `places` those of the manifest. `wish`: what
    this process would have all of them do next, a number whose meaning is the caller's.
    """
    losses = [value for part in terms for value in part.values()]
    own = torch.stack([value.detach().float() for value in (*losses, norm)])
    # [W, parts * terms + 1 + parts + 1]
    rows = gathered(fabric, torch.cat([own, counts, counts.new_tensor([wish])])).tolist()
    names = [name for part in terms for name in part]
    for column, name in enumerate([*names, "the gradient's norm"]):
        for rank, row in enumerate(rows):
            if not math.isfinite(row[column]):
                # A loss is one part's, the gradient that of all.
                fault = batches if column == len(names) else [batches[column // len(terms[0])]]
                files = ", ".join(str(places[i]) for i in _samples(fabric, fault, largest=largest, rank=rank))
                raise NonFiniteLoss(
                    f"{name} is {row[column]} at step {step} in process {rank} with the files {files}; "
                    "look at these, lower train.lr or set train.precision=fp32, and resume: the run goes on after what it kept last"
                )
    videos = [int(count) for count in rows[0][len(own) : -1]]
    means = dict.fromkeys(names, 0.0)
    for column, name in enumerate(names):
        mean = sum(row[column] for row in rows) / len(rows)
        means[name] += mean * videos[column // len(terms[0])] / max(sum(videos), 1)
    return StepFigures(means, rows[0][len(names)], sum(videos), wish=int(max(row[-1] for row in rows)))


def _samples(fabric: "Fabric", batches: Sequence[Batch], *, largest: int, rank: int) -> list[int]:
    """Positions in the manifest of what one process had in these batches. Every process has to ask."""
    own = torch.cat([batch.indices for batch in batches]).to(fabric.device)
    everyone = gathered(fabric, F.pad(own, (0, largest * len(batches) - len(own)), value=NOBODY))
    return [index for index in everyone[rank].tolist() if index != NOBODY]

"""Averages of the trained tensors over the steps (EMA) or the last epochs (SWA) of a run.

What is averaged generalises better to classes and videos that were not seen in training: the mean lies in a flatter part of
the loss than its members (stochastic weight averaging, arXiv 1803.05407; for CLIP on new classes, Open-VCLIP, arXiv 2302.00624).
Training itself never sees the average.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from m2clip.config import TrainConfig
from m2clip.train.sharding import own_share


class WeightAverage:
    """The running average of a model's trained tensors, as `train.average` says; it begins with the first tensors it is given.

    ema: after each step average = decay * average + (1 - decay) * now. swa: the plain mean of what the last epochs end with.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, options: TrainConfig, steps: int) -> None:
        self._parameters = dict(parameters)
        self._kind = options.average
        self._first_epoch = options.epochs - options.averaged_epochs
        self._decay = options.decay(steps)
        self._fold = get_ema_multi_avg_fn(self._decay) if self._kind == "ema" else get_swa_multi_avg_fn()
        self.tensors: dict[str, Tensor] = {}
        """The average, by the key of the tensor in the model; empty before it has begun."""
        self.count = 0
        """How many sets of tensors went in."""

    def after_step(self) -> None:
        """What the optimiser has just made of the tensors."""
        if self._kind == "ema":
            self._add()

    def after_epoch(self, epoch: int) -> bool:
        """The end of an epoch, counted from 0; whether `swa` begins with it."""
        if self._kind == "swa" and epoch >= self._first_epoch:
            self._add()
        return self._kind == "swa" and epoch == self._first_epoch

    @torch.no_grad()
    def _add(self) -> None:
        now = {name: parameter.detach() for name, parameter in self._parameters.items()}
        if self.count == 0:
            self.tensors = {name: tensor.clone() for name, tensor in now.items()}
        else:
            self._fold([self.tensors[name] for name in now], list(now.values()), self.count)
        self.count += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the average meanwhile, where there is one, and its own tensors, to the last bit, afterwards."""
        if self.count == 0:
            yield
            return
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self.tensors)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])

    def restore(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Go on from the average of a run that was left off."""
        self.tensors = {name: own_share(tensor, self._parameters[name]) for name, tensor in tensors.items()}
        self.count = count

    def record(self) -> dict[str, Any]:
        """What a checkpoint says of the tensors in it; empty before the average has begun."""
        if self.count == 0:
            return {}
        return {"kind": self._kind, "averaged": self.count} | ({"decay": self._decay} if self._kind == "ema" else {})

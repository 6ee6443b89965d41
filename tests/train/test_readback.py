"""What a step reads back: once, weighted by the videos of its parts, and the first thing that is not finite, with its files."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from m2clip.config import RunConfig
from m2clip.data.dataset import Batch
from m2clip.train.objective import Objective, Step
from m2clip.train.preparation import start_fabric
from m2clip.train.readback import NonFiniteLoss, StepFigures, global_counts, read_step
from tests.small_inputs import tiny_model

PATHS = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


def batch(*indices: int) -> Batch:
    count = len(indices)
    return Batch(torch.zeros(count, 1, 1, 3, 2, 2), torch.zeros(count, dtype=torch.int64), torch.tensor(indices).long())


def read(terms: list[dict[str, float]], batches: list[Batch], *, norm: float = 0.5) -> StepFigures:
    fabric = start_fabric("fp32")
    tensors = [{name: torch.tensor(value) for name, value in part.items()} for part in terms]
    counts = global_counts(fabric, batches)
    return read_step(
        fabric, tensors, norm=torch.tensor(norm), counts=counts, batches=batches, largest=3, places=PATHS, step=7
    )


def test_a_part_counts_by_its_videos() -> None:
    parts = [{"visual": 1.0, "total": 2.0}, {"visual": 5.0, "total": 10.0}, {"visual": 99.0, "total": 99.0}]
    found = read(parts, [batch(0, 2, 3), batch(1), batch()])
    assert found == StepFigures({"visual": 2.0, "total": 4.0}, grad_norm=0.5, videos=4)
    assert read(parts[2:], [batch()]) == StepFigures({"visual": 0.0, "total": 0.0}, grad_norm=0.5, videos=0)


def test_the_first_term_that_is_not_finite_is_named_with_the_files_of_its_part() -> None:
    parts = [{"visual": 1.0, "total": 2.0}, {"visual": float("nan"), "total": float("nan")}]
    with pytest.raises(NonFiniteLoss, match=r"visual is nan at step 7 in process 0 with the files d.mp4, b.mp4; look"):
        read(parts, [batch(0, 2), batch(3, 1)], norm=float("nan"))


def test_a_gradient_that_is_not_finite_is_that_of_all_parts() -> None:
    parts = [{"total": 1.0}, {"total": 2.0}]
    with pytest.raises(NonFiniteLoss, match=r"the gradient's norm is inf at step 7 .* the files c.mp4, a.mp4; look"):
        read(parts, [batch(2), batch(0)], norm=float("inf"))


class Reads(TorchDispatchMode):
    """Names the operations that make a program wait for its device: values, or sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        chosen = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if chosen or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def test_a_step_asks_its_device_for_nothing_before_it_reads_its_figures() -> None:
    fabric = start_fabric("fp32")
    model = tiny_model(("red star growing", "blue square bouncing"))
    optimizer = torch.optim.AdamW(list(model.trained_parameters().values()), lr=0.01, fused=True)
    module, stepper = fabric.setup(Step(model), optimizer)
    objective = Objective(model, config=RunConfig(out="unused"), largest=2, device=fabric.device)
    videos = Batch(torch.zeros(2, 1, 3, 3, 32, 32), torch.tensor([0, 1]), torch.tensor([0, 1]))
    for _ in range(2):  # the first step prepares the texts
        with Reads() as reads:
            counts = global_counts(fabric, [videos])
            losses = objective(fabric, module, videos, epoch=0)
            assert {"mlm", "contrastive", "cross_modal", "visual"} < losses.terms().keys()
            fabric.backward(losses.total * (counts / counts.sum())[0])
            fabric.clip_gradients(module, stepper, max_norm=1.0, error_if_nonfinite=False)
            stepper.step()
            stepper.zero_grad()
    assert reads.found == []
    with Reads() as reads:
        float(counts.sum())
    assert reads.found == ["_local_scalar_dense"]  # the test can fail

"""What a step reads back: weighted by the videos of its parts, and the first thing that is not finite, with its files."""

import pytest
import torch

from m2clip.data.dataset import Batch
from m2clip.train.preparation import start_fabric
from m2clip.train.readback import NonFiniteLoss, StepFigures, global_counts, read_step

PATHS = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


def batch(*indices: int) -> Batch:
    count = len(indices)
    return Batch(torch.zeros(count, 1, 1, 3, 2, 2), torch.zeros(count, dtype=torch.int64), torch.tensor(indices).long())


def read(terms: list[dict[str, float]], batches: list[Batch], *, norm: float = 0.5) -> StepFigures:
    fabric = start_fabric("fp32")
    tensors = [{name: torch.tensor(value) for name, value in part.items()} for part in terms]
    counts = global_counts(fabric, batches)
    return read_step(
        fabric, tensors, norm=torch.tensor(norm), counts=counts, batches=batches, largest=3, paths=PATHS, step=7
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

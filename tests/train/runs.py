"""What two runs have left, compared to the last bit but for what a clock measured."""

import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STATE = "last.state.pt"


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The log without what a clock measured."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").split("\n")[:-1]]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: steps and values of each curve, without what a clock measured."""
    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "seconds" not in tag]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def same_tree(one: Any, other: Any) -> bool:
    """Whether two states are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tree(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same_tree(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def assert_same(out: Path, other: Path) -> None:
    names = {path.name for path in other.iterdir()}
    assert {path.name for path in out.iterdir()} == names
    for name in names - {"metrics.jsonl", "report.json", "tensorboard", STATE}:
        assert (out / name).read_bytes() == (other / name).read_bytes(), name
    ours, theirs = (torch.load(folder / STATE, weights_only=True) for folder in (out, other))
    for state in (ours, theirs):
        del state["settings"], state["log_sizes"]  # the folder's name; how many digits a clock's numbers have
    assert same_tree(ours, theirs)
    assert log_lines(out) == log_lines(other)
    assert curves(out) == curves(other)


class Killed(BaseException):
    """Stands for a kill where no process is worth its start."""

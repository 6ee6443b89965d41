"""What a command has left in its folder, in a form in which two runs can be compared: all of it but what a clock has measured."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

CLOCK = re.compile(r"seconds$|^machine$|^folder$|^log_sizes$")
"""Keys and columns that say how long something took, on what and where; and how long a log is, in which such numbers stand."""
TIMES = re.compile(r"\b(\d+ h )?(\d+ min )?\d+(\.\d+)? (s|min)\b")
"""As pages have them."""
WRITTEN = {".json", ".jsonl", ".csv", ".html", ".md"}
SPOKEN = {".log"}
"""Files that hold what a program said: a run that was broken off says more."""


def remains(folder: Path) -> dict[str, Any]:
    """What each file holds, by its path below `folder`; curves of TensorBoard count as one file, and so that none may be doubled."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            if path.name == "tensorboard":
                found[name] = _curves(path)
            elif not any(path.iterdir()):
                found[name] = "an empty folder"
        elif path.parent.name != "tensorboard":
            found[name] = _content(path, folder)
    return found


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is missing, too much, or holds something else."""
    lost = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lost += [f"{name} was left behind" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            lost.append(f"{name} differs: {_first_difference(expected[name], found[name])}")
    return sorted(lost)


def _content(path: Path, folder: Path) -> Any:
    kind = path.suffix
    if kind in SPOKEN:
        return "said"
    if kind == ".parquet":
        table = pq.read_table(path)
        return table.select([name for name in table.column_names if not CLOCK.search(name)]).to_pydict()
    if kind == ".pt":
        return _without_clock(_plain(torch.load(path, map_location="cpu", weights_only=True)))
    data = path.read_bytes()
    if kind in WRITTEN:  # each run has a folder of its own, and reports say which
        data = data.replace(str(folder).encode(), b"FOLDER")
    if kind == ".json":
        return _without_clock(json.loads(data))
    if kind == ".jsonl":
        *lines, torn = data.decode().split("\n")
        return [*(_without_clock(json.loads(line)) for line in lines), *([torn] if torn else [])]
    if kind == ".csv":
        return [_without_clock(row) for row in csv.DictReader(io.StringIO(data.decode()))]
    if kind in (".html", ".md"):
        return [TIMES.sub("some time", line) for line in data.decode().split("\n")]
    return hashlib.sha256(data).hexdigest()


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each curve, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = (tag for tag in events.Tags()["scalars"] if not CLOCK.search(tag))
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.contiguous().view(-1).view(torch.uint8) if value.numel() else value
        return f"{value.dtype} {list(value.shape)} {hashlib.sha256(data.numpy().tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(one) for key, one in value.items() if not CLOCK.search(str(key))}
    return [_without_clock(one) for one in value] if isinstance(value, list) else value


def _first_difference(expected: Any, found: Any, at: str = "") -> str:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            if key not in expected or key not in found:
                return f"{at}{key} is {'missing' if key in expected else 'new'}"
            if expected[key] != found[key]:
                return _first_difference(expected[key], found[key], f"{at}{key}: ")
    if isinstance(expected, list) and isinstance(found, list):
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            if one != other:
                return _first_difference(one, other, f"{at}[{number}] ")
        return f"{at}{len(found)} entries instead of {len(expected)}"
    return f"{at}{str(found)[:80]} instead of {str(expected)[:80]}"

"""What the cells of a study found, as records; and the means and deviations over seeds. Pure functions of the cells' files."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2clip.errors import ConfigError
from m2clip.report.files import write_whole
from m2clip.study.cell import RESULT, extra_path, read_json, read_result
from m2clip.study.config import AT
from m2clip.study.plan import Cell

FORMAT_VERSION = 1
SUMMARY = {"mean": "mean", "harmonic": "harmonic mean"}
"""What the number over all test parts is called, by the protocol's rule."""


@dataclass(frozen=True)
class Record:
    """One measurement: a trained cell as it is, or a further evaluation of it."""

    method: str
    evaluation: str | None
    data: str
    seed: int
    kind: str
    """The method as `model.method` names it."""
    rule: str
    """How the protocol puts test parts together: mean or harmonic."""
    trained_parameters: int
    training: dict[str, Any] | None
    """epochs, steps, seconds; loss: for each term its first step and the means of the first and the last epoch."""
    parts: dict[str, dict[str, Any]]
    """For each test part: protocol, videos, classes, frames, views, strength, texts of the first class, readings, masked words."""
    machine: dict[str, Any]

    @property
    def row(self) -> str:
        """The method, or METHOD@EVALUATION."""
        return self.method if self.evaluation is None else f"{self.method}{AT}{self.evaluation}"

    def accuracies(self, reading: str | None = None) -> dict[str, float]:
        """Top-1 (0..1) of each test part, and where there are several, the protocol's summary of them.

        `reading`: of supervised parts, those that lack it are left out, and with them the summary; None: see `chosen_reading`.
        """
        found = {}
        for name, part in self.parts.items():
            used = reading if reading and part["protocol"] == "supervised" else None
            used = used or chosen_reading(self.kind, part["protocol"], part["readings"])
            if used in part["readings"]:
                found[name] = part["readings"][used]["top1"]
        if len(found) == len(self.parts) > 1:
            values = list(found.values())
            mean = statistics.harmonic_mean if self.rule == "harmonic" else statistics.fmean
            found[SUMMARY[self.rule]] = mean(values)
        return found


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample: n - 1; None for one) over n seeds."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def chosen_reading(method: str, protocol: str, readings: Iterable[str]) -> str:
    """The reading that tables and figures tell.

    Zero-shot: the similarity. Supervised: of a linear probe the visual head, for its text side is CLIP as it was; of any other
    method the ensemble where there is one, else the similarity.
    """
    wanted = "similarity"
    if protocol == "supervised":
        wanted = "visual" if method == "linear-probe" else "ensemble"
    return wanted if wanted in readings else "similarity"


def gather(cells: Iterable[Cell]) -> tuple[Record, ...]:
    """The records of all cells that are finished, and of their further evaluations. ConfigError for a damaged file."""
    records = []
    for cell in cells:
        path = cell.folder / RESULT
        if not path.exists():
            continue
        own = read_result(path)
        records.append(_record(own, own))
        for extra in cell.extras:
            file = extra_path(cell, extra)
            if file.exists():
                records.append(_record(read_result(file), own))
    return tuple(records)


def write_records(records: Sequence[Record], path: Path, *, study: Path, overrides: Sequence[str] = ()) -> None:
    """Keep records as JSON, small enough to stand in a repository, with the study's file that they belong to."""
    rows = ",\n".join(json.dumps(vars(record), ensure_ascii=False, allow_nan=False) for record in records)
    head = json.dumps({"format_version": FORMAT_VERSION, "study": study.as_posix(), "overrides": list(overrides)})
    write_whole(path, f'{head[:-1]}, "records": [\n{rows}\n]}}\n')


def read_records(path: Path) -> tuple[Path, tuple[str, ...], tuple[Record, ...]]:
    """What `write_records` kept: the study's file, its overrides, the records. ConfigError for another file."""
    document = read_json(path)
    try:
        records = tuple(Record(**record) for record in document["records"])
        return Path(document["study"]), tuple(document["overrides"]), records
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no records of a study ({error}); make it with m2clip study --page") from None


def spreads(records: Iterable[Record], reading: str | None = None) -> dict[tuple[str, str], dict[str, Spread]]:
    """(row, data) -> for each test part and the summary its spread over the seeds."""
    grouped: dict[tuple[str, str], list[dict[str, float]]] = {}
    for record in records:
        grouped.setdefault((record.row, record.data), []).append(record.accuracies(reading))
    return {key: {name: Spread.of([one[name] for one in seeds]) for name in seeds[0]} for key, seeds in grouped.items()}


def margin(
    records: Sequence[Record], row: str, other: str, *, data: str, part: str, reading: str | None = None
) -> Spread | None:
    """How far `row` is above `other`, seed by seed; a row that has one seed only, as of a method that trains nothing, stands for all.

    None where they have no seed in common.
    """
    values = {
        name: {r.seed: r.accuracies(reading)[part] for r in records if r.row == name and r.data == data}
        for name in (row, other)
    }
    constant = {
        r.row: r.accuracies(reading)[part]
        for r in records
        if r.data == data and r.training is None and r.row in (row, other)
    }
    first, second = values[row], values[other]
    if other in constant and first:
        second = dict.fromkeys(first, constant[other])
    elif row in constant and second:
        first = dict.fromkeys(second, constant[row])
    common = sorted(first.keys() & second.keys())
    return Spread.of([first[seed] - second[seed] for seed in common]) if common else None


def _record(found: Mapping[str, Any], own: Mapping[str, Any]) -> Record:
    """`own`: the result of the cell, which knows of the training."""
    return Record(
        method=own["method"],
        evaluation=found.get("evaluation"),
        data=own["data"],
        seed=own["seed"],
        kind=own["settings"]["run"]["model.method"],
        rule=found["summary"],
        trained_parameters=own["trained_parameters"]["total"],
        training=_training(own["training"]),
        parts={name: _part(part) for name, part in found["report"]["parts"].items()},
        machine=found["machine"],
    )


def _training(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    loss = {
        term: {
            "first_step": curve["first_step"],
            "first_epoch": curve["epochs"][0],
            "last_epoch": curve["epochs"][-1],
        }
        for term, curve in found["loss"].items()
    }
    return {"epochs": found["epochs"], "steps": found["steps"], "seconds": found["seconds"], "loss": loss}


def _part(document: Mapping[str, Any]) -> dict[str, Any]:
    protocol, views = document["protocol"], document["protocol"]["views"]
    kept = ("top1", "top5", "mean_class", "videos")
    part = {
        "protocol": protocol["name"],
        "listed": protocol["data"]["listed"],
        "scored": protocol["data"]["scored"],
        "classes": protocol["classes"],
        "frames": protocol["frames"],
        "views": f"{views['temporal']}x{views['spatial']}",
        "strength": protocol.get("strength", 1.0),
        "first_texts": protocol["texts"][0],
        "readings": {reading: {key: metrics[key] for key in kept} for reading, metrics in document["metrics"].items()},
        "seconds": document["seconds"],
    }
    if "masked_words" in document:
        words = document["masked_words"]
        part["masked_words"] = {
            reading: {key: value for key, value in one.items() if key != "by_word"} for reading, one in words.items()
        }
    return part

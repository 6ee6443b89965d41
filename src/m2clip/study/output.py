"""The files of a study's results: one row a measurement, and means over seeds, as CSV, Parquet, Markdown and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2clip.errors import M2CLIPError
from m2clip.report.files import write_csv, write_whole
from m2clip.study.config import StudyConfig
from m2clip.study.results import Record, spreads

COLUMNS = (
    *("method", "evaluation", "data", "seed", "part", "protocol", "reading", "top1", "top5", "mean_class", "videos"),
    *(
        "classes",
        "frames",
        "views",
        "strength",
        "trained_parameters",
        "epochs",
        "training_seconds",
        "evaluation_seconds",
    ),
)
"""Columns of results.csv and results.parquet. Accuracies are fractions."""


def write_results(config: StudyConfig, records: Sequence[Record], out: Path) -> list[str]:
    """Write results.csv, results.parquet and summary.csv into `out`; returns the paths.

    Raises M2CLIPError where pyarrow is not installed.
    """
    rows = result_rows(records)
    write_csv(out / "results.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    write_parquet(rows, out / "results.parquet")
    write_csv(
        out / "summary.csv", ("row", "title", "data", "part", "mean", "std", "seeds"), summary_rows(config, records)
    )
    return [str(out / name) for name in ("results.csv", "results.parquet", "summary.csv")]


def result_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row for each record, test part and reading."""
    return [
        {
            "method": record.method,
            "evaluation": record.evaluation,
            "data": record.data,
            "seed": record.seed,
            "part": name,
            "protocol": part["protocol"],
            "reading": reading,
            "top1": metrics["top1"],
            "top5": metrics["top5"],
            "mean_class": metrics["mean_class"],
            "videos": metrics["videos"],
            "classes": part["classes"],
            "frames": part["frames"],
            "views": part["views"],
            "strength": part["strength"],
            "trained_parameters": record.trained_parameters,
            "epochs": record.training["epochs"] if record.training else None,
            "training_seconds": record.training["seconds"] if record.training else None,
            "evaluation_seconds": part["seconds"],
        }
        for record in records
        for name, part in record.parts.items()
        for reading, metrics in part["readings"].items()
    ]


def summary_rows(config: StudyConfig, records: Sequence[Record]) -> list[list[Any]]:
    """row, title, data, part, mean, std, seeds: top-1 by the chosen reading, over the seeds."""
    return [
        [row, config.row_title(row), data, part, spread.mean, spread.std, spread.n]
        for (row, data), parts in spreads(records).items()
        for part, spread in parts.items()
    ]


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The rows as a Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise M2CLIPError("a study writes Parquet with pyarrow; install it with: pip install 'm2clip[train]'") from None
    text = {"method", "evaluation", "data", "part", "protocol", "reading", "views"}
    whole = {"seed", "videos", "classes", "frames", "trained_parameters", "epochs"}
    kinds = [(name, pa.string() if name in text else pa.int64() if name in whole else pa.float64()) for name in COLUMNS]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(kinds)), sink)
    write_whole(path, sink.getvalue().to_pybytes())

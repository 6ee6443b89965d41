"""The files of a study's results: CSV, Parquet, figures, and the page as HTML and as Markdown."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m2clip.report.files import results_folder, write_csv, write_whole
from m2clip.report.page import Picture, page
from m2clip.study.config import Study, StudyConfig
from m2clip.study.figures import figure
from m2clip.study.markdown import markdown
from m2clip.study.page import page_plan, page_sections
from m2clip.study.results import Record, spreads, write_records

COLUMNS = (
    *("method", "evaluation", "data", "seed", "part", "protocol", "reading", "top1", "top5", "mean_class", "videos"),
    *("classes", "frames", "views", "strength", "trained_parameters", "epochs", "training_seconds"),
    "evaluation_seconds",
)
"""Columns of results.csv and results.parquet. Accuracies are fractions."""


def write_results(study: Study, records: Sequence[Record], out: Path) -> list[str]:
    """Write results.csv, results.parquet, summary.csv, summary.md, figures and report.html into `out`; returns the paths."""
    results_folder(out)
    write_parquet(result_rows(records), out / "results.parquet")
    names = ["results.parquet", *_tables(study.config, records, out)]
    pictures = _figures(study.config, records, out)
    sections = page_sections(study.config, records, pictures=pictures, command=_command(study))
    write_whole(out / "report.html", page(study.config.title, sections))
    write_whole(out / "summary.md", markdown(study.config.title, sections, folder="."))
    return [
        str(out / name)
        for name in (*names, *(one.file for some in pictures for one in some), "summary.md", "report.html")
    ]


def write_page(study: Study, records: Sequence[Record], path: Path) -> None:
    """Write the page as Markdown, and beside it a folder of its name with what it is made from: records.json, CSV, figures."""
    folder = results_folder(path.with_suffix(""))
    write_records(records, folder / "records.json", study=study.source.path, overrides=study.overrides)
    _tables(study.config, records, folder)
    pictures = _figures(study.config, records, folder)
    write_whole(path, page_text(study, records, path, drawn=pictures))


def page_text(
    study: Study, records: Sequence[Record], path: Path, *, drawn: Sequence[Sequence[Picture]] | None = None
) -> str:
    """The Markdown of a page at `path`. `drawn` None: the figures are taken to be there already."""
    pictures = _figures(study.config, records, None) if drawn is None else drawn
    command = _command(study, "--page", path.as_posix())
    sections = page_sections(study.config, records, pictures=pictures, command=command)
    return markdown(study.config.title, sections, folder=path.stem)


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
    text = {"method", "evaluation", "data", "part", "protocol", "reading", "views"}
    whole = {"seed", "videos", "classes", "frames", "trained_parameters", "epochs"}
    kinds = [(name, pa.string() if name in text else pa.int64() if name in whole else pa.float64()) for name in COLUMNS]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(kinds)), sink)
    write_whole(path, sink.getvalue().to_pybytes())


def _tables(config: StudyConfig, records: Sequence[Record], out: Path) -> list[str]:
    rows = result_rows(records)
    write_csv(out / "results.csv", COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    header = ("row", "title", "data", "part", "mean", "std", "seeds")
    write_csv(out / "summary.csv", header, summary_rows(config, records))
    return ["results.csv", "summary.csv"]


def _figures(config: StudyConfig, records: Sequence[Record], out: Path | None) -> list[list[Picture]]:
    """The figures of each section, drawn into `out` (None: not written). What has no measurement yet is left out."""
    pictures: list[list[Picture]] = []
    for number, section in enumerate(page_plan(config), start=1):
        pictures.append([])
        for place, wanted in enumerate(section.figures, start=1):
            drawing = figure(config, wanted, records)
            if drawing is not None:
                pictures[-1].append(Picture(f"figure-{number}-{place}.png", wanted.title))
                if out is not None:
                    write_whole(out / pictures[-1][-1].file, drawing)
    return pictures


def _command(study: Study, *options: str) -> str:
    return shlex.join(["m2clip", "study", study.source.path.as_posix(), *study.overrides, *options])

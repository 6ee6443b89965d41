"""The page of a study: what was done, the sections that its YAML asks for, and every row in full."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from m2clip.errors import ConfigError
from m2clip.report.page import Picture, Section, Table
from m2clip.study.config import AT, Study, StudyConfig
from m2clip.study.page_config import SectionConfig, TableConfig
from m2clip.study.plan import Cell, flat
from m2clip.study.results import SUMMARY, Record
from m2clip.study.runner import duration
from m2clip.study.tables import tables

READING = (
    "Accuracies on trained classes are read off the ensemble of visual head and similarity where a model has both (a linear probe: off "
    "the visual head alone), on other classes off the similarity to the class texts; results.csv has every reading."
)


def page_sections(
    config: StudyConfig, records: Sequence[Record], *, pictures: Sequence[Sequence[Picture]], command: str
) -> list[Section]:
    """All sections. `pictures`: for each section of the settings those that were drawn; `command` made the page."""
    found = [Section("What was done", _introduction(config, records, command))]
    for section, drawn in zip(page_plan(config), pictures, strict=True):
        found.append(
            Section(
                section.title,
                [
                    *([section.about] if section.about else []),
                    *(made for table in section.tables for made in tables(config, table, records)),
                    *drawn,
                ],
            )
        )
    return [*found, Section("Rows", [_rows(config, records)]), Section("Data", [_data(config, records)])]


def need_parts(study: Study, cells: Iterable[Cell]) -> None:
    """ConfigError where the page is to show what no cell of the study measures: it would be missing without a word."""
    parts: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for row, protocol in (
            (cell.method, cell.protocol),
            *((f"{cell.method}{AT}{extra.name}", extra.protocol) for extra in cell.extras),
        ):
            summary = [SUMMARY[protocol.written.summary]] if len(protocol.tests) > 1 else []
            parts[(row, cell.data)] = [*protocol.tests, *summary]
    where = study.source.where(("sections",))
    for section in study.config.sections:
        for table in section.tables:
            for row in table.rows:
                if not any((row, data) in parts for data in table.data):
                    raise ConfigError(
                        f"{where}: the table {table.title!r} has the row {row}, but no grid runs it on {' or '.join(table.data)}; "
                        "add it to a grid, or leave the row out"
                    )
        for figure in section.figures:
            for row, data in figure.pairs():
                if (row, data) not in parts:
                    raise ConfigError(
                        f"{where}: the figure {figure.title!r} shows {row} on {data}, but no grid runs that; "
                        "add it to a grid, or leave the point out"
                    )
                for part in figure.parts:
                    if part not in parts[(row, data)]:
                        raise ConfigError(
                            f"{where}: the figure {figure.title!r} shows {part} of {row} on {data}, which has only "
                            f"{', '.join(parts[(row, data)])}"
                        )


def page_plan(config: StudyConfig) -> tuple[SectionConfig, ...]:
    """The sections that the settings ask for; where they ask for none, one table for each data set."""
    if config.sections:
        return config.sections
    planned = []
    for name in config.data:
        rows = [
            method for method in config.methods if any(method in g.methods and name in g.data for g in config.grids)
        ]
        further = [
            f"{method}{AT}{evaluation}"
            for evaluation, one in config.evaluations.items()
            for method in one.of
            if method in rows and name in (one.data or config.data)
        ]
        if rows:
            title = config.data_title(name)
            table = TableConfig(title=title, data=(name,), rows=(*rows, *further))
            planned.append(SectionConfig(title=title, tables=(table,)))
    return tuple(planned)


def _introduction(config: StudyConfig, records: Sequence[Record], command: str) -> list[str]:
    cells = [record for record in records if record.evaluation is None]
    training = sum(record.training["seconds"] for record in cells if record.training)
    testing = sum(part["seconds"] for record in records for part in record.parts.values())
    machines = list(dict.fromkeys(_machine(record.machine) for record in records))
    return [
        *([config.about] if config.about else []),
        f"Made by `{command}` from the files of the study.",
        f"{len(cells)} cells (a method, a data set, a seed), {len(records) - len(cells)} further measurements; "
        f"{duration(training)} of training and {duration(testing)} of testing, added over all processes. "
        f"Measured on {'; '.join(machines)}.",
        READING,
    ]


def _machine(machine: dict[str, Any]) -> str:
    where = f"{machine['gpu']}, " if "gpu" in machine else ""
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return f"{where}{machine['processor']}, {machine['cores']} cores, {threads} a cell, torch {machine['torch']}"


def _rows(config: StudyConfig, records: Sequence[Record]) -> Table:
    """What each row changes, and what it cost."""
    rows = []
    for name in dict.fromkeys(record.row for record in records):
        own = [record for record in records if record.row == name]
        method, evaluation = config.methods[own[0].method], own[0].evaluation
        changes = _settings(method.set)
        about = method.about or ""
        if evaluation is not None:
            given = config.evaluations[evaluation].model_dump(exclude_unset=True, exclude={"of", "data", "title"})
            changes, about = _settings(given), ""
        seconds = [record.training["seconds"] for record in own if record.training] if evaluation is None else []
        cost = duration(sum(seconds) / len(seconds)) if seconds else "no training"
        rows.append([config.row_title(name), name, changes or "none", cost, about])
    header = ["", "name", "changes to the common settings", "training, mean of its cells", ""]
    return Table(header, rows, caption=f"Common settings: {_settings(config.run) or 'the defaults'}.")


def _data(config: StudyConfig, records: Sequence[Record]) -> Table:
    """Each data set's test parts."""
    rows: dict[tuple[Any, ...], None] = {}
    for record in records:
        if record.evaluation is None:
            for name, part in record.parts.items():
                rows[(record.data, name, part["protocol"], part["classes"], part["listed"], part["views"])] = None
    return Table(
        ["", "protocol", "part", "kind", "classes", "videos", "views", "changes to the common settings"],
        [
            [
                config.data_title(row[0]),
                _protocol(config, row[0]),
                *row[1:],
                _settings(config.data[row[0]].set) or "none",
            ]
            for row in rows
        ],
    )


def _protocol(config: StudyConfig, name: str) -> str:
    data = config.data[name]
    chosen = "".join(f", {key}={value}" for key, value in data.choose.items())
    return data.protocol + chosen


def _settings(values: dict[str, Any]) -> str:
    """Dotted names and values, as overrides would be written."""
    return ", ".join(f"{key}={_value(value)}" for key, value in flat(values).items())


def _value(value: Any) -> str:
    if isinstance(value, bool):  # YAML's switches, some of which stand for a word: `model.ted=off`
        return "on" if value else "off"
    return value if isinstance(value, str) else json.dumps(value)

"""The tables of a study's page: means over seeds, margins, and what the masked-word head learned."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from m2clip.report.page import Table
from m2clip.study.config import StudyConfig
from m2clip.study.page_config import TableConfig
from m2clip.study.results import Record, Spread, margin, spreads

ABSENT, NO_READING = "not run", "no such reading"


def tables(config: StudyConfig, table: TableConfig, records: Sequence[Record]) -> list[Table]:
    """The table that the settings describe, and one of margins where a row is compared."""
    if table.kind == "masked-words":
        return [masked_word_table(config, table, records)]
    found = [accuracy_table(config, table, records)]
    margins = margin_table(config, table, records) if table.compare else None
    return [*found, margins] if margins and margins.rows else found  # nothing to compare before two rows have run


def accuracy_table(config: StudyConfig, table: TableConfig, records: Sequence[Record]) -> Table:
    """One row a method: trained parameters, then for each data set its test parts and their summary, top-1 in percent."""
    found, columns = spreads(records, table.reading), _columns(table, records)
    rows = []
    for row in table.rows:
        own = [record for record in records if record.row == row and record.data in table.data]
        counts = sorted({record.trained_parameters for record in own})  # heads differ with the classes
        spread = {column: found.get((row, column[0]), {}).get(column[1]) for column in columns}
        ran = {record.data for record in own}
        seeds = sorted({one.n for one in spread.values() if one})
        rows.append(
            [
                config.row_title(row),
                " or ".join(dict.fromkeys(map(parameters, counts))) or ABSENT,
                *(NO_READING if one is None and data in ran else percent(one) for (data, _), one in spread.items()),
                " or ".join(map(str, seeds)) or ABSENT,
            ]
        )
    header = ["", "trained", *(_heading(config, column, table.data) for column in columns), "seeds"]
    read = f" Trained classes are read off the {table.reading} alone." if table.reading else ""
    return Table(
        header, rows, caption=f"{table.title}. Top-1 in %, mean ± standard deviation (n - 1) over seeds.{read}"
    )


def margin_table(config: StudyConfig, table: TableConfig, records: Sequence[Record]) -> Table:
    """The compared row beside the best of the others, column by column; the difference is taken seed by seed."""
    assert table.compare is not None
    found, rows = spreads(records, table.reading), []
    for data, part in _columns(table, records):
        own = found.get((table.compare, data), {}).get(part)
        others = {
            row: spread
            for row in table.rows
            if row != table.compare and (spread := found.get((row, data), {}).get(part)) is not None
        }
        if own is None or not others:
            continue
        best = max(others, key=lambda row: others[row].mean)
        gap = margin(records, table.compare, best, data=data, part=part, reading=table.reading)
        rows.append(
            [
                f"{config.data_title(data)}, {part}",
                percent(own),
                config.row_title(best),
                percent(others[best]),
                ABSENT if gap is None else points(gap),
            ]
        )
    header = ["", config.row_title(table.compare), "best other", "its top-1", "difference, points"]
    return Table(header, rows, caption="The difference is taken seed by seed; ± is its standard deviation (n - 1).")


def masked_word_table(config: StudyConfig, table: TableConfig, records: Sequence[Record]) -> Table:
    """How far the masked-word loss fell, and how many masked words of test videos are predicted; beside what needs no video."""
    from m2clip.report.masked_words import READINGS

    rows = []
    for data in table.data:
        for row in table.rows:
            own = [record for record in records if record.row == row and record.data == data]
            learned = [record for record in own if record.training and "mlm" in record.training["loss"]]
            tested = [words for record in learned for words in _words(record)]
            title = config.row_title(row) + (f", {config.data_title(data)}" if len(table.data) > 1 else "")
            if not tested:
                rows.append([title, *([ABSENT if not own else "no such head"] * (3 + 3 * len(READINGS)))])
                continue
            curves = [record.training["loss"]["mlm"] for record in learned if record.training]
            falls: list[Callable[[Mapping[str, float]], float]] = [
                lambda curve: curve["first_step"],
                lambda curve: curve["last_epoch"],
                lambda curve: curve["last_epoch"] / curve["first_step"],
            ]
            cells = [number(Spread.of([fall(curve) for curve in curves])) for fall in falls]
            for reading in READINGS:
                measured = [words[reading] for words in tested if reading in words]
                for key in ("top1", "baseline_top1", "text_baseline_top1"):
                    cells.append(percent(Spread.of([one[key] for one in measured])) if measured else ABSENT)
            rows.append([title, *cells])
    header = ["", "loss, first step", "last epoch", "ratio"]
    for name in READINGS.values():
        header += [f"{name}: predicted", "most frequent word", "best guess from the text"]
    return Table(
        header,
        rows,
        caption=f"{table.title}. Masked words of test videos, in %; beside them what a constant answer, and what the best fixed answer "
        "to each text around the gap would reach without the video.",
    )


def percent(spread: Spread | None) -> str:
    """ "84.2 ± 1.3" of fractions."""
    if spread is None:
        return ABSENT
    return f"{100 * spread.mean:.1f}" + ("" if spread.std is None else f" ± {100 * spread.std:.1f}")


def points(spread: Spread) -> str:
    """ "+1.3 ± 0.4" of differences of fractions."""
    return f"{100 * spread.mean:+.1f}" + ("" if spread.std is None else f" ± {100 * spread.std:.1f}")


def number(spread: Spread) -> str:
    """ "0.43 ± 0.02"."""
    return f"{spread.mean:.2f}" + ("" if spread.std is None else f" ± {spread.std:.2f}")


def parameters(count: int) -> str:
    """231647 -> "232 K"."""
    for size, unit in ((10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _columns(table: TableConfig, records: Sequence[Record]) -> list[tuple[str, str]]:
    """(data, part) in the order of the table's data sets; the parts as they were tested, then their summary."""
    columns: dict[tuple[str, str], None] = {}
    for data in table.data:
        for record in records:
            if record.data == data and record.row in table.rows:
                columns |= {(data, part): None for part in record.accuracies()}
    return list(columns)


def _heading(config: StudyConfig, column: tuple[str, str], data: Sequence[str]) -> str:
    return column[1] if len(data) == 1 else f"{config.data_title(column[0])}, {column[1]}"


def _words(record: Record) -> list[Mapping[str, Any]]:
    """The masked-word measurements of a record's supervised parts."""
    return [part["masked_words"] for part in record.parts.values() if part.get("masked_words")]

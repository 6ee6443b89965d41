"""Lines of a list -> rows `path label`, one by one: what a list means, and what is wrong with it, is decided here."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from m2clip.data.lists.text_files import Header, ListPart, shown, split_line, unquoted
from m2clip.errors import ManifestError

# What counts as a video in a folder per class, and what tells a path from a label in a list. A list may name any file.
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".ogv", ".gif")
)
ENDING_AND_SPACE = re.compile(rf"([.](?:{'|'.join(sorted(one[1:] for one in VIDEO_SUFFIXES))})\"?)[ \t]", re.IGNORECASE)
PATH_LABEL = ("path", "label")
TIMES = ("start_seconds", "end_seconds")
HEADER = re.compile(
    r"(path|file|file_?name|video|video_?(path|name))[ \t]+(label|class|id|(label|class)_?id)", re.IGNORECASE
)
KINETICS = ("label", "youtube_id", "time_start", "time_end")  # the header of the data set's own files


class Row(NamedTuple):
    """A sample before its label is understood."""

    line: int
    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Rows:
    """N rows as columns."""

    paths: pa.StringArray
    labels: pa.StringArray
    lines: np.ndarray
    """Line numbers from 1, [N]."""
    start_seconds: np.ndarray | None = None
    """float64 [N], NaN where a row has none; None where no row has one."""
    end_seconds: np.ndarray | None = None


@dataclass(frozen=True)
class Form:
    """How a list is written: as CSV below a header, or in lines with or without a label."""

    header: Header | None
    labelled: bool = True

    @property
    def kinetics(self) -> bool:
        """Whether these are the columns of Kinetics' own files."""
        return self.header is not None and "path" not in self.header.cells


def form_of(part: ListPart) -> tuple[Form | None, ListPart]:
    """Return the form that the beginning of a list shows (None: it lists nothing), and the part from the first row on.

    Raises ManifestError.
    """
    for known in (PATH_LABEL, KINETICS):
        header = part.header(known)
        if set(known) <= set(header.cells):
            break
    else:
        known = PATH_LABEL
        if not (part.is_csv and len(header.cells) > 1):
            number, line = next(_samples(part), (0, ""))
            return Form(None, labelled=_split(line)[1] != "") if number else None, part.from_line(number)
    below, rest = part.below_header(required=known, optional=TIMES if known == PATH_LABEL else ())
    return (None if below is None else Form(below)), rest


def plain_rows(part: ListPart, form: Form) -> Rows:
    """Read row by row. Raises ManifestError with file and line."""
    if form.header is None:
        rows = list(_list_rows(part, labelled=form.labelled))
    else:
        rows = list((_kinetics_rows if form.kinetics else _csv_rows)(part, form.header))
    return rows_of(rows)


def rows_of(rows: Sequence[Row]) -> Rows:
    """The columns of these rows."""
    return Rows(
        pa.array([row.path for row in rows], pa.string()),
        pa.array([row.label for row in rows], pa.string()),
        np.array([row.line for row in rows], np.int64),
        _times([row.start_seconds for row in rows]),
        _times([row.end_seconds for row in rows]),
    )


def check_row(where: str, path: str, label: str, start: float | None, end: float | None) -> None:
    """Raise ManifestError where a cell is empty or goes over lines, or where a part ends before it begins."""
    for column, cell in (("path", path), ("label", label)):
        if not cell:
            raise ManifestError(f"{where}: the {column} is empty: fill it in, or remove the row")
        if "\n" in cell or "\r" in cell or "\0" in cell:
            raise ManifestError(f"{where}: the {column} {shown(cell)} goes over lines: check the double quotes")
    if end is not None and end <= (start or 0.0):
        raise ManifestError(f"{where}: the part ends at {end} s but starts at {start or 0.0} s: it must end later")


def _csv_rows(part: ListPart, header: Header) -> Iterator[Row]:
    for line, cells in part.rows(header):
        where = part.where(line)
        if (cells["path"].lower(), cells["label"].lower()) == PATH_LABEL:  # of a file that was put below another
            continue
        start, end = (_seconds(where, column, cells.get(column, "")) for column in TIMES)
        check_row(where, cells["path"], cells["label"], start, end)
        yield Row(line, cells["path"], cells["label"], start, end)


def _kinetics_rows(part: ListPart, header: Header) -> Iterator[Row]:
    for line, cells in part.rows(header):
        where = part.where(line)
        check_row(where, cells["youtube_id"], cells["label"], None, None)
        times = []
        for column in ("time_start", "time_end"):
            if not re.fullmatch("[0-9]{1,6}", cells[column]):
                raise ManifestError(f"{where}: {column} is {shown(cells[column])}: give whole seconds")
            times.append(int(cells[column]))
        yield Row(line, f"{cells['youtube_id']}_{times[0]:06d}_{times[1]:06d}.mp4", cells["label"])


def _list_rows(part: ListPart, *, labelled: bool) -> Iterator[Row]:
    for number, line in _samples(part):
        where = part.where(number)
        path, label = _split(line)
        if label and path.endswith((",", ";")):
            raise ManifestError(
                f"{where}: {shown(line)} looks like CSV: put the header path{path[-1]}label above the first line"
            )
        if label and path.endswith(":"):
            raise ManifestError(f"{where}: {shown(line)} has a colon behind the path: write `path label`")
        if bool(label) != labelled or not (label or Path(line).suffix.lower() in VIDEO_SUFFIXES):
            wish = "a path and nothing behind it, like the lines above" if label else "`path label`"
            comma = next((one for one in ",;" if one in line), "")
            hint = f" (a CSV starts with the header path{comma}label)" if comma else ""
            raise ManifestError(f"{where}: {shown(line)} {'has a' if label else 'lacks a'} label: write {wish}{hint}")
        if not label:
            label = Path(line).parent.name or PureWindowsPath(line).parent.name
            if not label:
                raise ManifestError(
                    f"{where}: {shown(line)} has neither a label nor a folder that names its class: write `path label`"
                )
        yield Row(number, path, label)


def _samples(part: ListPart) -> Iterator[tuple[int, str]]:
    """The lines without notes such as `# made in May` (HMDB51 has videos like `#122_Cleaning_Up.avi`) and without headers."""
    for number, line in part.lines():
        note = line == "#" or (
            line.startswith(("# ", "#\t")) and Path(_split(line)[0]).suffix.lower() not in VIDEO_SUFFIXES
        )
        if not note and not HEADER.fullmatch(line):
            yield number, line


def _split(line: str) -> tuple[str, str]:
    """Path and label of a line without surrounding space; the label is "" where there is none."""
    path, label = split_line(line)
    if not label or Path(label).suffix.lower() in VIDEO_SUFFIXES:
        path, label = line, ""
    elif Path(path).suffix.lower() not in VIDEO_SUFFIXES and (end := _last_end(path)):
        between = path[end:].strip(" \t")
        if not between.isdecimal() and not set(between) & set("/\\"):  # a name of several words
            path, label = path[:end], line[end:].strip(" \t")
    return unquoted(path), unquoted(
        label
    )  # no video's name ends in a double quote: they stand around a path with spaces


def _last_end(path: str) -> int:
    """Where the last ending of a video with a space behind it ends in a text; 0 where there is none."""
    return max((match.end(1) for match in ENDING_AND_SPACE.finditer(path)), default=0)


def _seconds(where: str, column: str, cell: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ManifestError(f"{where}: {column} is {shown(cell)}: give seconds from 0 on, or leave the cell empty")
    return value


def _times(cells: Sequence[float | None]) -> np.ndarray | None:
    return None if all(cell is None for cell in cells) else np.array(cells, np.float64)

"""Lines of a list -> rows `path label`, many at once. Gives what `plain_rows` gives, or None where that must look closer."""

import codecs
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from m2clip.data.lists.listed_rows import ENDING_AND_SPACE, HEADER, PATH_LABEL, TIMES, VIDEO_SUFFIXES, Form, Rows
from m2clip.data.lists.text_files import Header, ListPart

_LONGEST_LINE = 100_000  # bytes; the CSV reader of Python refuses cells of over 131,072 characters


def arrow_rows(part: ListPart, form: Form) -> Rows | None:
    """Read a part whose lines are all written in the usual way; None where one is not, right or wrong."""
    ends = np.flatnonzero(np.frombuffer(part.raw, np.uint8) == ord("\n")).astype(np.int64)
    if not part.raw.endswith(b"\n"):
        ends = np.append(ends, len(part.raw))
    if not part.raw or np.diff(ends, prepend=-1).max() > _LONGEST_LINE or form.kinetics or not form.labelled:
        return None
    lines = part.first_line + np.arange(len(ends))
    starts = np.concatenate(([0], ends[:-1] + 1, [len(part.raw)])).astype(np.int32)
    text = pa.StringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(part.raw))
    if form.header is None:
        return _list_rows(part, text, lines)
    return _csv_rows(part, form.header, text, lines)


def _list_rows(part: ListPart, text: pa.StringArray, lines: np.ndarray) -> Rows | None:
    # What else `plain_rows` looks at: tabs, quotes around a path, notes.
    if b"\t" in part.raw or b'"' in part.raw or pc.any(pc.starts_with(text, "#")).as_py():
        return None
    text = pc.utf8_trim_whitespace(text)
    filled = pc.not_equal(text, "")
    if not pc.all(filled).as_py():
        text, lines = text.filter(filled), lines[filled.to_numpy(zero_copy_only=False)]
    cells = pc.split_pattern(text, " ", max_splits=1, reverse=True)
    if pc.any(pc.not_equal(pc.list_value_length(cells), 2)).as_py():
        return None
    flat = pc.list_flatten(cells)
    paths = pc.utf8_rtrim(flat.take(pa.array(np.arange(0, len(flat), 2))), " ")
    labels = flat.take(pa.array(np.arange(1, len(flat), 2)))
    if any(pc.any(pc.ends_with(paths, sign)).as_py() for sign in ",;:"):  # CSV without a header, and the like
        return None
    spaced = paths.filter(pc.match_substring(paths, " "))
    if pc.any(
        pc.match_substring_regex(spaced, ENDING_AND_SPACE.pattern, ignore_case=True)
    ).as_py():  # names of several words
        return None
    for label in pc.unique(labels).to_pylist():
        if Path(label).suffix.lower() in VIDEO_SUFFIXES or HEADER.fullmatch(f"path {label}"):  # maybe a second header
            return None
    return Rows(paths, labels, lines)


def _csv_rows(part: ListPart, header: Header, text: pa.StringArray, lines: np.ndarray) -> Rows | None:
    if b'"' in part.raw and not pc.all(pc.match_substring_regex(text, _well_quoted(header.delimiter))).as_py():
        return None
    columns = [column for column in (*PATH_LABEL, *TIMES) if column in header.cells]
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(part.raw),
            read_options=arrow_csv.ReadOptions(
                column_names=header.cells, use_threads=False, block_size=len(part.raw) + 1
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=header.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
            ),
        )
        if len(table) != len(lines) or part.raw.startswith(codecs.BOM_UTF8):  # blank lines; a mark that Arrow drops
            return None
        cells = {name: pc.utf8_trim_whitespace(table[name].combine_chunks()) for name in columns}
        if any(pc.any(pc.equal(cells[name], "")).as_py() for name in PATH_LABEL):
            return None
        if any(
            label.lower() == PATH_LABEL[1] for label in pc.unique(cells["label"]).to_pylist()
        ):  # maybe a second header
            return None
        start, end = (_seconds(cells[name]) if name in cells else None for name in TIMES)
    except pa.ArrowInvalid:
        return None
    for column in (start, end):
        if column is not None and not np.all((np.isfinite(column) & (column >= 0)) | np.isnan(column)):
            return None
    if end is not None and np.any(end <= (0.0 if start is None else np.nan_to_num(start, nan=0.0))):
        return None
    return Rows(cells["path"], cells["label"], lines, start, end)


def _seconds(cells: pa.StringArray) -> np.ndarray | None:
    filled = pc.not_equal(cells, "")
    if not pc.any(filled).as_py():
        return None
    if pc.any(pc.match_substring_regex(cells, "^[^0-9.]")).as_py():  # nan, which would pass for an empty cell
        raise pa.ArrowInvalid("no number")
    return pc.if_else(filled, cells, None).cast(pa.float64()).to_numpy(zero_copy_only=False)


def _well_quoted(delimiter: str) -> str:
    """A pattern of RE2, which takes linear time, for lines whose quotes stand around cells and are doubled inside of them."""
    cell = f'(?:"(?:[^"\\n]|"")*"|[^"\\n{delimiter}]*)'
    return f"^{cell}(?:{delimiter}{cell})*\\n?$"

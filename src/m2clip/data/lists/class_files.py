"""A file of the user that names classes -> their table."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from m2clip.data.classes import ClassTable
from m2clip.data.lists.json_lists import JSON, read_class_names
from m2clip.data.lists.text_files import SUFFIXES, ListFile, check_suffix, read_list_file, shown, split_line, unquoted
from m2clip.errors import ManifestError

_COLUMNS = ("id", "name")
_NUMBERED_LINE = re.compile(r"([0-9]{1,9})[:.)]?[ \t]+(\S.*)")
_HEADERS = frozenset(("name", "names", "class", "classes", "label", "labels", "class_name", "classname"))
_WITHOUT_HEADER = re.compile(r"[0-9]+[,;].*|.*[,;][ \t]*[0-9]+")


def read_classes(path: str | Path) -> ClassTable:
    """Read a table of classes. Raises ManifestError with file and line.

    CSV with the header `id,name`: ids 0..K-1 in any row order; columns `text_1`, `text_2`... are further texts of the class;
    a column `dir` is what lists and folders call it; other columns are ignored. Or a text file with one name a line. If
    every line of a text file is `number name`, in any order, the numbers are the ids that lists use, from 0 or from 1. Or a
    JSON object of names and ids, as Something-Something has it, or an array of names.
    """
    path = Path(path)
    check_suffix(path, (*SUFFIXES, JSON))
    if path.name.lower().removesuffix(".gz").endswith(JSON):
        return _table(path, read_class_names(path))
    file = read_list_file(path)
    if file.is_csv or set(_COLUMNS) <= set(file.header(_COLUMNS).cells):
        return _read_csv(file)
    lines = [(number, unquoted(line).strip()) for number, line in file.lines()]
    _refuse_empty(file, lines)
    for number, line in lines:
        if line.startswith(("# ", "#\t")) or line == "#":
            raise ManifestError(
                f"{file.where(number)}: {shown(line)} would be a class: remove the note, or write a CSV id,name if it is one"
            )
    if all(_WITHOUT_HEADER.fullmatch(line) for _, line in lines):
        raise ManifestError(
            f"{file.where(lines[0][0])}: the lines look like CSV: put a header such as id,name above them"
        )
    numbered = [(number, match) for number, line in lines if (match := _NUMBERED_LINE.fullmatch(line))]
    first, line = lines[0]
    others = [int(match[1]) for number, match in numbered if number != first]
    if len(lines) > 2 and (
        line.lower() in _HEADERS or (len(numbered) == len(others) == len(lines) - 1 and _are_ids(others))
    ):
        raise ManifestError(
            f"{file.where(first)}: {shown(line)} would be a class: remove the header, or write a CSV id,name if it is one"
        )
    if 1 < len(numbered) == len(lines):
        return _numbered(file, [(number, int(match[1]), unquoted(match[2]).strip()) for number, match in numbered])
    _refuse_repeated_names(file, lines)
    _refuse_numbers_behind(file, lines)
    return _table(path, tuple(line for _, line in lines))


def _table(path: Path, *columns: tuple[Any, ...], first_id: int = 0) -> ClassTable:
    """A table whose faults name the file."""
    try:
        return ClassTable(*columns, first_id=first_id)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def _refuse_numbers_behind(file: ListFile, lines: Sequence[tuple[int, str]]) -> None:
    """`jump 0`, `run 1` are names and ids, `class 0`, `class 1` are names."""
    split = [split_line(line) for _, line in lines]
    if len(lines) < 2 or not all(re.fullmatch("[0-9]{1,9}", number) for _, number in split):
        return
    ids = sorted(int(number) for _, number in split)
    if (
        ids[0] in (0, 1)
        and ids == list(range(ids[0], ids[0] + len(ids)))
        and len({name for name, _ in split}) == len(ids)
    ):
        number, line = lines[0]
        raise ManifestError(
            f"{file.where(number)}: {shown(line)}, as every line, has an id behind the name: write `number name`, or a CSV id,name"
        )


def _numbered(file: ListFile, lines: Sequence[tuple[int, int, str]]) -> ClassTable:
    """Lines (line number, id, name): ids from 0 or 1 on, in any order."""
    line_of: dict[int, int] = {}
    first = min(index for _, index, _ in lines)
    for number, index, _ in lines:
        if index in line_of:
            raise ManifestError(
                f"{file.where(number)}: id {index} stands already in line {line_of[index]}: renumber one"
            )
        line_of[index] = number
    last = first + len(lines) - 1
    beyond = next((number for number, index, _ in lines if index > last), None)
    if first > 1 or beyond is not None:
        where = file.where(lines[0][0] if beyond is None else beyond)
        raise ManifestError(
            f"{where}: every line begins with a number, but these are not 0 to {len(lines) - 1} nor 1 to {len(lines)}: number "
            "the classes without a gap, or write a CSV id,name if the numbers belong to the names"
        )
    ordered = sorted(lines, key=lambda line: line[1])
    _refuse_repeated_names(file, [(number, name) for number, _, name in lines])
    return _table(file.path, tuple(name for _, _, name in ordered), first_id=first)


def _are_ids(numbers: Iterable[int]) -> bool:
    """Whether these are 0..K-1 or 1..K, in any order."""
    ids = sorted(numbers)
    return ids[0] in (0, 1) and ids == list(range(ids[0], ids[0] + len(ids)))


def _read_csv(file: ListFile) -> ClassTable:
    header, below = file.below_header(required=_COLUMNS, optional=("text_1", "dir"))
    rows = [] if header is None else list(below.rows(header))
    _refuse_empty(file, rows)
    line_of: dict[int, int] = {}
    table: dict[int, dict[str, str]] = {}
    for line, row in rows:
        if not re.fullmatch("[0-9]{1,18}", row["id"]):
            raise ManifestError(
                f"{file.where(line)}: the id {shown(row['id'])} is no whole number from 0 on: number the classes"
            )
        index = int(row["id"])
        if index in table:
            raise ManifestError(f"{file.where(line)}: id {index} stands already in line {line_of[index]}: renumber one")
        if "\n" in row["name"]:
            raise ManifestError(
                f"{file.where(line)}: the name {shown(row['name'])} goes over lines: check the double quotes"
            )
        if not row["name"]:
            raise ManifestError(f"{file.where(line)}: class {index} has no name: fill in its name")
        table[index], line_of[index] = row, line
    for index in range(len(table)):
        if index not in table:
            beyond = next(one for one in table if one >= len(table))
            remedy = "count from 0" if index == 0 and max(table) == len(table) else "number the classes without a gap"
            raise ManifestError(
                f"{file.where(line_of[beyond])}: id {beyond} but no id {index}: "
                f"{len(table)} classes have the ids 0..{len(table) - 1}, so {remedy}"
            )
    _refuse_repeated_names(file, [(line, row.get(key, "")) for key in ("name", "dir") for line, row in rows])
    ordered = [table[index] for index in range(len(table))]
    text_columns = sorted((key for key in ordered[0] if key.startswith("text_")), key=lambda key: int(key[5:]))
    return _table(
        file.path,
        tuple(row["name"] for row in ordered),
        tuple(tuple(row[key] for key in text_columns if row[key]) for row in ordered) if text_columns else (),
        tuple(row["dir"] for row in ordered) if "dir" in ordered[0] else (),
    )


def _refuse_empty(file: ListFile, entries: Sequence[object]) -> None:
    if not entries:
        raise ManifestError(f"{file.path} names no class: write a CSV id,name or a text file with one name a line")


def _refuse_repeated_names(file: ListFile, names: Sequence[tuple[int, str]]) -> None:
    line_of: dict[str, int] = {}
    for line, name in names:
        if name and line_of.setdefault(name, line) != line:
            raise ManifestError(
                f"{file.where(line)}: the name {shown(name)} stands already in line {line_of[name]}: make the names differ"
            )

"""The classes of a data set: their table, and what a label in a list means."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from m2clip.data.lists import ListFile, read_list_file
from m2clip.errors import ManifestError

_COLUMNS = ("id", "name")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NUMBERED_LINE = re.compile(r"([0-9]{1,9})[ \t]+(\S.*)")


@dataclass(frozen=True)
class ClassTable:
    """K classes in the order of their ids. Names are text, whatever they look like ("None", "007", "a, b")."""

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...] = ()
    """Further texts of each class; empty, or K entries."""
    folders: tuple[str, ...] = ()
    """What lists and folders call each class where that is not its name; empty, or K entries, "" for none."""
    first_id: int = field(default=0, kw_only=True)
    """Where the ids in lists start: 1 only for numbered text files that start there (UCF101's classInd.txt)."""

    def __post_init__(self) -> None:
        if not self.names:
            raise ManifestError("a table of classes is empty: name at least one class")
        for index, name in enumerate(self.names):
            if not name.strip():
                raise ManifestError(f"the name of class {index} is empty: name the class")
        for entries in (self.texts, self.folders):
            if entries and len(entries) != len(self.names):
                raise ManifestError(f"{len(entries)} entries for {len(self.names)} classes: give one for each class")
        owner: dict[str, int] = {}
        for index, name in [*enumerate(self.names), *enumerate(self.folders)]:
            if name and owner.setdefault(name, index) != index:
                raise ManifestError(f"the classes {owner[name]} and {index} are both called {name!r}: make them differ")

    def resolve(self, labels: Sequence[tuple[str, str]], *, by_name: bool = False) -> list[int]:
        """Return the class index 0..K-1 of each (where, label).

        The labels of a list are all ids, or all names (with `by_name` always names). A name fits a class if it equals
        its name or folder, or does so but for case and for underscores in place of spaces. Raises ManifestError with the
        place of the first bad label.
        """
        if not by_name and all_ids(label for _, label in labels):
            ids = [int(label) - self.first_id for _, label in labels]
            if not all(label in self.names or label in self.folders for _, label in labels):
                self._check_range(labels, ids)
                return ids
            named = self._by_name(labels)
            if named != ids and all(0 <= index < len(self.names) for index in ids):
                where, label = next(one for one, a, b in zip(labels, named, ids, strict=True) if a != b)
                raise ManifestError(
                    f"{where}: the label {label!r} is the id of one class and the name of another: rename the classes"
                )
            return named
        return self._by_name(labels)

    def _check_range(self, labels: Sequence[tuple[str, str]], ids: list[int]) -> None:
        last = len(self.names) - 1
        for (where, label), index in zip(labels, ids, strict=True):
            if 0 <= index <= last:
                continue
            if self.first_id == 0 and max(ids) == last + 1 and min(ids) >= 1:
                remedy = "do labels start at 1? Count them from 0, or give the classes as a text file of lines `1 name`"
            elif min(ids) < 0 and self.first_id == 1:
                remedy = "the class file counts from 1: count its lines from 0, or the labels from 1"
            else:
                remedy = "check that the class file belongs to this list"
            raise ManifestError(
                f"{where}: label {label} is out of range {self.first_id}..{last + self.first_id} "
                f"({len(self.names)} classes); {remedy}"
            )

    def _by_name(self, labels: Sequence[tuple[str, str]]) -> list[int]:
        exact = {name: index for index, name in enumerate(self.folders) if name}
        exact |= {name: index for index, name in enumerate(self.names)}
        loose: dict[str, set[int]] = {}
        for name, index in exact.items():
            loose.setdefault(fold_name(name), set()).add(index)
        found: dict[str, int] = {}
        for where, label in labels:
            if label not in found:
                candidates = {exact[label]} if label in exact else loose.get(fold_name(label), set())
                if len(candidates) != 1:
                    raise ManifestError(f"{where}: unknown class {label!r}: {self._advice(label, candidates)}")
                (found[label],) = candidates
        return [found[label] for _, label in labels]

    def _advice(self, label: str, candidates: set[int]) -> str:
        if candidates:
            return "it could be " + " or ".join(repr(self.names[index]) for index in sorted(candidates))
        if _WHOLE_NUMBER.fullmatch(label):
            return "other labels of this list are names, so use names or ids throughout"
        known = {fold_name(name): name for name in (*self.folders, *self.names) if name}
        near = difflib.get_close_matches(fold_name(label), known, n=1, cutoff=0.7)
        if near:
            return f"did you mean {known[near[0]]!r}?"
        some = ", ".join(map(repr, self.names[:5]))
        return f"the {len(self.names)} classes are {some}" + (", ..." if len(self.names) > 5 else "")


def all_ids(labels: Iterable[str]) -> bool:
    """Return whether all labels are whole numbers, and so can be ids."""
    return all(_WHOLE_NUMBER.fullmatch(label) for label in labels)


def read_classes(path: str | Path) -> ClassTable:
    """Read a table of classes. Raises ManifestError with file and line.

    CSV with the header `id,name`: ids 0..K-1 in any row order; columns `text_1`, `text_2`... are further texts of the class;
    a column `dir` is what lists and folders call it; other columns are ignored. Or a text file with one name a line. If
    every line of a text file is `number name`, counting up from 0 or 1, the numbers are the ids that lists use.
    """
    file = read_list_file(Path(path))
    if file.is_csv or set(_COLUMNS) <= set(file.header(_COLUMNS).cells):
        return _read_csv(file)
    lines = list(file.lines())
    numbered = [_NUMBERED_LINE.fullmatch(line) for _, line in lines]
    matches = [match for match in numbered if match]
    names, first_id = [line for _, line in lines], 0
    if 1 < len(matches) == len(lines):
        ids = [int(match[1]) for match in matches]
        if ids[0] in (0, 1) and ids == list(range(ids[0], ids[0] + len(ids))):
            names, first_id = [match[2] for match in matches], ids[0]
    _refuse_empty(file, names)
    _refuse_repeated_names(file, [(number, name) for (number, _), name in zip(lines, names, strict=True)])
    return ClassTable(tuple(names), first_id=first_id)


def _read_csv(file: ListFile) -> ClassTable:
    header, below = file.below_header(required=_COLUMNS, optional=("text_1", "dir"))
    rows = [] if header is None else list(below.rows(header))
    _refuse_empty(file, rows)
    line_of: dict[int, int] = {}
    table: dict[int, dict[str, str]] = {}
    for line, row in rows:
        if not re.fullmatch("[0-9]{1,18}", row["id"]):
            raise ManifestError(
                f"{file.where(line)}: the id {row['id']!r} is no whole number from 0 on: number the classes"
            )
        index = int(row["id"])
        if index in table:
            raise ManifestError(f"{file.where(line)}: id {index} stands already in line {line_of[index]}: renumber one")
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
    return ClassTable(
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
                f"{file.where(line)}: the name {name!r} stands already in line {line_of[name]}: make the names differ"
            )


def fold_name(name: str) -> str:
    """What two spellings of a name share that differ in case, or in underscores for spaces."""
    return " ".join(name.replace("_", " ").split()).casefold()

"""A folder, CSV or list of videos -> one validated table of samples and class names.

Files need not exist when a list is read: a run names, counts and skips what it cannot open. What is checked here is
everything that would turn into a wrong label or a late crash.
"""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from m2clip.data.classes import ClassTable, all_ids, read_classes
from m2clip.data.lists import SUFFIXES, ListFile, read_list_file
from m2clip.data.places import Place, is_absent
from m2clip.errors import ManifestError

__all__ = ["VIDEO_SUFFIXES", "ClassTable", "Manifest", "Sample", "check_splits", "read_classes", "read_manifest"]

# What counts as a video in a folder per class, and what tells a path from a label in a list. A list may name any file.
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".ogv", ".gif")
)


@dataclass(frozen=True)
class Sample:
    """A labelled video, or a part of one."""

    path: Place
    label: int
    """Class index, 0..K-1."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    where: str = ""
    """The place that lists it, `file:line`, or the file itself in a folder per class."""


@dataclass(frozen=True)
class Manifest:
    """The samples of one split and the classes that their labels count."""

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]
    further_texts: tuple[tuple[str, ...], ...]
    """Further texts of each class; empty, or K entries."""
    source: str
    """The folder or file that was read."""
    sha256: str
    """Of the list's bytes; of the sorted relative paths for a folder."""

    def __post_init__(self) -> None:
        for sample in self.samples:
            if not 0 <= sample.label < len(self.class_names):
                raise ManifestError(
                    f"{sample.where or sample.path}: label {sample.label} is out of range 0..{len(self.class_names) - 1}"
                )

    def missing(self) -> tuple[Sample, ...]:
        """Return the samples whose file does not exist."""
        return tuple(sample for sample in self.samples if is_absent(sample.path))


@dataclass(frozen=True)
class _Entry:
    """A sample before its label is understood."""

    where: str
    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None


def read_manifest(
    source: str | Path, *, classes: ClassTable | str | Path | None = None, root: str | Path | None = None
) -> Manifest:
    """Read the samples of `source`. Raises ManifestError with file and line.

    `source` is a folder with one folder a class; or a CSV with the header `path,label` and, if wanted,
    `start_seconds,end_seconds` (other columns are ignored); or a list of lines `path label`, the label behind the last
    space. Lines of a list that all lack a label take the name of the file's folder (UCF101's test lists).
    Files end in .csv, .txt or .list, each also packed as .gz.

    Labels are ids, or names of `classes`. Without `classes`, names are collected and sorted; the splits of one data set
    must then be read with the classes of the first, `ClassTable(train.class_names)`. Paths are relative to `root`, or
    else to the folder of the list. A file that is listed without a folder and does not lie there is taken from the folder of
    its class, where the class table has a column `dir`.
    """
    source = Path(source)
    by_name = classes is None
    if isinstance(classes, str | Path):
        classes = read_classes(classes)
    if source.is_dir():
        if root is not None:
            raise ManifestError(f"{source} is a folder, whose videos lie in it: leave out root ({root})")
        folders, entries, sha256 = _scan_folder(source)
        classes = classes or ClassTable(folders)
        base = source
    else:
        file = read_list_file(source)
        entries, sha256 = list(_entries(file)), file.sha256
        if not entries:
            raise ManifestError(
                f"{source} lists no video: write lines `path label`, or a CSV with the header path,label"
            )
        classes = classes or _collect_classes(source, entries)
        base = source.parent if root is None else Path(root)
    labels = classes.resolve([(entry.where, entry.label) for entry in entries], by_name=by_name)
    samples = tuple(
        Sample(_place(base, entry.path, classes, label), label, entry.start_seconds, entry.end_seconds, entry.where)
        for entry, label in zip(entries, labels, strict=True)
    )
    return Manifest(samples, classes.names, classes.texts, str(source), sha256)


def check_splits(train: Manifest, val: Manifest) -> list[str]:
    """Return warnings, a sentence each: videos in both splits (parts of one file only where they overlap), and classes
    without a training sample. Raises ManifestError if the splits number their classes differently.
    """
    if train.class_names != val.class_names:
        raise ManifestError(
            f"{val.source} and {train.source} number their classes differently: read both with the same class table"
        )
    real_place = _place_resolver()
    trained: dict[str, list[Sample]] = {}
    for sample in train.samples:
        trained.setdefault(real_place(sample.path), []).append(sample)
    warnings = []
    shared = [
        (one, other) for other in val.samples for one in trained.get(real_place(other.path), ()) if _overlap(one, other)
    ]
    if shared:
        one, other = shared[0]
        count = len({id(pair[1]) for pair in shared})
        warnings.append(
            f"{count} of {len(val.samples)} samples of {val.source} are also in {train.source}, so its scores say little: "
            f"first {other.path} ({other.where}, {one.where})"
        )
    seen = {sample.label for sample in train.samples}
    absent = [name for index, name in enumerate(train.class_names) if index not in seen]
    if absent:
        some = ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
        warnings.append(f"{len(absent)} of {len(train.class_names)} classes have no sample in {train.source}: {some}")
    return warnings


def _place(base: Path, path: str, classes: ClassTable, label: int) -> Path:
    """Where a listed file lies. UCF101 and HMDB51 come in folders of classes, but many lists of them name the file alone."""
    place, folder = base / path, classes.folders[label] if classes.folders else ""
    return base / folder / path if folder and Path(path).name == path and not place.exists() else place


def _scan_folder(source: Path) -> tuple[tuple[str, ...], list[_Entry], str]:
    def refuse(error: OSError) -> NoReturn:
        raise ManifestError(f"{error.filename} cannot be read ({error.strerror}): check its permissions") from error

    try:
        children = sorted(child for child in source.iterdir() if not child.name.startswith("."))
    except OSError as error:
        refuse(error)
    for child in children:
        if child.is_file() and child.suffix.lower() in VIDEO_SUFFIXES:
            raise ManifestError(f"{child} lies beside the class folders: move it into the folder of its class")
    folders = tuple(child.name for child in children if child.is_dir())
    entries = []
    for name in folders:
        for folder, subfolders, files in os.walk(source / name, onerror=refuse):
            subfolders[:] = sorted(one for one in subfolders if not one.startswith("."))
            for file in sorted(files):
                if not file.startswith(".") and Path(file).suffix.lower() in VIDEO_SUFFIXES:
                    path = Path(folder, file)
                    try:
                        str(path).encode("utf-8")
                    except UnicodeEncodeError:  # no report could name it
                        raise ManifestError(f"{str(path)!r} has a name that is not UTF-8: rename it") from None
                    entries.append(_Entry(str(path), str(path.relative_to(source)), name))
    if not entries:
        raise ManifestError(
            f"{source} holds no video in folders of classes: make one folder a class with files such as .mp4 or .avi, "
            f"or give a list ({', '.join(SUFFIXES)})"
        )
    listing = "".join(f"{entry.path}\n" for entry in entries)
    return folders, entries, hashlib.sha256(listing.encode("utf-8")).hexdigest()


def _entries(file: ListFile) -> Iterator[_Entry]:
    header = file.header()
    if {"path", "label"} <= set(header) or (file.is_csv and len(header) > 1):
        return _csv_entries(file)
    return _list_entries(file)


def _csv_entries(file: ListFile) -> Iterator[_Entry]:
    for line, row in file.rows(required=("path", "label"), optional=("start_seconds", "end_seconds")):
        where = file.where(line)
        for column in ("path", "label"):
            if not row[column]:
                raise ManifestError(f"{where}: the {column} is empty: fill it in, or remove the row")
        start, end = (_seconds(where, column, row.get(column, "")) for column in ("start_seconds", "end_seconds"))
        if end is not None and end <= (start or 0.0):
            raise ManifestError(f"{where}: the part ends at {end} s but starts at {start or 0.0} s: it must end later")
        yield _Entry(where, row["path"], row["label"], start, end)


def _seconds(where: str, column: str, cell: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ManifestError(f"{where}: {column} is {cell!r}: give seconds from 0 on, or leave the cell empty")
    return value


def _list_entries(file: ListFile) -> Iterator[_Entry]:
    labelled: bool | None = None
    for number, line in file.lines():
        where = file.where(number)
        path, *rest = re.split(r"[ \t]+(?=[^ \t]*$)", line)
        has_label = bool(rest) and Path(rest[0]).suffix.lower() not in VIDEO_SUFFIXES
        if labelled is None:
            labelled = has_label
        if has_label != labelled or not (has_label or Path(line).suffix.lower() in VIDEO_SUFFIXES):
            wish = "a path and nothing behind it, like the lines above" if has_label else "`path label`"
            hint = " (a CSV starts with the header path,label)" if "," in line else ""
            raise ManifestError(f"{where}: {line!r} {'has a' if has_label else 'lacks a'} label: write {wish}{hint}")
        if has_label:
            yield _Entry(where, path, rest[0])
        elif folder := Path(line).parent.name:
            yield _Entry(where, line, folder)
        else:
            raise ManifestError(
                f"{where}: {line!r} has neither a label nor a folder that names its class: write `path label`"
            )


def _collect_classes(source: Path, entries: list[_Entry]) -> ClassTable:
    names = sorted({entry.label for entry in entries})
    if all_ids(names):
        raise ManifestError(
            f"{entries[0].where}: the labels are ids ({entries[0].label}), but nothing names the classes: "
            "give a class file (CSV id,name or a text file with one name a line)"
        )
    return ClassTable(tuple(names))


def _overlap(one: Sample, other: Sample) -> bool:
    ends = (math.inf if sample.end_seconds is None else sample.end_seconds for sample in (one, other))
    return max(one.start_seconds or 0.0, other.start_seconds or 0.0) < min(ends)


def _place_resolver() -> Callable[[Place], str]:
    """Return a function that follows links as `os.path.realpath` does, but looks at each folder once, not once a file."""
    real_folder = lru_cache(maxsize=None)(os.path.realpath)

    def resolve(path: Place) -> str:
        if not isinstance(path, Path):
            return str(path)
        inside = os.path.join(real_folder(path.parent), path.name)
        return os.path.realpath(inside) if path.name == ".." or os.path.islink(inside) else inside

    return resolve

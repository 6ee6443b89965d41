"""A folder, table or list of videos -> one validated table of samples and class names.

Files need not exist when a list is read: a run names, counts and skips what it cannot open. What is checked here is
everything that would turn into a wrong label or a late crash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2clip.data.classes import ClassTable, all_numbers, fold_name
from m2clip.data.lists.class_files import read_classes
from m2clip.data.lists.class_folders import read_class_folders
from m2clip.data.lists.json_lists import JSON, JsonList
from m2clip.data.lists.listed_places import ListedPlaces, need_known_addresses, without_frame_counts
from m2clip.data.lists.listed_rows import VIDEO_SUFFIXES
from m2clip.data.lists.listings import ListText, joined
from m2clip.data.lists.parquet_rows import PARQUET, ParquetTable
from m2clip.data.lists.text_files import SUFFIXES, check_suffix, shown
from m2clip.data.samples import ListedLines, Sample, Samples
from m2clip.data.shards.reading import names_shards, read_shards
from m2clip.errors import ManifestError

__all__ = ["VIDEO_SUFFIXES", "ClassTable", "Manifest", "Sample", "Samples", "read_classes", "read_manifest"]


@dataclass(frozen=True)
class Manifest:
    """The samples of one split and the classes that their labels count."""

    samples: Samples
    """Also given as a sequence of `Sample`."""
    class_names: tuple[str, ...]
    further_texts: tuple[tuple[str, ...], ...]
    """Further texts of each class; empty, or K entries."""
    source: str
    """The folder or file that was read."""
    sha256: str
    """Of the list's bytes; of the sorted relative paths for a folder."""

    def __post_init__(self) -> None:
        if not isinstance(self.samples, Samples):
            object.__setattr__(self, "samples", Samples.of(self.samples))
        labels = self.samples.labels
        outside = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if len(outside):
            sample = self.samples[int(outside[0])]
            raise ManifestError(
                f"{sample.where or sample.path}: label {sample.label} is out of range 0..{len(self.class_names) - 1}"
            )

    def missing(self) -> Samples:
        """Return the samples whose file does not exist."""
        return self.samples.missing()


def read_manifest(
    source: str | Path, *, classes: ClassTable | str | Path | None = None, root: str | Path | None = None
) -> Manifest:
    """Read the samples of `source`. Raises ManifestError with file and line.

    `source` is a folder with one folder a class; or a CSV with the header `path,label` and, if wanted,
    `start_seconds,end_seconds` (other columns are ignored); or a list of lines `path label`, the label behind the last
    space. Lines of a list that all lack a label take the name of the file's folder (UCF101's test lists).
    Files end in .csv, .tsv, .txt or .list, each also packed as .gz, or in .parquet or .json with the
    columns of the CSV. docs/data/lists.md tells all that is understood.

    Labels are ids, or names of `classes`. Without `classes`, names are collected and sorted; the splits of one data set
    must then be read with the classes of the first, `ClassTable(train.class_names)`. Paths are relative to `root`, or
    else to the folder of the list. A file that is listed without a folder and does not lie there is taken from the folder of
    its class, where the class table has a column `dir`. A set of shards, which has paths and labels in it, may be a source,
    too (`read_shards`).
    """
    if isinstance(classes, str | Path):
        classes = read_classes(classes)
    if names_shards(source):
        if root is not None:
            raise ManifestError(f"{source} is a set of shards, whose videos lie in it: leave out root ({root})")
        shards = read_shards(source, classes=classes)
        return Manifest(shards.samples, shards.classes.names, shards.classes.texts, shards.source, shards.sha256)
    source = Path(source)
    if source.is_dir():
        if root is not None:
            raise ManifestError(f"{source} is a folder, whose videos lie in it: leave out root ({root})")
        return _of_folder(source, classes)
    return _of_list(source, classes, source.parent if root is None else Path(root))


def _of_folder(source: Path, classes: ClassTable | None) -> Manifest:
    found = read_class_folders(source)
    used, first_rows, codes = np.unique(found.codes, return_index=True, return_inverse=True)
    named = [
        (str(source / found.texts[int(row)].as_py()), found.classes[code])
        for code, row in zip(used, first_rows, strict=True)
    ]
    if classes is None:
        _refuse_two_spellings([(str(source / name), name) for name in found.classes])
    table = classes or ClassTable(found.classes)
    labels = np.array(table.resolve(named, by_name=classes is None), np.int64)[codes]
    samples = Samples(ListedPlaces(source, found.texts, labels), labels)
    return Manifest(samples, table.names, table.texts, str(source), found.sha256)


def _of_list(source: Path, classes: ClassTable | None, base: Path) -> Manifest:
    if source.suffix.lower() in VIDEO_SUFFIXES:
        raise ManifestError(f"{source} is a video: give a list of videos, or a folder with one folder a class")
    check_suffix(source, (*SUFFIXES, JSON, PARQUET))
    file = _opened(source)
    listing = joined(file.rows())
    if not len(listing.texts):
        raise ManifestError(f"{source} lists no video: write lines `path label`, or a CSV with the header path,label")
    lines = ListedLines(str(source), listing.lines)
    named = [(lines[row], label) for row, label in zip(listing.first_rows, listing.labels, strict=True)]
    table = classes or _collect_classes(named)
    labels = np.array(table.resolve(named, by_name=classes is None), np.int64)[listing.codes]
    texts = listing.texts
    need_known_addresses(texts, lines)
    folders: Sequence[Sequence[str]] = [(folder,) if folder else () for folder in table.folders]
    endings: tuple[str, ...] = ()
    if isinstance(file, ListText) and file.form and file.form.kinetics:
        folders = folders or [(name, name.replace(" ", "_")) for name in table.names]
        endings = (".mkv", ".webm", "")
    elif isinstance(file, JsonList) and file.video_ids:
        endings = (".mp4", "")
    elif isinstance(file, ListText) and file.form and file.form.header is None:
        texts = without_frame_counts(base, texts, lines)
    samples = Samples(
        ListedPlaces(base, texts, labels, folders=folders, endings=endings),
        labels,
        wheres=lines,
        start_seconds=listing.start_seconds,
        end_seconds=listing.end_seconds,
    )
    return Manifest(samples, table.names, table.texts, str(source), file.sha256)


def _opened(source: Path) -> ListText | ParquetTable | JsonList:
    if source.suffix.lower() == PARQUET:
        return ParquetTable(source)
    return JsonList(source) if source.name.lower().removesuffix(".gz").endswith(JSON) else ListText(source)


def _collect_classes(named: Sequence[tuple[str, str]]) -> ClassTable:
    names = sorted(label for _, label in named)
    if all_numbers(names):
        where, label = named[0]
        raise ManifestError(
            f"{where}: the labels are ids ({shown(label)}), but nothing names the classes: "
            "give a class file (CSV id,name or a text file with one name a line)"
        )
    _refuse_two_spellings(named)
    return ClassTable(tuple(names))


def _refuse_two_spellings(named: Sequence[tuple[str, str]]) -> None:
    """Where nothing else names the classes, `Run` and `run`, or `high jump` and `high_jump`, would become two."""
    first_of: dict[str, tuple[str, str]] = {}
    for where, label in named:
        other, spelling = first_of.setdefault(fold_name(label), (where, label))
        if spelling != label:
            raise ManifestError(
                f"{where}: the class {shown(label)} stands as {shown(spelling)} at {other}: write one of them, or, if they are "
                "two classes, give a class file that has both"
            )

"""The classes of a data set: their table, and what a label in a list means."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from m2clip.config.file import HALF_CHARACTER
from m2clip.data.lists.text_files import shown
from m2clip.errors import ManifestError

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?")


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
            if "\n" in name or "\r" in name:
                raise ManifestError(
                    f"the name of class {index}, {shown(name)}, goes over lines: check the double quotes"
                )
            if any(HALF_CHARACTER.search(text) for text in (name, *(self.texts[index : index + 1] or ((),))[0])):
                raise ManifestError(f"the class {index}, {shown(name)}, holds half of a character: mend the escapes")
        for entries in (self.texts, self.folders):
            if entries and len(entries) != len(self.names):
                raise ManifestError(f"{len(entries)} entries for {len(self.names)} classes: give one for each class")
        owner: dict[str, int] = {}
        for index, name in [*enumerate(self.names), *enumerate(self.folders)]:
            if name and owner.setdefault(name, index) != index:
                raise ManifestError(
                    f"the classes {owner[name]} and {index} are both called {shown(name)}: make them differ"
                )
        forms: dict[str, int] = {}
        for name, index in owner.items():
            other = forms.setdefault(unicodedata.normalize("NFC", name), index)
            if other != index:
                raise ManifestError(
                    f"the classes {other} and {index} are called {shown(name)} in two forms of Unicode (é as one character "
                    "and as two): they are one class, so write it in one form"
                )

    def resolve(self, labels: Sequence[tuple[str, str]], *, by_name: bool = False) -> list[int]:
        """Return the class index 0..K-1 of each (where, label).

        The labels of a list are all ids, or all names (with `by_name` always names). A name fits a class if it equals
        its name or folder, or does so but for case, for underscores in place of spaces and for the form of Unicode.
        Raises ManifestError with the place of the first bad label.
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
                    f"{where}: the label {shown(label)} is the id of one class and the name of another: rename the classes"
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
                    if _WHOLE_NUMBER.fullmatch(label):  # among numbers, the one that is no id is the odd one out
                        odd = (
                            one for one in labels if _NUMBER.fullmatch(one[1]) and not _WHOLE_NUMBER.fullmatch(one[1])
                        )
                        where, label = next(odd, (where, label))
                    raise ManifestError(f"{where}: unknown class {shown(label)}: {self._advice(label, candidates)}")
                (found[label],) = candidates
        return [found[label] for _, label in labels]

    def _advice(self, label: str, candidates: set[int]) -> str:
        if candidates:
            return "it could be " + " or ".join(shown(self.names[index]) for index in sorted(candidates))
        if _WHOLE_NUMBER.fullmatch(label):
            return "other labels of this list are names, so use names or ids throughout"
        if _NUMBER.fullmatch(label):
            last = len(self.names) - 1 + self.first_id
            return f"as an id, write a whole number from {self.first_id} to {last} with no sign and no point"
        known = {fold_name(name): name for name in (*self.folders, *self.names) if name}
        near = difflib.get_close_matches(fold_name(label), known, n=1, cutoff=0.7)
        if near:
            return f"did you mean {shown(known[near[0]])}?"
        some = ", ".join(map(shown, self.names[:5]))
        return f"the {len(self.names)} classes are {some}" + (", ..." if len(self.names) > 5 else "")


def all_ids(labels: Iterable[str]) -> bool:
    """Return whether all labels are whole numbers, and so can be ids."""
    return all(_WHOLE_NUMBER.fullmatch(label) for label in labels)


def all_numbers(labels: Iterable[str]) -> bool:
    """Return whether all labels are numbers of some kind ("1.0", "+1"): meant as ids, even where they are none."""
    return all(_NUMBER.fullmatch(label) for label in labels)


def fold_name(name: str) -> str:
    """What two spellings of a name share that differ in case, in underscores for spaces, or in the form of Unicode."""
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()).casefold())

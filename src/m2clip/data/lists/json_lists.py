"""JSON files of samples and of classes: Something-Something's own, and arrays of objects with the columns of a CSV."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from m2clip.data.lists.listed_rows import TIMES, Row, Rows, check_row, rows_of
from m2clip.data.lists.text_files import ListFile, read_list_file, shown, unquoted
from m2clip.errors import ManifestError

JSON = ".json"
_WISH = '[{"path": "a.mp4", "label": "jump"}]'


class JsonList:
    """An array of samples: objects with `path` and `label`, or with `id` and `template` for the video `id`.webm."""

    def __init__(self, path: Path) -> None:
        self._file = read_list_file(path, (JSON,))
        self.sha256 = self._file.sha256
        self.video_ids = False
        """Whether rows are the ids of videos; known once they were read."""

    def rows(self) -> Iterator[Rows]:
        """Yield the rows; their lines are the numbers of the samples from 1. Raises ManifestError."""
        entries = _content(self._file)
        if not isinstance(entries, list):
            raise ManifestError(f"{self._file.path} is no array of samples: write {_WISH}")
        found = []
        for number, entry in enumerate(entries, start=1):
            where = self._file.where(number)
            if not isinstance(entry, _Object):
                raise ManifestError(f"{where}: {shown(str(entry))} is no sample: write {_WISH}")
            named = "id" if "path" not in entry and "id" in entry else "path"
            self.video_ids = self.video_ids or named == "id"
            video = _text(where, named, entry.get(named))
            if "template" in entry:  # Something-Something: the label has other things in the place of the brackets
                label = re.sub(r"[\[\]]", "", _text(where, "template", entry["template"]))
            else:
                label = _text(where, "label", entry.get("label"))
            start, end = (_seconds(where, time, entry.get(time)) for time in TIMES)
            path = f"{video}.webm" if named == "id" and video else video
            check_row(where, path, label, start, end)
            found.append(Row(number, path, label, start, end))
        if found:
            yield rows_of(found)


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a JSON object of names and ids, or of ids and names, or in an array of names. Raises ManifestError."""
    file = read_list_file(path, (JSON,))
    content = _content(file)
    if isinstance(content, list) and not isinstance(content, _Object) and content:
        names = [_text(str(path), "name", name) for name in content]
    elif isinstance(content, _Object) and content:
        pairs = [(_text(str(path), "name", key), _text(str(path), "id", value)) for key, value in content.items()]
        if all(key.isdecimal() for key, _ in pairs) and not all(value.isdecimal() for _, value in pairs):
            pairs = [(value, key) for key, value in pairs]
        name_of: dict[int, str] = {}
        for name, index in pairs:
            if not re.fullmatch("[0-9]{1,9}", index):
                raise ManifestError(
                    f"{path}: the id {shown(index)} of {shown(name)} is no whole number: number the classes"
                )
            if int(index) in name_of:
                raise ManifestError(
                    f"{path}: {shown(name_of[int(index)])} and {shown(name)} have the id {index}: renumber one"
                )
            name_of[int(index)] = name
        if sorted(name_of) != list(range(len(name_of))):
            remedy = (
                "count them from 0"
                if sorted(name_of) == list(range(1, len(name_of) + 1))
                else "number them without a gap"
            )
            raise ManifestError(
                f"{path}: {len(name_of)} classes have the ids 0..{len(name_of) - 1}, not {min(name_of)}..{max(name_of)}: {remedy}"
            )
        names = [name_of[index] for index in range(len(name_of))]
    else:
        raise ManifestError(f'{path} names no class: write {{"jump": 0, "run": 1}} or ["jump", "run"]')
    # Kinetics' names come with quotes of their own where they have a space.
    names = [unquoted(name.strip()) for name in names]
    known: set[str] = set()
    for name in names:
        if name in known or not name:
            raise ManifestError(f"{path}: the name {shown(name)} stands there twice or is empty: make the names differ")
        known.add(name)
    return tuple(names)


class _Object(dict[str, Any]):
    """A JSON object whose keys are known to differ."""


def _content(file: ListFile) -> Any:
    def checked(pairs: list[tuple[str, Any]]) -> _Object:
        found = _Object()
        for key, value in pairs:
            if key in found:
                raise ManifestError(f"{file.path}: the key {shown(key)} stands twice in one object: remove one")
            found[key] = value
        return found

    try:
        return json.loads(file.text, object_pairs_hook=checked)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{file.where(error.lineno)}: not valid JSON ({error.msg}): mend that line") from None
    except ManifestError:
        raise
    except (RecursionError, ValueError):  # a thousand brackets, or a number of thousands of digits
        raise ManifestError(f"{file.path} is no list: write {_WISH}") from None


def _text(where: str, key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ManifestError(f"{where}: {key} is {shown(str(value))}: put it in double quotes")
    text = str(value).strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a pair, as \\ud800
        raise ManifestError(f"{where}: {key} is {shown(text)}, which is no text: mend the escapes") from None
    return text


def _seconds(where: str, key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ManifestError(f"{where}: {key} is {shown(str(value))}: give seconds from 0 on, or leave it out")
    return float(value)

"""Texts of classes from files of their own: further templates, and descriptions of each class (docs/texts.md)."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2clip.data.classes import fold_name
from m2clip.data.lists.text_files import read_list_file
from m2clip.errors import ConfigError, ManifestError

LARGEST = 64 << 20
"""Bytes of a file of descriptions: a hundred sentences for each of a thousand classes take about ten million."""


@dataclass(frozen=True)
class TextFile:
    """A file that texts were read from."""

    path: str
    sha256: str
    """Of its bytes (of the unpacked bytes of a .gz)."""


@dataclass(frozen=True)
class TextSource:
    """What the texts of classes are made from, in place of a model's own templates.

    With templates a class has its name in each of them, then its descriptions; without templates it has its descriptions as
    they are.
    """

    templates: tuple[str, ...] = ()
    """Sentences with {} for the name of a class; empty: names are not read."""
    descriptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts by name of class. They may name more classes than are asked for."""
    templates_file: TextFile | None = None
    """Where the templates were read."""
    descriptions_file: TextFile | None = None
    """Where the descriptions were read."""

    def __post_init__(self) -> None:
        if not self.templates and not self.descriptions:
            raise ConfigError("there are no templates and no descriptions to make texts from: give one of them")

    def texts(self, names: Sequence[str], *, further: Sequence[Sequence[str]] = ()) -> tuple[tuple[str, ...], ...]:
        """The texts of these classes; `further` are those that their table gives beside the templates' (empty: none).

        Raises ConfigError where a class has no description.
        """
        described = self.describe(names) if self.descriptions else ((),) * len(names)
        if not self.templates:
            return described
        from m2clip.data.text.prompts import class_texts  # imports torch, which those who only read files do not need

        first, *others = self.templates
        more = [(*table, *own) for table, own in zip(further or [()] * len(names), described, strict=True)]
        return class_texts(names, template=first, more_templates=others, further=more)

    def describe(self, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The descriptions of these classes, found as labels are: by the same name, or the same but for case and underscores.

        Raises ConfigError for classes without one, and for two entries that could both be meant.
        """
        where = self.descriptions_file.path if self.descriptions_file else "the descriptions"
        loose: dict[str, list[str]] = {}
        for entry in self.descriptions:
            loose.setdefault(fold_name(entry), []).append(entry)
        found: list[tuple[str, ...]] = []
        missing: list[str] = []
        for name in names:
            entries = [name] if name in self.descriptions else loose.get(fold_name(name), [])
            if len(entries) > 1:
                raise ConfigError(
                    f"{where}: {' and '.join(map(repr, entries))} could both be the class {name!r}; keep one of them"
                )
            if entries:
                found.append(self.descriptions[entries[0]])
            else:
                missing.append(name)
        if missing:
            near = difflib.get_close_matches(missing[0], self.descriptions, n=1, cutoff=0.7)
            count = f"{len(missing)} of {len(names)} classes have" if len(missing) > 1 else "one class has"
            raise ConfigError(
                f"{where}: {count} no text, the first is {missing[0]!r}"
                + (f" ({near[0]!r} is there: is it meant?)" if near else "")
                + "; write texts for each class"
            )
        return tuple(found)

    def document(self) -> dict[str, Any]:
        """Templates and files, as a report keeps them."""
        return {
            "template": self.templates[0] if self.templates else None,
            "more_templates": list(self.templates[1:]),
            "templates_file": None if self.templates_file is None else vars(self.templates_file).copy(),
            "texts_file": None if self.descriptions_file is None else vars(self.descriptions_file).copy(),
        }


def read_text_source(
    *, templates: str | Path | None = None, descriptions: str | Path | None = None
) -> TextSource | None:
    """Read what was given; None where nothing was. Raises ConfigError and ManifestError with file and, where there is one, line."""
    if templates is None and descriptions is None:
        return None
    sentences, templates_file = ((), None) if templates is None else read_templates(templates)
    texts, descriptions_file = ({}, None) if descriptions is None else read_descriptions(descriptions)
    return TextSource(sentences, texts, templates_file, descriptions_file)


def read_templates(path: str | Path) -> tuple[tuple[str, ...], TextFile]:
    """Read a text file (.txt) with a template a line; blank lines are skipped. Raises ManifestError, ConfigError."""
    from m2clip.data.text.prompts import check_template  # imports torch

    file = read_list_file(Path(path))
    line_of: dict[str, int] = {}
    for line, template in file.lines():
        if template in line_of:
            raise ConfigError(
                f"{file.where(line)}: the template {template!r} stands already in line {line_of[template]}; remove one"
            )
        try:
            check_template(template)
        except ConfigError as error:
            raise ConfigError(f"{file.where(line)}: {error}") from None
        line_of[template] = line
    if not line_of:
        raise ManifestError(f"{path} holds no template: write one a line, as in: A video of {{}}")
    return tuple(line_of), TextFile(str(path), file.sha256)


def read_descriptions(path: str | Path) -> tuple[dict[str, tuple[str, ...]], TextFile]:
    """Read a JSON object of class names, each with a text or a list of texts. Raises ConfigError."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the texts cannot be read ({error.strerror}); check the path") from None
    if len(raw) > LARGEST:
        raise ConfigError(f"{path} has more than {LARGEST >> 20} MiB; give shorter or fewer texts of each class")
    try:
        values = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_Pairs)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the texts are not UTF-8; write the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); mend that line") from None
    except (RecursionError, ValueError):  # a thousand brackets, or a number of thousands of digits
        raise ConfigError(f'{path} is no list of texts; write {{"class name": ["a text", "another"]}}') from None
    if not isinstance(values, _Pairs) or not values:
        raise ConfigError(f'{path} names no class; write {{"class name": ["a text", "another"]}}')
    texts: dict[str, tuple[str, ...]] = {}
    for name, value in values:
        if name in texts:
            raise ConfigError(f"{path}: the class {name!r} stands there twice; put all its texts into one list")
        own = [value] if isinstance(value, str) else value
        # An object is a list of pairs, too; it must not pass for a list of texts.
        if isinstance(own, _Pairs) or not isinstance(own, list) or not all(isinstance(text, str) for text in own):
            raise ConfigError(
                f"{path}: the class {name!r} has something else than texts; give a text or a list of texts"
            )
        if not own or not all(text.strip() for text in own):
            raise ConfigError(f"{path}: the class {name!r} has an empty text or none; give it at least one text")
        texts[name] = tuple(own)
    return texts, TextFile(str(path), hashlib.sha256(raw).hexdigest())


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they stand, the repeated ones, too."""

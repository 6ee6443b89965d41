"""What a caller gives as labels -> names and, where they are given, the texts of each."""

import csv
from collections.abc import Iterable, Mapping, Sequence

from m2clip.errors import ConfigError

_SHOWN = 200  # characters of a text in a message

Labels = Sequence[str] | Mapping[str, str | Sequence[str]]


def listed_labels(text: str) -> list[str]:
    """'a, "b, c"' -> ["a", "b, c"]. ConfigError for an empty name or quotes that do not end."""
    if len(text.strip().splitlines()) > 1:
        raise ConfigError(f"{text.strip()[:_SHOWN]!r} has several lines; separate the names by commas")
    try:
        names = [name.strip() for row in csv.reader([text.strip()], skipinitialspace=True, strict=True) for name in row]
    except csv.Error as error:
        raise ConfigError(f"{text[:_SHOWN]!r}: {error}; check the double quotes") from None
    if not names or not all(names):
        raise ConfigError(f"{text[:_SHOWN]!r} holds an empty name")
    return names


def named_labels(labels: Labels) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...] | None]:
    """The names of K labels, and the texts of each where a mapping gives them. ConfigError for labels that cannot be used."""
    if isinstance(labels, str):
        raise ConfigError(f"labels is the string {labels!r}: pass a list of names")
    if not isinstance(labels, Iterable):
        raise ConfigError(f"labels is {labels!r}: pass a list of names")
    names = tuple(labels)
    if not names:
        raise ConfigError("there are no labels: pass at least one name")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"the label {name!r} is not a name: every label is a text with at least one letter")
        need_characters(name, f"the label {name!r}")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ConfigError(f"the label {twice!r} is given twice: name each label once")
    if not isinstance(labels, Mapping):
        return names, None
    texts = tuple(
        (text,) if isinstance(text, str) or not isinstance(text, Iterable) else tuple(text) for text in labels.values()
    )
    for name, of_class in zip(names, texts, strict=True):
        if not of_class or not all(isinstance(text, str) and text.strip() for text in of_class):
            raise ConfigError(f"the label {name!r} has an empty text or none: give it at least one text")
        for text in of_class:
            need_characters(text, f"the text {text[:_SHOWN]!r} of the label {name!r}")
    return names, texts


def need_characters(text: str, what: str) -> None:
    """ConfigError for bytes that are no characters: what Python makes of a command line in another encoding than it expects."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{what} holds bytes that are no characters in this encoding: give it as UTF-8, in a terminal set to UTF-8"
        ) from None

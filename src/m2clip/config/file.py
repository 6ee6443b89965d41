"""A YAML file with overrides, and mistakes told in one sentence: file, line, key, value, what is allowed, remedy."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from m2clip.config.plain_yaml import PlainYAMLError, read_yaml
from m2clip.errors import ConfigError

Key = tuple[str, ...]
_MOST_BYTES = 256 << 10
# \ud800 alone, which JSON and YAML can write. The last 128 of them stand for bytes of file names that are no UTF-8.
HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, a docstring for each field."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_default=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _yaml_switches(cls, values: Any) -> Any:
        """Undo what YAML does to `off`, keep `yes` from counting as the number 1, and allow empty sections.

        YAML 1.1 reads a bare off/no as false: where "off" is one of the allowed words, false means that word.
        """
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for key, value in values.items():
            if isinstance(value, str):
                need("\0" not in value, f"{key} holds a zero byte; remove it")
                need(
                    not HALF_CHARACTER.search(value),
                    f"{key} holds half of a character, which is no text; mend its escapes",
                )
            kind = cls.model_fields[key].annotation if key in cls.model_fields else bool
            choices = get_args(kind)
            if value is False and "off" in choices:
                values[key] = "off"
            elif isinstance(value, bool) and kind is not bool and bool not in choices:
                values[key] = "true" if value else "false"  # text: refused by every number, with its own message
            elif value is None and _is_model(kind):
                values[key] = {}  # a section of which the file has only the name
        return values


Model = TypeVar("Model", bound=Settings)


@dataclass(frozen=True)
class Source:
    """The plain values of a run and, for each key, where it was written."""

    path: Path
    values: dict[str, Any]
    lines: dict[Key, int] = field(default_factory=dict)
    overrides: dict[Key, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a YAML file: one mapping, no key twice."""
        path = Path(path)
        try:
            root, values = read_yaml(_text(path))
        except OSError as error:
            raise ConfigError(f"{path}: the configuration cannot be read ({error.strerror}); check the path") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: the configuration is not UTF-8 text; give a YAML file") from None
        except PlainYAMLError as error:
            line = f":{error.line}" if error.line else ""
            raise ConfigError(f"{path}{line}: not valid YAML ({error.problem}); mend that line") from None
        if root is None:
            return cls(path, {})
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}: a configuration is a mapping of keys to values, such as `out: runs/first`")
        lines: dict[Key, int] = {}
        _note_lines(root, (), lines, path)
        return cls(path, values, lines)

    def override(self, text: str) -> Self:
        """Put one "a.b=value" over the file's values."""
        name, equals, written = text.partition("=")
        key = tuple(part.strip() for part in name.split("."))
        if not equals or not all(key):
            raise ConfigError(f"override {text!r}: write it as key=value, such as train.epochs=3")
        try:
            _, value = read_yaml(written)
        except PlainYAMLError as error:
            raise ConfigError(
                f"override {_short(text)}: {_short(written)} is not a YAML value ({error.problem}); "
                "put quotes around the text"
            ) from None
        values = dict(self.values)
        level = values
        for depth, part in enumerate(key[:-1]):
            below = level.get(part, {})
            if below is None:  # a section that the file leaves empty
                below = {}
            if not isinstance(below, dict):
                at = ".".join(key[: depth + 1])
                raise ConfigError(
                    f"override {text!r}: {at} is {below!r}, which has no keys of its own; set {at} itself"
                )
            level[part] = dict(below)
            level = level[part]
        level[key[-1]] = value
        return replace(self, values=values, overrides={**self.overrides, key: text})

    def where(self, key: Key) -> str:
        """The override or the line that set this key, or the nearest one above or below it."""
        key = tuple(part.partition("[")[0] for part in key)
        below = [text for written, text in self.overrides.items() if key and written[: len(key)] == key]
        if below:
            return f"override {below[-1]!r}"
        for depth in range(len(key), 0, -1):
            if key[:depth] in self.overrides:
                return f"override {self.overrides[key[:depth]]!r}"
            if key[:depth] in self.lines:
                return f"{self.path}:{self.lines[key[:depth]]}"
        return str(self.path)


def validate(
    kind: type[Model], values: Mapping[str, Any], *, where: Callable[[Key], str], overridable: bool = True
) -> Model:
    """Build a pydantic model; a mistake is a ConfigError of one sentence that starts with where(key).

    `overridable`: whether a missing setting can also be given as KEY=VALUE.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # An unknown key comes first: it explains the missing one that it was meant to be.
        details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        more = f" ({len(details) - 1} more like this)" if len(details) > 1 else ""
        raise ConfigError(_sentence(details[0], kind, where, overridable) + more) from None


def need(fits: bool, message: str) -> None:
    """Raise ValueError(message), for use inside validators, unless it fits."""
    if not fits:
        raise ValueError(message)


def nearest(word: str, choices: Iterable[str]) -> str:
    """ "; did you mean X?" for the choice that looks like the word, else nothing."""
    near = difflib.get_close_matches(word.lower(), {choice.lower(): choice for choice in choices}, n=1, cutoff=0.6)
    return next((f"; did you mean {choice}?" for choice in choices if near and choice.lower() == near[0]), "")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:  # it is parsed at some 50 kB a second
        raise ConfigError(
            f"{path}: a configuration has at most {_MOST_BYTES >> 10} KiB; keep lists in files of their own"
        )
    return raw.decode("utf-8-sig")


def _note_lines(node: yaml.MappingNode, above: Key, lines: dict[Key, int], path: Path) -> None:
    for key_node, value_node in node.value:
        key = (*above, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in lines:
            raise ConfigError(f"{path}:{line}: {'.'.join(key)} is set twice (first in line {lines[key]}); remove one")
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _note_lines(value_node, key, lines, path)


def _sentence(detail: ErrorDetails, kind: type[BaseModel], where: Callable[[Key], str], overridable: bool) -> str:
    key, level = _resolve(detail["loc"], kind)
    name, at = ".".join(key), where(key)
    if detail["type"] == "extra_forbidden":
        return f"{at}: there is no setting {name}{_did_you_mean(key, level, kind)}"
    if detail["type"] == "missing":
        remedy = f"add it, or pass {name}=VALUE" if overridable else "add it"
        return f"{at}: {name} is missing{_meaning(level, key[-1])}; {remedy}"
    if detail["type"] == "value_error" and isinstance(detail["input"], Mapping | BaseModel):
        return f"{at}: {name + ': ' if name else ''}{detail['ctx']['error']}"  # settings that do not fit together
    meaning = _meaning(level, key[-1]) if key else ""
    return f"{at}: {name or 'the configuration'} is {_short(detail['input'])}, but {_allowed(detail)}{meaning}"


def _resolve(location: tuple[int | str, ...], kind: type[BaseModel]) -> tuple[Key, type[BaseModel] | None]:
    """The dotted key of an error, and the model that its last named part belongs to (none below a plain value)."""
    key: list[str] = []
    holder: type[BaseModel] | None = None
    below: type[BaseModel] | None = kind
    for part in location:
        if isinstance(part, int):
            key[-1] += f"[{part}]"
        elif not part.startswith("<"):  # <...> is the tag of a union's member, not a key
            key.append(part)
            holder = below
            annotation = holder.model_fields[part].annotation if holder and part in holder.model_fields else None
            below = _model_in(annotation)
    return tuple(key), holder


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model among a field's types, if there is one."""
    if _is_model(annotation):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found), None)


def _meaning(holder: type[BaseModel] | None, part: str) -> str:
    """A field's docstring in brackets, to stand inside a sentence."""
    described = holder.model_fields.get(part.partition("[")[0]) if holder else None
    text = " ".join((described.description or "").split()).rstrip(".") if described else ""
    return f" ({text[0].lower() if text[1:2].islower() else text[0]}{text[1:]})" if text else ""


def _did_you_mean(key: Key, holder: type[BaseModel] | None, kind: type[BaseModel]) -> str:
    if holder is None:
        return "; remove it"
    above = "".join(part + "." for part in key[:-1])
    near = nearest(key[-1], holder.model_fields)
    if near:
        return near.replace("mean ", f"mean {above}")
    elsewhere = [name for name in _all_keys(kind) if name.rpartition(".")[2] == key[-1]]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return f"; {key[-2] if above else 'the configuration'} has {', '.join(holder.model_fields)}"


def _all_keys(kind: type[BaseModel], above: str = "") -> Iterable[str]:
    for name, described in kind.model_fields.items():
        yield above + name
        if _is_model(described.annotation):
            yield from _all_keys(described.annotation, f"{above}{name}.")  # type: ignore[arg-type]


_ALLOWED = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "must have as many values as its default",
    "too_long": "must have at most {max_length} values",
    "finite_number": "must be a finite number",
    "model_type": "must be a mapping of keys to values",
    "value_error": "{error}",
}


def _allowed(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    for kind, words in (("int", "a whole number"), ("float", "a number"), ("bool", "true or false")):
        if detail["type"].startswith(f"{kind}_"):
            return f"must be {words}"
    for kind, words in (
        ("string_", "text (put it in quotes)"),
        ("tuple_", "a list"),
        ("model_", "a mapping of keys to values"),
    ):
        if detail["type"].startswith(kind):
            return f"must be {words}"
    return _ALLOWED.get(detail["type"], detail["msg"][:1].lower() + detail["msg"][1:]).format(**context)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

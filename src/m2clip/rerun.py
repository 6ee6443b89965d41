"""A report read as a stranger's, held against what lies here, and its numbers against those of another run."""

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from m2clip.errors import ConfigError
from m2clip.provenance import FILE_SETTINGS, WEIGHT_SETTINGS, Provenance, content_sha256

MOST_BYTES = 512 << 20
"""A report with the scores of each view of 10,000 videos and 400 classes is smaller."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|hf-hub:")
# They tell of the machine and of the hour, or are compared by themselves.
_APART = ("run", "seconds", "versions", "device")


@dataclass(frozen=True)
class Report:
    """A report and what it says of how it was made."""

    path: Path
    document: dict[str, Any]
    run: Provenance

    def need_same_inputs(self) -> None:
        """ConfigError that names the first input that is not there or has other content."""
        for one in self.run.inputs:
            if one.sha256 is None:
                continue
            found = content_sha256(one.path)
            if found is None:
                raise ConfigError(
                    f"{self.path}: {one.setting} is {one.path}, and no file or folder is there; the report was made in {self.run.folder}, "
                    "so run it from there, or bring the file here"
                )
            if found != one.sha256:
                what = "names and sizes of its files" if os.path.isdir(one.path) else "content"
                raise ConfigError(
                    f"{self.path}: {one.setting} is {one.path}, whose {what} has the SHA-256 {found[:12]}... and had "
                    f"{one.sha256[:12]}...; the numbers would be those of other data"
                )

    def need_known_files(self) -> None:
        """ConfigError where a setting is a file or device whose content the report does not state: it would have anything read."""
        known = {os.path.realpath(one.path) for one in self.run.inputs if one.sha256 is not None}
        for name, text in _texts(self.run.settings):
            if name not in FILE_SETTINGS[self.run.command] or os.path.isdir(text) or not os.path.exists(text):
                continue
            if os.path.realpath(text) not in known:
                raise ConfigError(
                    f"{self.path}: {name} is the file {text}, and the report does not say which SHA-256 it had; m2clip says it of each "
                    "file, so the report is not one of ours"
                )

    def need_no_addresses(self) -> None:
        """ConfigError where a setting is an address: a stranger's report would choose what this machine fetches."""
        for name, text in _texts(self.run.settings):
            on_hub = name in WEIGHT_SETTINGS and text not in ("builtin", "openai") and not os.path.exists(text)
            if on_hub or _ADDRESS.match(text):
                raise ConfigError(f"{self.path}: {name} is the address {text}; add --fetch if it may be fetched")


@dataclass(frozen=True)
class Difference:
    """A place in two reports where they differ; None where one of them has nothing."""

    place: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.place}: {_short(self.before)} before, {_short(self.now)} now"


def read_report(path: Path) -> Report:
    """Read a report of ours, or what claims to be one. Raises ConfigError, one sentence."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is no file; give the report.json of a run")
        if status.st_size > MOST_BYTES:
            raise ConfigError(
                f"{path} is larger than any report ({MOST_BYTES >> 20} MiB); give the report.json of a run"
            )
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the report cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is not valid JSON; give the report.json of a run") from None
    if not isinstance(document, dict) or "run" not in document:
        raise ConfigError(
            f"{path} does not say how it was made; give a report that `m2clip evaluate`, `train`, `calibrate` or `tune-strength` has "
            "written or printed, of a protocol the one above its parts"
        )
    try:
        return Report(path, document, Provenance.model_validate(document["run"]))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("run", *first["loc"])))
        raise ConfigError(f"{path}: {place} is not as m2clip writes it ({first['msg']})") from None
    except RecursionError:
        raise ConfigError(f"{path}: run is nested deeper than m2clip writes it") from None


def compare(before: Any, now: Any, *, tolerance: float = 0.0) -> tuple[int, list[Difference]]:
    """How many values two reports were compared in, and where they differ.

    Numbers are equal to the last bit, or where |a - b| <= tolerance * max(1, |a|, |b|). Versions, devices and seconds are left out.
    """
    compared, differences = 0, []
    for place, one, other in _pairs("", before, now):
        compared += 1
        if not _equal(one, other, tolerance):
            differences.append(Difference(place, one, other))
    return compared, differences


_NOTHING = object()


def _pairs(place: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            if key not in _APART:
                below = f"{place}.{key}" if place else str(key)
                yield from _pairs(below, before.get(key, _NOTHING), now.get(key, _NOTHING))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _pairs(f"{place}[{number}]", one, other)
    else:
        yield place, before, now


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    if _is_number(one) and _is_number(other):
        return bool(one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance))
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _texts(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{above}{name}.")
        else:
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    yield above + name, text

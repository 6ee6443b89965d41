"""The cells of a study, every one of them checked before the first is run."""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from m2clip.config import METHOD_TERMS, RunConfig
from m2clip.config.file import Key, Source, validate
from m2clip.data.text.descriptions import TextSource, read_text_source
from m2clip.errors import ConfigError, M2CLIPError, ManifestError
from m2clip.protocol import Protocol, load_protocol
from m2clip.study.config import DataConfig, EvaluationConfig, MethodConfig, Study

_FROM_THE_PROTOCOL = ("data.train", "data.val", "data.test", "data.classes", "data.root")
_OF_THE_CELL = ("out", "train.seed", "train.stop_after_epoch")
_WITHOUT_EFFECT = ("out", "data.workers", "data.cache", "data.cache_gib", "eval.batch_size")
"""Settings that change where and how fast a cell runs, and not what comes out."""
_WEAKENED = ("m2clip", "full", "st-adapter", "aim")
"""Methods whose strength can be set."""


@dataclass(frozen=True)
class Extra:
    """A further measurement of a trained cell."""

    name: str
    config: EvaluationConfig
    protocol: Protocol
    texts: TextSource | None
    """Texts in place of the model's own."""

    def settings(self) -> dict[str, Any]:
        """What its result depends on, as plain values."""
        values = self.config.model_dump(mode="json", include={"strength", "frames"})
        texts = None if self.texts is None else self.texts.document()
        return _plain({**values, "texts": texts, "protocol": _protocol_document(self.protocol)})


@dataclass(frozen=True)
class Cell:
    """One method trained on one data set with one seed, and tested."""

    method: str
    data: str
    seed: int
    folder: Path
    config: RunConfig
    protocol: Protocol
    extras: tuple[Extra, ...]

    @property
    def name(self) -> str:
        """method/data/seed."""
        return f"{self.method}/{self.data}/{self.seed}"

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return bool(METHOD_TERMS[self.config.model.method])

    def settings(self) -> dict[str, Any]:
        """What the cell's result depends on: `run`, `protocol`, the `files` that they name by SHA-256.

        `given` has the names of those settings of `run` that were set.
        """
        wanted = None if self.trains else {"model", "data"}
        run = flat(self.config.model_dump(mode="json", include=wanted))
        given = flat(self.config.model_dump(mode="json", include=wanted, exclude_unset=True))
        keep = [key for key in run if key not in _WITHOUT_EFFECT]
        return _plain(
            {
                "run": {key: run[key] for key in keep},
                "given": sorted(key for key in keep if key in given),
                "protocol": _protocol_document(self.protocol),
                "files": {str(path): _sha256(path) for path in self.files() if path.is_file()},
            }
        )

    def files(self) -> list[Path]:
        """Lists, class tables and texts of the training and of the tests; folders of videos, too."""
        data = self.config.data
        named = [Path(path) for path in (data.train, data.val, data.classes, data.texts) if path]
        tests = [path for part in self.protocol.tests.values() for path in (part.list, part.classes) if path]
        return list(dict.fromkeys([*named, *tests]))


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def plan(study: Study) -> tuple[Cell, ...]:
    """All cells, each once, seed by seed, in the order of the grids.

    A method that trains nothing has no use for seeds: it gets the first one only. Raises ConfigError with file, line and key where
    the settings of any cell do not fit.
    """
    config = study.config
    wanted: dict[tuple[str, str, int], None] = {}
    for grid in config.grids:
        for seed in grid.seeds or config.seeds:
            for data in grid.data:
                for method in grid.methods:
                    wanted[(method, data, seed)] = None
    _check_run(study.source, ("run",), flat(config.run))
    protocols = {name: _protocol(study, name, one) for name, one in config.data.items()}
    further = {name: _further(study, name, one) for name, one in config.evaluations.items()}
    texts = {name: _texts(study, name, one) for name, one in config.evaluations.items()}
    cells: list[Cell] = []
    untrained: set[tuple[str, str]] = set()
    for method, data, seed in wanted:
        run = _run_config(study, method, data, seed, protocol=protocols[data])
        if not METHOD_TERMS[run.model.method] and (method, data) in untrained:
            continue
        untrained |= set() if METHOD_TERMS[run.model.method] else {(method, data)}
        extras = tuple(
            Extra(name, one, further[name] or protocols[data], texts[name])
            for name, one in config.evaluations.items()
            if method in one.of and data in (one.data or config.data)
        )
        _check_extras(study, extras, run)
        folder = Path(config.out) / "cells" / method / data / str(seed)
        cells.append(Cell(method, data, seed, folder, run, protocols[data], extras))
    return tuple(cells)


def need_files(cells: Iterable[Cell]) -> None:
    """ManifestError where a list is not on the disk: every cell that needs it would fail, one after another."""
    for cell in cells:
        further = [part.list for extra in cell.extras for part in extra.protocol.tests.values()]
        for path in (*cell.files(), *further):
            if not set("*{") & set(path.name) and not path.exists():
                raise ManifestError(
                    f"{path} is not there, but the data {cell.data} needs it; check the folder of its protocol, or make the videos"
                )


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two documents of settings, a phrase each.

    A setting that this version of m2clip is the first to know, and that nobody has set, is no difference.
    """
    given, old, new = set(now.get("given", ())), flat(before), flat(now)
    keys = sorted((old.keys() | new.keys()) - {"given"})
    return [
        f"{_shown_key(key)} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in keys
        if old.get(key) != new.get(key)
        and not (key not in old and (key.startswith("files.") or (key.startswith("run.") and key[4:] not in given)))
    ]


def _shown_key(key: str) -> str:
    return key.removeprefix("run.")


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """As JSON would give it back: no tuples, no enumerations."""
    return json.loads(json.dumps(document))


def _protocol_document(protocol: Protocol) -> dict[str, Any]:
    return {
        **protocol.written.model_dump(mode="json", exclude_defaults=True),
        "folder": str(protocol.folder),
        "root": None if protocol.root is None else str(protocol.root),
        "chosen": dict(protocol.chosen),
    }


def _protocol(study: Study, name: str, data: DataConfig) -> Protocol:
    where = study.source.where(("data", name, "protocol"))
    return _loaded(where, data.protocol, data.choose, data.folder, data.root)


def _further(study: Study, name: str, evaluation: EvaluationConfig) -> Protocol | None:
    if evaluation.protocol is None:
        return None
    where = study.source.where(("evaluations", name, "protocol"))
    return _loaded(where, evaluation.protocol, evaluation.choose, evaluation.folder, evaluation.root)


def _texts(study: Study, name: str, evaluation: EvaluationConfig) -> TextSource | None:
    try:
        if evaluation.templates:
            from m2clip.data.text.prompts import check_template  # imports torch, which a look at the plan does not need

            for template in evaluation.templates:
                check_template(template)
        files = read_text_source(descriptions=evaluation.texts)
    except M2CLIPError as error:
        raise ConfigError(f"{study.source.where(('evaluations', name))}: {error}") from None
    if files is None:
        return TextSource(evaluation.templates) if evaluation.templates else None
    return replace(files, templates=evaluation.templates)


def _loaded(where: str, protocol: str, choose: Mapping[str, str], folder: str | None, root: str | None) -> Protocol:
    try:
        return load_protocol(protocol, folder=folder, root=root, choices=choose)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _run_config(study: Study, method: str, data: str, seed: int, *, protocol: Protocol) -> RunConfig:
    """The settings of a cell's run: the study's, then the data's, then the method's; lists come from the protocol."""
    config, source = study.config, study.source
    changes: list[tuple[Key, MethodConfig | DataConfig]] = [
        (("data", data, "set"), config.data[data]),
        (("methods", method, "set"), config.methods[method]),
    ]
    values: dict[str, Any] = copy.deepcopy(config.run)
    for key, one in changes:
        settings = flat(one.set)
        _check_run(source, key, settings)
        for name, value in settings.items():
            _put(values, name, value)
    if protocol.written.train is not None:
        values["data"] = {**(values.get("data") or {}), **protocol.train_settings()}
    _put(values, "train.seed", seed)
    values["out"] = str(Path(config.out) / "cells" / method / data / str(seed) / "run")

    def where(key: Key) -> str:
        name = ".".join(part.partition("[")[0] for part in key)
        for above, one in reversed(changes):
            # A value that does not fit may stand one level above or below the key that is complained of.
            for written in flat(one.set):
                if written == name or written.startswith(f"{name}.") or name.startswith(f"{written}."):
                    return f"{_place(source, (*above, written))} (method {method}, data {data})"
        return f"{source.where(('run', *key))} (method {method}, data {data})"

    run = validate(RunConfig, values, where=where)
    if METHOD_TERMS[run.model.method] and run.data.train is None:
        raise ConfigError(
            f"{source.where(('data', data, 'protocol'))}: the protocol {config.data[data].protocol} has nothing to train on, so "
            f"{method} cannot be trained there; train on another data set and name this protocol under evaluations"
        )
    return run


def _place(source: Source, key: Key) -> str:
    """Where a dotted name was written: as one key, or as nested ones."""
    *above, dotted = key
    whole, nested = source.where(key), source.where((*above, *dotted.split(".")))
    return nested if nested.startswith("override") or whole == source.where(tuple(above)) else whole


def _check_run(source: Source, above: Key, settings: Iterable[str]) -> None:
    """ConfigError for settings that a study decides itself."""
    for name in settings:
        place = _place(source, (*above, name))
        if name in _OF_THE_CELL:
            raise ConfigError(f"{place}: {name} is set for each cell by the study itself; remove it")
        if name in _FROM_THE_PROTOCOL:
            raise ConfigError(f"{place}: {name} comes from the protocol of the data; set it there and remove it here")


def _check_extras(study: Study, extras: Iterable[Extra], run: RunConfig) -> None:
    for extra in extras:
        if extra.config.strength is not None and run.model.method not in _WEAKENED:
            raise ConfigError(
                f"{study.source.where(('evaluations', extra.name, 'strength'))}: a model of the method {run.model.method} has no "
                f"adapters to weaken; measure {' or '.join(_WEAKENED)}"
            )


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted name; a plain value in its way gives place to a mapping."""
    *above, last = name.split(".")
    level = values
    for part in above:
        if not isinstance(level.get(part), dict):
            level[part] = {}
        level = level[part]
    level[last] = value

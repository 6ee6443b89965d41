"""The settings of a study: methods, data sets and seeds, what is read off each trained model, and what is shown of it.

A study is one YAML file plus dotted overrides, as a run is. Nothing here imports torch.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from m2clip.config import Share
from m2clip.config.file import Settings, Source, nearest, need, validate
from m2clip.errors import ConfigError
from m2clip.study.page_config import SectionConfig

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
AT = "@"
"""Between a method and an evaluation, in the name of a row: `m2clip@half-strength`."""


class MethodConfig(Settings):
    """One way of adapting CLIP, as changes to the settings that all runs share."""

    title: str | None = None
    """What tables and figures call it; none: its name."""
    about: str | None = None
    """A sentence on it for the page."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of the run, by dotted name, that differ from `run`: `model.method: aim`."""


class DataConfig(Settings):
    """One data set: the protocol that says what is trained on and how it is tested."""

    protocol: str
    """A protocol's YAML file, or the name of one in the package."""
    title: str | None = None
    """What tables and figures call it; none: its name."""
    choose: dict[str, str] = Field(default_factory=dict)
    """The protocol's choices, such as `shots: 4`."""
    folder: str | None = None
    """Folder with the lists; none: the protocol's."""
    root: str | None = None
    """Folder with the videos; none: the protocol's."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings of the run, by dotted name, for this data; a method's settings stand above them."""


class Grid(Settings):
    """A cell for each method, data set and seed."""

    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of `methods`."""
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of `data`."""
    seeds: Seeds | None = None
    """Seeds of this grid; none: the study's."""


class EvaluationConfig(Settings):
    """A further measurement of finished cells, without training again."""

    of: Annotated[tuple[str, ...], Field(min_length=1)]
    """Methods that are measured so."""
    data: tuple[str, ...] | None = None
    """On which data sets; none: on all that these methods are trained on."""
    title: str | None = None
    """What is put behind the method's title; none: the evaluation's name."""
    strength: Share | None = None
    """Adapter strength, 0 (the frozen CLIP) to 1; none: as trained."""
    frames: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Frames of a clip; none: as trained."""
    templates: tuple[str, ...] = ()
    """Sentences that class names are put into, in place of the model's own; none, and no `texts`: as trained."""
    texts: str | None = None
    """JSON file with descriptions of each class: they are its texts, beside those of `templates` where there are any."""
    protocol: str | None = None
    """Another protocol to test by, such as ucf101-zero-shot after training on Kinetics; none: the data's own."""
    choose: dict[str, str] = Field(default_factory=dict)
    """Choices of that protocol."""
    folder: str | None = None
    """Folder with the lists of that protocol."""
    root: str | None = None
    """Folder with the videos of that protocol."""

    @model_validator(mode="after")
    def _measures_something_else(self) -> Self:
        need(
            any((self.strength is not None, self.frames, self.templates, self.texts, self.protocol)),
            "this evaluation would be the cell's own; set strength, frames, templates, texts or protocol",
        )
        need(
            self.protocol is not None or not (self.choose or self.folder or self.root),
            "choose, folder and root belong to another protocol, and none is named; set protocol, or leave them out",
        )
        return self


class StudyConfig(Settings):
    """Everything a study needs to know."""

    title: str
    """Heading of the page."""
    out: str
    """Folder for the cells and the results."""
    about: str | None = None
    """What is studied, for the page."""
    lanes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that work on cells, one cell each at a time."""
    threads: PositiveInt | None = None
    """Threads of each process; none: the machine's cores, shared among the lanes."""
    seeds: Seeds = (0,)
    """Seeds of every grid that names none."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Settings that all runs share, as in a run's YAML, without `out` and without lists of videos."""
    methods: Annotated[dict[str, MethodConfig], Field(min_length=1)]
    """What is compared, by a short name."""
    data: Annotated[dict[str, DataConfig], Field(min_length=1)]
    """What it is compared on, by a short name."""
    grids: Annotated[tuple[Grid, ...], Field(min_length=1)]
    """Which methods are trained on which data."""
    evaluations: dict[str, EvaluationConfig] = Field(default_factory=dict)
    """Further measurements of trained models, by a short name."""
    sections: tuple[SectionConfig, ...] = ()
    """The page: tables and figures."""

    @field_validator("methods", "data", "evaluations", mode="after")
    @classmethod
    def _names_are_folders(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            need(
                _NAME.fullmatch(name) is not None and len(name) <= 80,
                f"the name {name!r} is also a folder's; use letters, digits and - _ + .",
            )
        return value

    def row_title(self, row: str) -> str:
        """What tables and figures call a row: the method's title, and the evaluation's."""
        method, _, evaluation = row.partition(AT)
        title = self.methods[method].title or method
        return f"{title}, {self.evaluations[evaluation].title or evaluation}" if evaluation else title

    def data_title(self, name: str) -> str:
        """What tables and figures call a data set."""
        return self.data[name].title or name


@dataclass(frozen=True)
class Study:
    """A study's settings and where each was written."""

    config: StudyConfig
    source: Source
    overrides: tuple[str, ...] = ()


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study's YAML file and put overrides such as "lanes=2" or "run.train.epochs=3" over it.

    Raises ConfigError, one sentence, for a file that cannot be read, an unknown key, a value that does not fit and a name that
    is not there.
    """
    source = Source.read(path)
    for text in overrides:
        source = source.override(text)
    config = validate(StudyConfig, source.values, where=source.where)
    _check_names(config, source)
    return Study(config, source, tuple(overrides))


def _check_names(config: StudyConfig, source: Source) -> None:
    """ConfigError for a method, data set or evaluation that is used and not described."""

    def known(names: Iterable[str], described: Iterable[str], *, kind: str, key: tuple[str, ...]) -> None:
        for name in names:
            if name not in described:
                raise ConfigError(
                    f"{source.where(key)}: {'.'.join(key).replace('.[', '[')} names {name!r}, which is not under {kind}"
                    f"{nearest(name, described)}"
                )

    for number, grid in enumerate(config.grids):
        known(grid.methods, config.methods, kind="methods", key=("grids", f"[{number}]"))
        known(grid.data, config.data, kind="data", key=("grids", f"[{number}]"))
    for name, evaluation in config.evaluations.items():
        known(evaluation.of, config.methods, kind="methods", key=("evaluations", name, "of"))
        known(evaluation.data or (), config.data, kind="data", key=("evaluations", name, "data"))
    rows = {
        *config.methods,
        *(f"{method}{AT}{name}" for name, one in config.evaluations.items() for method in one.of),
    }
    for section in config.sections:
        for table in section.tables:
            known(table.rows, rows, kind="methods or evaluations", key=("sections",))
            known(table.data, config.data, kind="data", key=("sections",))
        for figure in section.figures:
            known((row for row, _ in figure.pairs()), rows, kind="methods or evaluations", key=("sections",))
            known((data for _, data in figure.pairs()), config.data, kind="data", key=("sections",))

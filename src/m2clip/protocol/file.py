"""A protocol as it is written: a small YAML file of lists, classes, views and the rule that puts its parts together."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from m2clip.config.file import Settings, need

Kind = Literal["supervised", "zero-shot"]
"""supervised: the classes that a model was trained on; zero-shot: any classes, by the text head alone."""

GAP = re.compile(r"\{([^{}]*)\}")
"""Where a choice goes, in a list's or class table's name."""


class TestPart(Settings):
    """Videos that are evaluated together."""

    list: str
    """A list file, CSV or folder; with * in its name one list a class (`*_test_split1.txt`), whose lines end in codes."""
    classes: str | None = None
    """A class table of the package (its name), or a file; none: the classes that the list or folder names."""
    kind: Kind
    """supervised: the checkpoint's classes; zero-shot: any classes, by the text head alone."""
    code: Annotated[int, Field(ge=0)] | None = None
    """The code of the lines that count, where `list` has one list a class."""

    @model_validator(mode="after")
    def _code_where_there_are_codes(self) -> Self:
        need(
            ("*" in self.list) == (self.code is not None),
            "a list with * needs a code, such as 2, and any other list has none",
        )
        return self


class TrainPart(Settings):
    """Videos to train on before the test."""

    list: str
    """A list file, CSV or folder."""
    val: str | None = None
    """Videos that choose the best checkpoint; none: the last is the best."""
    classes: str | None = None
    """A class table of the package (its name), or a file; none: the classes that the list or folder names."""

    @field_validator("list", "val", mode="after")
    @classmethod
    def _plain_list(cls, value: str | None) -> str | None:
        need(value is None or "*" not in value, "training reads one list, so it must hold no *")
        return value


class ProtocolFile(Settings):
    """A protocol as it is written."""

    title: str
    """One line."""
    source: str = ""
    """The paper, and where the lists come from."""
    folder: str
    """Where the lists lie, relative to the working directory; --data gives another."""
    root: str | None = None
    """Where the videos lie, relative to `folder`; none: the folder of each list."""
    frames: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Frames of a clip; none: as trained."""
    views: str = "1x1"
    """Temporal x spatial views of each video."""
    template: str | None = None
    """The sentence that class names are put into; none: the checkpoint's texts."""
    choices: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What a user chooses: values by name; {name} in a list or class table stands for the value."""
    train: TrainPart | None = None
    """What to train on; none: the protocol only tests."""
    tests: dict[str, TestPart]
    """The parts, by name."""
    summary: Literal["mean", "harmonic"] = "mean"
    """mean: mean and standard deviation over the parts; harmonic: the harmonic mean of two or more."""

    @field_validator("views", mode="after")
    @classmethod
    def _two_counts(cls, value: str) -> str:
        need(
            re.fullmatch("[1-9][0-9]?x[1-9][0-9]?", value) is not None, "it must be of the form 4x3, temporal x spatial"
        )
        return value

    @field_validator("template", mode="after")
    @classmethod
    def _one_gap(cls, value: str | None) -> str | None:
        fits = value is None or (value.count("{}") == 1 and value.count("{") == value.count("}") == 1)
        need(fits, "it must hold {} exactly once, for the class name, and no other brace")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        need(len(self.tests) > 0, "tests is empty; name at least one part with its list")
        need(self.summary == "mean" or len(self.tests) > 1, "summary is harmonic, but there is only one part in tests")
        for name in self.tests:
            need(
                re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) is not None, f"the part {name!r} must be a name like split-1"
            )
        for name, values in self.choices.items():
            need(len(values) > 0, f"choices.{name} is empty; give its values")
        parts = [*self.tests.values(), *([self.train] if self.train else [])]
        written = [text for part in parts for text in part.model_dump().values() if isinstance(text, str)]
        gaps = [gap for text in written for gap in GAP.findall(text)]
        unknown = [gap for gap in gaps if gap not in self.choices]
        need(not unknown, f"{{{', '.join(unknown[:1])}}} stands in a list, but choices has no such name")
        unused = [name for name in self.choices if name not in gaps]
        need(not unused, f"choices.{', '.join(unused[:1])} stands in no list as {{{', '.join(unused[:1])}}}")
        return self

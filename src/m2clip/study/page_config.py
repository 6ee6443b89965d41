"""The settings of a study's page: sections of tables and figures. Nothing here imports torch."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from m2clip.config.file import Settings, need

Reading = Literal["similarity", "visual", "ensemble"]
Point = tuple[float, str] | tuple[float, str, str]
"""x, row, and the data set where the line has none."""


class TableConfig(Settings):
    """A table of the page."""

    kind: Literal["accuracy", "masked-words"] = "accuracy"
    """Accuracies of each test part, or what the masked-word head learned."""
    title: str
    """Its caption."""
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    """Data sets, side by side."""
    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Methods, or METHOD@EVALUATION."""
    reading: Reading | None = None
    """What trained classes are read off; none: the ensemble where there is one (a linear probe: its visual head)."""
    compare: str | None = None
    """One of the rows: sentences below the table say how far it is from the best other row, seed by seed."""

    @model_validator(mode="after")
    def _compared_row_is_there(self) -> Self:
        need(self.compare is None or self.compare in self.rows, f"compare is {self.compare}, which is none of the rows")
        need(
            self.kind == "accuracy" or (self.compare is None and self.reading is None),
            "only a table of accuracies has a row to compare and a reading",
        )
        return self


class ScatterConfig(Settings):
    """One test part against another; the area of a circle tells the trained parameters."""

    kind: Literal["scatter", "line"]
    """What is drawn."""
    title: str
    """Above the figure."""
    data: str
    """The data set."""
    parts: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
    """Test parts along x and y."""
    reading: Reading | None = None
    """What trained classes are read off; none: the ensemble where there is one (a linear probe: its visual head)."""
    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Methods, or METHOD@EVALUATION."""

    def pairs(self) -> list[tuple[str, str]]:
        """The rows that are drawn, each with its data set."""
        return [(row, self.data) for row in self.rows]


class LineConfig(Settings):
    """Accuracy along a number that changes from row to row: layers, frames, shots, strength."""

    kind: Literal["scatter", "line"]
    """What is drawn."""
    title: str
    """Above the figure."""
    x: str
    """What the numbers along x are."""
    data: str | None = None
    """The data set; none: a point names its own, as [x, row, data]."""
    parts: Annotated[tuple[str, ...], Field(min_length=1)]
    """Test parts; `mean` or `harmonic mean` for the protocol's summary."""
    reading: Reading | None = None
    """What trained classes are read off; none: the ensemble where there is one (a linear probe: its visual head)."""
    lines: Annotated[dict[str, tuple[Point, ...]], Field(min_length=1)]
    """For each line its points: [x, row]."""

    @model_validator(mode="after")
    def _points_have_data(self) -> Self:
        for name, points in self.lines.items():
            need(len(points) > 0, f"the line {name} has no points")
            need(
                all((len(point) == 3) == (self.data is None) for point in points),
                f"the points of {name} must be [x, row] where data is set, and [x, row, data] where it is not",
            )
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """The rows that are drawn, each with its data set."""
        return [(point[1], self.data_of(point)) for points in self.lines.values() for point in points]

    def data_of(self, point: Point) -> str:
        """The data set of a point."""
        return point[2] if len(point) == 3 else str(self.data)


FigureConfig = Annotated[
    Annotated[ScatterConfig, Tag("<scatter>")] | Annotated[LineConfig, Tag("<line>")],
    Discriminator(
        lambda value: (
            "<scatter>"
            if (value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)) == "scatter"
            else "<line>"
        )
    ),
]


class SectionConfig(Settings):
    """A section of the page."""

    title: str
    """Its heading."""
    about: str | None = None
    """What was asked and what was found, in words."""
    tables: tuple[TableConfig, ...] = ()
    """Tables, in this order."""
    figures: tuple[FigureConfig, ...] = ()
    """Figures, below the tables."""

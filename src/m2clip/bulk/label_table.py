"""The Parquet file of what `m2clip classify` found: its columns, and what it says of model and labels."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2clip.bulk.row_table import FILE_FIELDS, FileRow, RowTable, file_columns
from m2clip.bulk.source_model import SourceModel
from m2clip.errors import ConfigError
from m2clip.model.info import first_fault
from m2clip.recognizer import Recognizer
from m2clip.scoring import Reading
from m2clip.video_scores import Classes

LABELS_KEY = b"m2clip.labels"
"""Under which the schema of a table of labels holds its record as JSON."""


class LabelSource(BaseModel):
    """The record behind a table of labels: the model, the labels that it chose from, and how it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: SourceModel
    labels: tuple[str, ...]
    """K names, in the order in which they were asked for."""
    labels_id: str
    """SHA-256 of names, texts, reading, temperature and threshold: scores of two ids are not comparable."""
    reading: Reading
    """What scores are read from."""
    temperature: float
    """Of the scores; 1 without a calibration."""
    threshold: float | None
    """Below which evidence a video shows none of the labels; None: that was not set for them."""
    top: Annotated[int, Field(ge=1)]
    """How many labels a row has, at most."""

    @classmethod
    def of(cls, recognizer: Recognizer, classes: Classes, source: SourceModel, *, top: int) -> Self:
        """The record of what a recognizer finds among these classes."""
        threshold = classes.threshold(strength=recognizer.model.strength)
        read = [classes.names, classes.texts, classes.reading, classes.temperature, threshold]
        return cls(
            model=source,
            labels=classes.names,
            labels_id=hashlib.sha256(json.dumps(read).encode()).hexdigest(),
            reading=classes.reading,
            temperature=classes.temperature,
            threshold=threshold,
            top=top,
        )


@dataclass(frozen=True)
class LabelRow(FileRow):
    """What one video shows."""

    none_of_these: bool
    labels: tuple[str, ...]
    """The most probable ones, best first."""
    scores: tuple[float, ...]
    """Their probabilities."""


def label_schema(source: LabelSource) -> pa.Schema:
    """The columns of a table of labels; its metadata hold the record of model and labels."""
    return pa.schema(
        [
            *FILE_FIELDS,
            pa.field("none_of_these", pa.bool_(), nullable=False),
            pa.field("labels", pa.list_(pa.string()), nullable=False),
            pa.field("scores", pa.list_(pa.float32()), nullable=False),
        ],
        metadata={LABELS_KEY: source.model_dump_json().encode()},
    )


def label_table(rows: Sequence[LabelRow], source: LabelSource) -> pa.Table:
    """These rows as a table."""
    own = {name: [getattr(row, name) for row in rows] for name in ("none_of_these", "labels", "scores")}
    return pa.table({**file_columns(rows), **own}, schema=label_schema(source))


def source_of_labels(table: RowTable) -> LabelSource:
    """Model and labels of a table. ConfigError where it is no table of labels."""
    text = (table.schema.metadata or {}).get(LABELS_KEY)
    if text is None:
        raise ConfigError(f"{table.path} does not say which labels it was made with: make it with m2clip classify")
    try:
        source = LabelSource.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(
            f"{table.path}: its record of model and labels is broken ({first_fault(error)}); make it again"
        ) from None
    table.need_columns(label_schema(source))
    return source


@dataclass(frozen=True)
class LabelForm:
    """Tables of labels by one model, from one set of labels."""

    source: LabelSource
    repeated = ("labels.list.element",)
    by_path = False

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return label_schema(self.source)

    def check(self, table: RowTable, *, parts: Path) -> None:
        """Raise ConfigError where a table is of another model, of other labels, or has more or fewer of them a row."""
        found, own = source_of_labels(table), self.source
        remedy = f"give another file, or delete it and {parts}"
        if found.model.model_id != own.model.model_id:
            was = f"{found.model.checkpoint}, strength {found.model.strength:g}, {found.model.precision}"
            raise ConfigError(f"{table.path} is by another model ({was}) or of other clips: {remedy}")
        if found.labels_id != own.labels_id:
            raise ConfigError(f"{table.path} was made with other labels, texts or another calibration: {remedy}")
        if found.top != own.top:
            raise ConfigError(f"{table.path} has the best {found.top} labels of each video, not {own.top}: {remedy}")

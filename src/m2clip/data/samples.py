"""The samples of a list as columns, so that ten million of them take seconds and little memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np

from m2clip.data.lists.listed_places import ListedPlaces
from m2clip.data.places import Place, is_absent
from m2clip.data.shards.members import ShardPlaces

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """A labelled video, or a part of one."""

    path: Place
    label: int
    """Class index, 0..K-1."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    where: str = ""
    """The place that lists it, `file:line`, or the file itself in a folder per class."""


class Samples(Sequence[Sample]):
    """N samples. A `Sample` is made when it is asked for, and not kept; what is needed of all of them comes as a column."""

    def __init__(
        self,
        places: Sequence[Place],
        labels: np.ndarray,
        *,
        wheres: Sequence[str] | None = None,
        start_seconds: np.ndarray | None = None,
        end_seconds: np.ndarray | None = None,
    ) -> None:
        """`labels` int64 [N]; the times float64 [N], NaN where a sample has none, or None where no sample has any.

        Without `wheres`, a sample stands where its video lies.
        """
        self.places = places
        self.labels = labels
        self.start_seconds, self.end_seconds = start_seconds, end_seconds
        self._wheres = wheres

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Samples":
        """The columns of these samples."""
        rows = tuple(samples)

        def times(cells: list[float | None]) -> np.ndarray | None:
            return None if all(cell is None for cell in cells) else np.array(cells, np.float64)

        return cls(
            tuple(row.path for row in rows),
            np.array([row.label for row in rows], np.int64),
            wheres=tuple(row.where for row in rows),
            start_seconds=times([row.start_seconds for row in rows]),
            end_seconds=times([row.end_seconds for row in rows]),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "Samples": ...

    def __getitem__(self, index: int | slice) -> "Sample | Samples":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index = int(index) % len(self)
        place = self.places[index]
        return Sample(
            place,
            int(self.labels[index]),
            _time(self.start_seconds, index),
            _time(self.end_seconds, index),
            str(place) if self._wheres is None else self._wheres[index],
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same samples."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # what equals a list has no hash

    def __repr__(self) -> str:
        return f"<{len(self)} samples>"

    def take(self, indices: np.ndarray) -> "Samples":
        """These samples, in this order; nothing but their indices, labels and times is copied."""
        return Samples(
            _Chosen(self.places, indices),
            self.labels[indices],
            wheres=None if self._wheres is None else _Chosen(self._wheres, indices),
            start_seconds=None if self.start_seconds is None else self.start_seconds[indices],
            end_seconds=None if self.end_seconds is None else self.end_seconds[indices],
        )

    def missing(self) -> "Samples":
        """The samples whose file does not exist."""
        if isinstance(self.places, ListedPlaces | ShardPlaces):
            absent = self.places.absent()
        else:
            absent = np.fromiter((is_absent(place) for place in self.places), bool, len(self))
        return self.take(np.flatnonzero(absent))

    def counts(self, classes: int) -> np.ndarray:
        """int64 [K]: how many samples each of K classes has."""
        return np.bincount(self.labels, minlength=classes)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the part of each sample begins and ends in seconds, float64 [N] each: 0 and infinity where nothing is said."""
        start = np.zeros(len(self)) if self.start_seconds is None else np.nan_to_num(self.start_seconds, nan=0.0)
        end = np.full(len(self), np.inf) if self.end_seconds is None else self.end_seconds
        return start, np.where(np.isnan(end), np.inf, end)


class ListedLines(Sequence[str]):
    """`file:line` for N lines of a list."""

    def __init__(self, file: str, lines: np.ndarray) -> None:
        """`lines`: whole numbers [N]."""
        self.file, self.lines = file, lines

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ListedLines(self.file, self.lines[index])
        return f"{self.file}:{self.lines[index]}"


class _Chosen(Sequence[T], Generic[T]):
    """Some elements of a sequence, looked up there."""

    def __init__(self, whole: Sequence[T], indices: np.ndarray) -> None:
        self._whole, self._indices = whole, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Chosen(self._whole, self._indices[index])
        return self._whole[int(self._indices[index])]


def _time(column: np.ndarray | None, index: int) -> float | None:
    return None if column is None or np.isnan(column[index]) else float(column[index])

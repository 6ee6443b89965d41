"""Videos -> rows of a table, batch by batch: reading, encoding, and who is encoded together with whom."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from m2clip.bulk.stretches import STRETCHES_AT_A_TIME, ReadOne, ReadStretches, StretchDataset, StretchReader
from m2clip.bulk.wanted_videos import Key, State, lasting_path
from m2clip.bulk.work import ReadVideo, Work
from m2clip.data.dataset import BadFile, DamagedFile, Item
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.samples import Samples
from m2clip.data.transforms import PixelStatistics

_NOT_SEEN, _ON_THE_WEB = -1, -2  # in place of a file's size
_LONG_VIDEOS_AT_A_TIME = 16  # whose first stretches are read before the further ones; what a kill may cost


@dataclass(frozen=True)
class Asked:
    """One video, or part of one, that is to be read."""

    sample: Sample
    path: str
    """By which it is found again."""
    state: State | None

    @property
    def key(self) -> Key:
        """What names it in tables."""
        return (self.path, self.sample.start_seconds, self.sample.end_seconds)


class AskedVideos(Sequence[Asked]):
    """Those of a list that are to be read: columns, from which an `Asked` is made when it is asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        """`samples` are the whole list."""
        self._samples = samples
        self._positions, self._sizes, self._times = array("q"), array("q"), array("q")

    def add(self, position: int, state: State | None) -> None:
        """The video at this place of the list, as it is now."""
        size, mtime = (_NOT_SEEN, _NOT_SEEN) if state is None else state
        self._positions.append(position)
        self._sizes.append(_ON_THE_WEB if size is None else size)
        self._times.append(_ON_THE_WEB if mtime is None else mtime)

    @property
    def positions(self) -> np.ndarray:
        """int64 [N]: the places of all in the list."""
        return np.array(self._positions, np.int64)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        sample: Sample = self._samples[self._positions[number]]
        size, mtime = self._sizes[number], self._times[number]
        state: State | None = None if size == _NOT_SEEN else (None, None) if size == _ON_THE_WEB else (size, mtime)
        return Asked(sample, lasting_path(sample.path), state)


@dataclass(frozen=True)
class BatchResult:
    """What came of some videos; each is in it once, by its number: with rows or as bad."""

    numbers: tuple[int, ...]
    rows: pa.Table
    """Of the form's columns."""
    bad: tuple[BadFile, ...] = ()
    damaged: tuple[DamagedFile, ...] = ()
    """Of the videos that have rows."""


@dataclass(frozen=True)
class Reading:
    """How videos are read."""

    batch_size: int
    workers: int
    """Processes that decode; 0: this one."""
    file_seconds: float
    most_lost: float


def batches_of(positions: np.ndarray, batch_size: int) -> list[range]:
    """The numbers 0..N-1 of what is to be done, in batches; `positions` int [N], rising, are their places in the whole list.

    Batches are stretches of the list, whatever of it is done already: who is encoded together never depends on when a run was broken off.
    Of places 0, 1, 4, 6, 7 and batches of two places each: numbers 0, 1; 2; 3, 4.
    """
    cuts = (np.flatnonzero(np.diff(positions // batch_size)) + 1).tolist()
    return [range(first, end) for first, end in pairwise([0, *cuts, len(positions)]) if end > first]


def results(
    work: Work,
    asked: Sequence[Asked],
    batches: Sequence[Sequence[int]],
    reading: Reading,
    *,
    read_one: ReadOne | None = None,
) -> Iterator[BatchResult]:
    """The result of each batch of numbers of `asked`; of videos in stretches one after another.

    `read_one` stands for `dataset[index]` where videos are read in this process.
    """
    yield from _Run(work, asked, reading).read(batches, read_one)


class _Run:
    def __init__(self, work: Work, asked: Sequence[Asked], reading: Reading) -> None:
        self._work, self._asked, self._reading = work, asked, reading
        self._open: dict[int, list[pa.Table]] = {}  # of videos of several pieces: what is there
        self._bad: set[int] = set()
        self._damaged: dict[int, DamagedFile] = {}
        sizes = work.recognizer.model.info.sizes
        self._dataset = StretchDataset(
            Manifest(_unlabelled(asked), ("",), (), "", ""),
            work.recognizer.reader,
            statistics=PixelStatistics(tuple(sizes.mean), tuple(sizes.std)),
            every_seconds=work.every_seconds,
            most_lost=reading.most_lost,
        )

    def read(self, batches: Sequence[Sequence[int]], read_one: ReadOne | None) -> Iterator[BatchResult]:
        every = self._work.every_seconds
        own_batch = self._reading.batch_size if every is None else -(-self._reading.batch_size // STRETCHES_AT_A_TIME)
        reader = StretchReader(
            self._dataset,
            batch_size=own_batch,
            workers=self._reading.workers,
            file_seconds=self._reading.file_seconds,
            read_one=read_one,
        )
        with closing(reader):
            if every is None:
                for items in reader.read(batches):
                    yield self._whole(items)
                return
            numbers = [number for batch in batches for number in batch]
            for first in range(0, len(numbers), _LONG_VIDEOS_AT_A_TIME):
                further: list[int] = []
                for items in reader.read_flat(numbers[first : first + _LONG_VIDEOS_AT_A_TIME]):
                    for item in items:
                        yield from self._piece(item, further)
                for items in reader.read_flat(further):
                    for item in items:
                        yield from self._piece(item, [])

    def _whole(self, items: Sequence[Item | BadFile]) -> BatchResult:
        good = [item for item in items if isinstance(item, ReadStretches)]
        return BatchResult(
            tuple(item.index for item in items),
            pa.concat_tables([self._work.form.schema.empty_table(), *self._rows(good)]),
            tuple(item for item in items if isinstance(item, BadFile)),
            tuple(item.damage for item in good if item.damage is not None),
        )

    def _piece(self, item: Item | BadFile, further: list[int]) -> Iterator[BatchResult]:
        """The result of a video that is complete with this piece; `further` gets the indices of those that follow its first one.

        Each piece is encoded by itself, so that it does not matter which others come beside it.
        """
        count = len(self._dataset)
        number, piece = item.index % count, item.index // count
        if number in self._bad:  # by another piece
            return
        if isinstance(item, BadFile):
            self._bad.add(number)
            self._open.pop(number, None)
            yield BatchResult((number,), self._work.form.schema.empty_table(), (replace(item, index=number),))
            return
        assert isinstance(item, ReadStretches)
        if piece == 0:
            self._open[number] = []
            further += [number + count * later for later in range(1, item.pieces)]
        self._open[number] += self._rows([item])
        if item.damage is not None:
            self._damaged[number] = item.damage
        if len(self._open[number]) == item.pieces:
            damage = self._damaged.pop(number, None)
            rows = pa.concat_tables(self._open.pop(number))
            yield BatchResult((number,), rows, damaged=() if damage is None else (damage,))

    def _rows(self, items: Sequence[ReadStretches]) -> list[pa.Table]:
        if not items:
            return []
        asked = [self._asked[item.index % len(self._dataset)] for item in items]
        videos = [ReadVideo(one.path, one.state, item) for one, item in zip(asked, items, strict=True)]
        return self._work.rows(videos)


class _Cells(Sequence[Any]):
    """One field of all samples, looked up when it is asked for."""

    def __init__(self, asked: Sequence[Asked], field: str) -> None:
        self._asked, self._field = asked, field

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        return getattr(self._asked[number].sample, self._field)


def _unlabelled(asked: Sequence[Asked]) -> Samples:
    """The samples of a list that may be long, without copies of them."""
    samples = (one.sample for one in asked)
    times = np.array([(one.start_seconds, one.end_seconds) for one in samples], np.float64).reshape(len(asked), 2)
    return Samples(
        _Cells(asked, "path"),
        np.zeros(len(asked), np.int64),
        wheres=_Cells(asked, "where"),
        start_seconds=times[:, 0],
        end_seconds=times[:, 1],
    )

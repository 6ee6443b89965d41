"""Videos -> their embeddings in a table, read by worker processes and encoded in batches; what is done already is left alone."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from m2clip.bulk.growing_table import GrowingTable
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.stretches import STRETCHES_AT_A_TIME, ReadStretches, StretchDataset, StretchReader
from m2clip.bulk.vector_table import VectorRow
from m2clip.bulk.wanted_videos import Key, State, WantedVideos, state_of
from m2clip.data.dataset import MOST_LOST, BadFile, DamagedFile, Item
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.readers import FILE_SECONDS
from m2clip.data.samples import Samples
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import ConfigError, M2CLIPError
from m2clip.recognizer import Recognizer, mean_embedding
from m2clip.report.bad_files import BAD_FILES, DAMAGED_FILES, FileReport, write_file_tables

_LONG_VIDEOS_AT_A_TIME = 16  # whose first stretches are read before the further ones; what a kill may cost
CLIPS_AT_A_TIME = 16


@dataclass(frozen=True)
class Embedded:
    """What a call did."""

    rows: int
    """That the table holds now."""
    videos: int
    """Videos (or parts that a list names) that were embedded."""
    done_before: int
    """That were there already, unchanged."""
    dropped: int
    """That were in the table and have gone, or cannot be read any more."""
    bad: tuple[BadFile, ...]
    damaged: tuple[DamagedFile, ...]
    tables: tuple[str, ...]
    """The names of the tables of bad and damaged files that were written beside."""


def embed_videos(
    recognizer: Recognizer,
    wanted: WantedVideos,
    out: Path,
    source: SourceModel,
    *,
    workers: int = 0,
    batch_size: int = 8,
    file_seconds: float = FILE_SECONDS,
    most_lost: float = MOST_LOST,
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embedded:
    """Bring the table at `out` up to date with these videos.

    A video that is there with the same size, time of last change and times is not read again. A video that was looked for and is
    gone, or cannot be read, has no row afterwards; rows of other videos stay. A kill costs at most what was read in the last
    PART_SECONDS and, of long videos in stretches, those under way. Raises ConfigError where the table is of another model.
    """
    if source.every_seconds is not None:
        for path, start, end in wanted.samples:
            if start is not None or end is not None:
                raise ConfigError(f"{path} is listed with times: leave out every_seconds, or list whole videos")
    with GrowingTable(out, source) as table:
        states = {key: state_of(sample.path) for key, sample in wanted.samples.items()}
        todo = [key for key in wanted.samples if not table.has(key, states[key])]
        run = _Run(recognizer, wanted, source, table, states, todo, tell, progress)
        run.read(workers=workers, batch_size=batch_size, file_seconds=file_seconds, most_lost=most_lost)
        failed = {todo[number] for number in run.bad}

        def is_wanted(key: Key) -> bool:
            if key in wanted.samples:
                return key not in failed
            return key[0] not in wanted.paths and not wanted.has_gone(key[0])

        rows, dropped = table.finish(is_wanted)
    bad, damaged = (*wanted.bad, *run.bad.values()), tuple(run.damaged.values())
    return Embedded(
        rows, len(todo) - len(run.bad), len(states) - len(todo), dropped, bad, damaged,
        _write_file_tables(out, bad, damaged),
    )  # fmt: skip


class _Run:
    """The reading and encoding of what is to be done."""

    def __init__(
        self,
        recognizer: Recognizer,
        wanted: WantedVideos,
        source: SourceModel,
        table: GrowingTable,
        states: dict[Key, State | None],
        todo: Sequence[Key],
        tell: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self._recognizer, self._source, self._table = recognizer, source, table
        self._states, self._todo, self._progress = states, todo, progress
        self._samples: list[Sample] = [wanted.samples[key] for key in todo]
        self._report = FileReport(policy="skip", tell=tell)
        self._report.note(wanted.bad, ())
        self._open: dict[int, list[list[VectorRow]]] = {}  # of videos of several pieces: what is there
        self._done = 0
        self.bad: dict[int, BadFile] = {}
        self.damaged: dict[int, DamagedFile] = {}

    def read(self, *, workers: int, batch_size: int, file_seconds: float, most_lost: float) -> None:
        if not self._samples:
            return
        every = self._source.every_seconds
        sizes = self._recognizer.model.info.sizes
        dataset = StretchDataset(
            Manifest(Samples.of(_unlabelled(self._samples)), ("",), (), "", ""),
            self._recognizer.reader,
            statistics=PixelStatistics(tuple(sizes.mean), tuple(sizes.std)),
            every_seconds=every,
            most_lost=most_lost,
        )
        own_batch = batch_size if every is None else -(-batch_size // STRETCHES_AT_A_TIME)
        reader = StretchReader(dataset, batch_size=own_batch, workers=workers, file_seconds=file_seconds)
        with closing(reader):
            at_a_time = len(dataset) if every is None else _LONG_VIDEOS_AT_A_TIME
            for first in range(0, len(dataset), at_a_time):
                group = range(first, min(first + at_a_time, len(dataset)))
                further: list[int] = []
                for items in reader.read(group):
                    further += self._take(items, count=len(dataset))
                for items in reader.read(further):
                    self._take(items, count=len(dataset))

    def _take(self, items: Sequence[Item | BadFile], *, count: int) -> list[int]:
        """Encode what was read; returns the indices of the further pieces of its videos."""
        good = [item for item in items if isinstance(item, ReadStretches)]
        further: list[int] = []
        for item in items:
            if isinstance(item, BadFile):
                self._fail(item, number=item.index % count)
        for item, rows in zip(good, self._encode(good, count=count), strict=True):
            number, piece = item.index % count, item.index // count
            if piece == 0:
                self._open[number] = []
                further += [number + count * later for later in range(1, item.pieces)]
            if number not in self._open:  # one of its other pieces could not be read
                continue
            self._open[number].append(rows)
            if item.damage is not None:
                self._report.note((), [item.damage])
                self.damaged[number] = item.damage
            if len(self._open[number]) == item.pieces:
                self._table.add([row for piece_rows in self._open.pop(number) for row in piece_rows])
                self._tick()
        return further

    def _fail(self, file: BadFile, *, number: int) -> None:
        if number in self.bad:  # by another piece
            return
        self._open.pop(number, None)
        self.bad[number] = replace(file, index=number)
        self._report.note([self.bad[number]], ())
        self._tick()

    def _tick(self) -> None:
        self._done += 1
        self._progress(self._done, len(self._samples))

    def _encode(self, items: Sequence[ReadStretches], *, count: int) -> list[list[VectorRow]]:
        if not items:
            return []
        views = self._source.views_temporal * self._source.views_spatial
        clips = torch.cat([item.pixels[: len(item.spans) * views] for item in items])
        embeddings = torch.cat([self._recognizer.encode(some).embedding for some in clips.split(CLIPS_AT_A_TIME)])
        found, coming = [], iter(embeddings.split(views))
        for item in items:
            key = self._todo[item.index % count]
            size, mtime = self._states[key] or (None, None)
            rows = []
            for start, end in item.spans:
                vector = mean_embedding(next(coming))
                if not bool((vector == vector).all()):
                    raise M2CLIPError(
                        f"{key[0]}: its embedding is not finite; the checkpoint's weights are broken, so use an earlier one"
                    )
                rows.append(VectorRow(key[0], start, end, size, mtime, item.duration_seconds, item.lost_frames, vector))
            found.append(rows)
        return found


def _unlabelled(samples: Sequence[Sample]) -> list[Sample]:
    return [Sample(one.path, 0, one.start_seconds, one.end_seconds, one.where) for one in samples]


def _write_file_tables(out: Path, bad: Sequence[BadFile], damaged: Sequence[DamagedFile]) -> tuple[str, ...]:
    """Tables of this call beside the table of embeddings; those of a call before are of no use any more."""
    prefix = out.stem + "."
    for name in (BAD_FILES, DAMAGED_FILES):
        (out.parent / (prefix + name)).unlink(missing_ok=True)
    return tuple(write_file_tables(out.parent, bad, damaged, prefix=prefix))

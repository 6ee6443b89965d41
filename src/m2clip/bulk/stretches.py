"""Videos as the clips that embeddings are made of: of each the whole, or one stretch after another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from m2clip.data.clip_reader import ClipReader
from m2clip.data.dataset import BadFile, DamagedFile, Item, VideoDataset
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.parts import shown_part, window_spans
from m2clip.data.readers import Readers
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import VideoError

STRETCHES_AT_A_TIME = 8
"""Stretches of a video that one opening of it reads."""
_MOST_STRETCHES = 1_000_000  # of a video: eleven days at one a second


@dataclass(frozen=True)
class ReadStretches(Item):
    """Neighbouring stretches of a video: `pixels` uint8 [R' * V, T, 3, H, W], of which the first len(spans) * V count."""

    spans: tuple[tuple[float | None, float | None], ...] = ()
    """R: where each begins and ends, in seconds; None is the video's own start or end."""
    pieces: int = 1
    """How many items the whole video makes."""
    duration_seconds: float = 0.0
    """Of the whole video."""
    lost_frames: int = 0
    """How many frames damage has taken, as far as was seen."""


class StretchDataset(VideoDataset):
    """The samples of a manifest, whole, or each video in stretches of `every_seconds`, the last one ending with it.

    Of N samples, index n + N * piece is a piece of sample n: at most STRETCHES_AT_A_TIME stretches. How many pieces a video makes
    is known when its first one has been read.
    """

    def __init__(
        self,
        manifest: Manifest,
        reader: ClipReader,
        *,
        statistics: PixelStatistics,
        every_seconds: float | None,
        most_lost: float,
    ) -> None:
        super().__init__(
            manifest,
            **reader.sampling.document(),
            size=reader.image_size,
            mean=statistics.mean,
            std=statistics.std,
            train=False,
            views_temporal=reader.views_temporal,
            views_spatial=reader.views_spatial,
            most_lost=most_lost,
        )
        self._reader, self._every_seconds = reader, every_seconds

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Shape of an item's pixels, (R' * V, T, 3, H, W)."""
        views, *picture = super().clip_shape
        return (views * (1 if self._every_seconds is None else STRETCHES_AT_A_TIME), *picture)

    def sample(self, index: int) -> Sample:
        """The sample that a piece belongs to."""
        return self.manifest.samples[index % len(self)]

    def _item(self, sample: Sample, index: int) -> ReadStretches:
        with self._opened(sample) as (video, part):
            self._lost_share(video)  # what is mostly lost need not be decoded
            info = video.info
            spans: list[tuple[float | None, float | None]] = [(sample.start_seconds, sample.end_seconds)]
            pieces, parts = 1, [part]
            if self._every_seconds is not None:
                if info.duration_seconds / self._every_seconds > _MOST_STRETCHES:
                    raise VideoError(
                        f"{video.name} lasts {info.duration_seconds:.0f} s, too long for stretches this short"
                    )
                every = list(window_spans(info.duration_seconds, self._every_seconds, self._every_seconds))
                pieces, first = -(-len(every) // STRETCHES_AT_A_TIME), index // len(self) * STRETCHES_AT_A_TIME
                chosen = every[first : first + STRETCHES_AT_A_TIME]
                parts = [shown_part(info.pts_seconds, info.duration_seconds, *span) for span in chosen]
                spans = [*chosen]
            read = self._reader.read(video, parts).pixels.flatten(0, 1)
            lost = self._lost_share(video)  # some damage shows only in the pictures
            info = video.info
        pixels = torch.cat([read, read.new_zeros(self.clip_shape[0] - len(read), *read.shape[1:])])
        damage = DamagedFile(sample.path, sample.where, lost, index % len(self)) if lost else None
        return ReadStretches(
            pixels,
            sample.label,
            index,
            self.statistics,
            damage,
            spans=tuple(spans),
            pieces=pieces,
            duration_seconds=info.duration_seconds,
            lost_frames=info.lost_frames,
        )


ReadOne = Callable[[StretchDataset, int], Item | BadFile]
"""What stands for `dataset[index]` in the process that encodes."""


class StretchReader:
    """Reads items of a data set batch by batch, in worker processes (which may crash) or, with `workers` 0, in this one.

    `read_one` stands for `dataset[index]` in this process.
    """

    def __init__(
        self,
        dataset: StretchDataset,
        *,
        batch_size: int,
        workers: int,
        file_seconds: float,
        read_one: ReadOne | None = None,
    ) -> None:
        self._dataset, self._batch_size, self._read_one = dataset, batch_size, read_one
        slots = 2 * batch_size + 2 * workers
        self._readers = Readers(dataset, workers=workers, slots=slots, file_seconds=file_seconds) if workers else None

    def read(self, batches: Iterable[Sequence[int]]) -> Iterator[list[Item | BadFile]]:
        """The items of each batch of indices, in order; pixels are to be used before the next batch is asked for."""
        if self._readers is not None:
            return self._readers.read([[int(index) for index in batch] for batch in batches])
        return ([self._one(int(index)) for index in batch] for batch in batches)

    def read_flat(self, indices: Sequence[int]) -> Iterator[list[Item | BadFile]]:
        """The items of these indices, in batches of the size that was given."""
        starts = range(0, len(indices), self._batch_size)
        return self.read([indices[start : start + self._batch_size] for start in starts])

    def _one(self, index: int) -> Item | BadFile:
        return self._dataset[index] if self._read_one is None else self._read_one(self._dataset, index)

    def close(self) -> None:
        """End the workers."""
        if self._readers is not None:
            self._readers.close()

"""A data set becomes batches: workers, shares of processes, and what becomes of files that cannot be read."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

import torch

from m2clip.data.dataset import BadFile, Batch, Item, VideoDataset
from m2clip.data.order import MIXED_SHARDS, BatchOrder
from m2clip.data.readers import FILE_SECONDS, Readers, Start
from m2clip.data.transforms import PixelStatistics


def collate(
    items: Sequence[Item | BadFile], *, clip_shape: tuple[int, ...], statistics: PixelStatistics, pin: bool = False
) -> Batch:
    """Items -> one batch; bad files are set apart, in the order of the items. `pin`: in page-locked memory, for a GPU."""
    good = [item for item in items if isinstance(item, Item)]
    pixels = torch.empty(len(good), *clip_shape, dtype=torch.uint8, pin_memory=pin)
    if good:
        torch.stack([item.pixels for item in good], out=pixels)
    return Batch(
        pixels=pixels,
        labels=torch.tensor([item.label for item in good], dtype=torch.int64, pin_memory=pin),
        indices=torch.tensor([item.index for item in good], dtype=torch.int64),
        bad=tuple(item for item in items if isinstance(item, BadFile)),
        statistics=statistics,
        damaged=tuple(item.damage for item in good if item.damage),
    )


class VideoLoader:
    """Batches of a data set, epoch after epoch; its workers live from the first one to `close`.

    A worker that crashes on a file, or that one keeps busy for more than `file_seconds`, costs that file, which becomes a BadFile;
    all batches are else as they would have been. Without workers nothing stands between a crash and this process.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        batches: BatchOrder,
        *,
        workers: int,
        slots: int,
        file_seconds: float,
        known_bad: Sequence[BadFile],
        context: Start | None,
    ) -> None:
        self.dataset, self._batches = dataset, batches
        self._readers = (
            Readers(
                dataset,
                workers=workers,
                slots=slots,
                file_seconds=file_seconds,
                known_bad=known_bad,
                start=context,
            )
            if workers
            else None
        )
        self._pin = torch.cuda.is_available()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return self.after(0)

    def after(self, done: int) -> Iterator[Batch]:
        """The batches of the epoch that are left when `done` of them are; nothing is read of these."""
        batches = self._batches.after(done)
        if self._readers is None:
            read: Iterator[list[Item | BadFile]] = ([self.dataset[i] for i in indices] for indices in batches)
        else:
            read = self._readers.read(batches)
        with closing(read) as read:  # type: ignore[type-var]
            for items in read:
                yield collate(
                    items, clip_shape=self.dataset.clip_shape, statistics=self.dataset.statistics, pin=self._pin
                )

    def close(self) -> None:
        """End the workers."""
        if self._readers is not None:
            self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_loader(
    dataset: VideoDataset,
    *,
    batch_size: int,
    workers: int = 0,
    shuffle: bool = False,
    parts: int = 1,
    rank: int = 0,
    world_size: int = 1,
    context: Start | None = None,
    file_seconds: float = FILE_SECONDS,
    known_bad: Sequence[BadFile] = (),
    mixed_shards: int = MIXED_SHARDS,
) -> VideoLoader:
    """Batches of this process.

    `shuffle`: an order for each epoch; `batch_size` counts over all processes and each batch comes in `parts` pieces; every
    process gets equally many. Otherwise the manifest's order; `batch_size` counts in this process, and each sample belongs to
    exactly one process, so none is counted twice. `context`: how workers start (None: as the platform does). `file_seconds`:
    how long a file may keep its worker busy while batches are waited for. `known_bad`: as of `Readers`. `mixed_shards`: as of
    `epoch_batches`.
    """
    batches = BatchOrder(
        dataset, batch_size=batch_size, parts=parts, shuffle=shuffle, rank=rank, world_size=world_size, mixed_shards=mixed_shards
    )  # fmt: skip
    own = min(-(-batch_size // world_size) if shuffle else batch_size, max(1, len(dataset)))
    # Two steps are under way, one being used and one being read; two more samples keep each worker busy at their seams.
    slots = 2 * own + 2 * workers
    return VideoLoader(
        dataset,
        batches,
        workers=workers,
        slots=slots,
        file_seconds=file_seconds,
        known_bad=known_bad,
        context=context,
    )

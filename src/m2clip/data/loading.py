"""A data set becomes batches: workers, shares of processes, and what becomes of files that cannot be read."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from m2clip.data.dataset import BadFile, Batch, Item, VideoDataset
from m2clip.data.order import BatchOrder
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import VideoError


def collate(items: Sequence[Item | BadFile], *, clip_shape: tuple[int, ...], statistics: PixelStatistics) -> Batch:
    """Items -> one batch; bad files are set apart, in the order of the items."""
    good = [item for item in items if isinstance(item, Item)]
    return Batch(
        pixels=torch.stack([item.pixels for item in good]) if good else torch.empty(0, *clip_shape, dtype=torch.uint8),
        labels=torch.tensor([item.label for item in good], dtype=torch.int64),
        indices=torch.tensor([item.index for item in good], dtype=torch.int64),
        bad=tuple(item for item in items if isinstance(item, BadFile)),
        statistics=statistics,
    )


def make_loader(
    dataset: VideoDataset,
    *,
    batch_size: int,
    workers: int = 0,
    shuffle: bool = False,
    parts: int = 1,
    rank: int = 0,
    world_size: int = 1,
    context: Literal["fork", "spawn", "forkserver"] | None = None,
) -> DataLoader[Any]:
    """Batches of this process.

    `shuffle`: an order for each epoch; `batch_size` counts over all processes and each batch comes in `parts` pieces; every
    process gets equally many. Otherwise the manifest's order; `batch_size` counts in this process, and each sample belongs to
    exactly one process, so none is counted twice. `context`: how workers start (None: as the platform does).
    """
    batches = BatchOrder(dataset, batch_size=batch_size, parts=parts, shuffle=shuffle, rank=rank, world_size=world_size)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=partial(collate, clip_shape=dataset.clip_shape, statistics=dataset.statistics),
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own: a loader would draw from the global one, how often depends on the workers
    )


class BadFiles:
    """What becomes of files that cannot be read: `policy` "skip" tells each one once, "stop" makes the first a VideoError."""

    def __init__(self, *, policy: Literal["skip", "stop"], tell: Callable[[str], None]) -> None:
        self._policy, self._tell = policy, tell
        self._told: set[str] = set()

    def note(self, bad: Sequence[BadFile]) -> None:
        """Take in the bad files of a batch."""
        for file in bad:
            where = f"{file.reason} (listed at {file.where})"
            if self._policy == "stop":
                raise VideoError(f"{where}; to go on without such files set data.on_bad_file=skip")
            self.tell_once(f"skipped: {where}")

    def tell_once(self, sentence: str) -> None:
        """Pass a sentence on, the first time that it comes."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)

"""The order in which an epoch takes the samples, and each process's share of it."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from m2clip.data.dataset import VideoDataset


def epoch_batches(count: int, *, batch_size: int, parts: int = 1, seed: int, epoch: int) -> list[np.ndarray]:
    """Indices of an epoch's batches over all processes: every sample once, in an order that (seed, epoch) decide.

    Batches are as even as they can be, so that none is tiny: 33 samples at batch_size 32 become 17 + 16. Each batch is cut
    into `parts` for accumulation; the list has parts * ceil(count / batch_size) entries.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    batches = np.array_split(order, -(-count // batch_size))
    return [part for batch in batches for part in np.array_split(batch, parts)]


class BatchOrder(Sampler[list[int]]):
    """This process's share of each batch; in training all processes have equally many batches (some may be empty)."""

    def __init__(
        self, dataset: VideoDataset, *, batch_size: int, parts: int, shuffle: bool, rank: int, world_size: int
    ) -> None:
        self._dataset = dataset
        self._batch_size, self._parts, self._shuffle = batch_size, parts, shuffle
        self._rank, self._world_size = rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        count, rank, world_size = len(self._dataset), self._rank, self._world_size
        if self._shuffle:
            seed, epoch = self._dataset.seed, self._dataset.epoch
            for part in epoch_batches(count, batch_size=self._batch_size, parts=self._parts, seed=seed, epoch=epoch):
                yield part[rank::world_size].tolist()
        else:
            own = list(range(rank, count, world_size))
            for start in range(0, len(own), self._batch_size):
                yield own[start : start + self._batch_size]

    def __len__(self) -> int:
        count = len(self._dataset)
        if self._shuffle:
            return self._parts * -(-count // self._batch_size)
        return -(-len(range(self._rank, count, self._world_size)) // self._batch_size)

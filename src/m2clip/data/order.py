"""The order in which an epoch takes the samples, and each process's share of it."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from m2clip.data.dataset import VideoDataset
from m2clip.data.shards.ahead import fetched_ahead
from m2clip.data.shards.members import ShardPlaces, fetched_shards

MIXED_SHARDS = 4


def epoch_batches(
    count: int,
    *,
    batch_size: int,
    parts: int = 1,
    seed: int,
    epoch: int,
    shards: np.ndarray | None = None,
    mixed_shards: int = MIXED_SHARDS,
) -> list[np.ndarray]:
    """Indices of an epoch's batches over all processes: every sample once, in an order that (seed, epoch) decide.

    Batches are as even as they can be, so that none is tiny: 33 samples at batch_size 32 become 17 + 16. Each batch is cut
    into `parts` for accumulation; the list has parts * ceil(count / batch_size) entries. Where samples lie in `shards` that are
    fetched (whole numbers [count]), about `mixed_shards` of them are in use at a time.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(count) if shards is None else _shard_by_shard(shards, mixed_shards, rng)
    batches = np.array_split(order, -(-count // batch_size))
    return [part for batch in batches for part in np.array_split(batch, parts)]


def _shard_by_shard(shards: np.ndarray, mixed_shards: int, rng: np.random.Generator) -> np.ndarray:
    """An order in which shards come one after another, shuffled, and each one's samples are spread over `mixed_shards` places.

    The samples of the r-th shard fall anywhere between r and r + mixed_shards. So a shard comes in and another one goes out now
    and then, and at no time are samples of more than mixed_shards + 1 shards still to come from shards that have begun.
    """
    numbers, shard_of = np.unique(shards, return_inverse=True)
    rank = rng.permutation(len(numbers))
    return np.argsort(rank[shard_of] + mixed_shards * rng.random(len(shards)), kind="stable")


class BatchOrder(Sampler[list[int]]):
    """This process's share of each batch; in training all processes have equally many batches (some may be empty)."""

    def __init__(
        self,
        dataset: VideoDataset,
        *,
        batch_size: int,
        parts: int,
        shuffle: bool,
        rank: int,
        world_size: int,
        mixed_shards: int = MIXED_SHARDS,
    ) -> None:
        self._dataset = dataset
        self._batch_size, self._parts, self._shuffle = batch_size, parts, shuffle
        self._rank, self._world_size = rank, world_size
        self._mixed_shards = mixed_shards

    def __iter__(self) -> Iterator[list[int]]:
        return self.after(0)

    def after(self, done: int) -> Iterator[list[int]]:
        """The batches of the epoch that are left when `done` of them are."""
        places = fetched_shards(self._dataset.manifest.samples.places)
        batches = self._shares(places)[done:]
        for batch in batches if places is None else fetched_ahead(batches, places):
            yield batch.tolist()

    def __len__(self) -> int:
        count = len(self._dataset)
        if self._shuffle:
            return self._parts * -(-count // self._batch_size)
        return -(-len(range(self._rank, count, self._world_size)) // self._batch_size)

    def _shares(self, places: ShardPlaces | None) -> list[np.ndarray]:
        count = len(self._dataset)
        if not self._shuffle:
            own = np.arange(self._rank, count, self._world_size)
            return [own[start : start + self._batch_size] for start in range(0, len(own), self._batch_size)]
        batches = epoch_batches(
            count,
            batch_size=self._batch_size,
            parts=self._parts,
            seed=self._dataset.seed,
            epoch=self._dataset.epoch,
            shards=None if places is None else places.numbers,
            mixed_shards=self._mixed_shards,
        )
        return [batch[self._rank :: self._world_size] for batch in batches]

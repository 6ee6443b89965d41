"""The order of an epoch: every sample once, the same for any number of processes, and few shards at a time where they are fetched."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.data.dataset import VideoDataset
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.order import BatchOrder, epoch_batches
from m2clip.data.samples import Samples
from m2clip.data.shards.members import Shard, ShardPlaces

SETTINGS = {"frames": 4, "size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "seed": 3}


def of_files(count: int) -> VideoDataset:
    samples = tuple(Sample(Path(f"{n}.mp4"), 0) for n in range(count))
    return VideoDataset(Manifest(samples, ("one",), (), "list.txt", "0" * 64), train=True, **SETTINGS)  # type: ignore[arg-type]


def of_shards(numbers: list[int], *, root: str) -> VideoDataset:
    """A sample a number, which says its shard."""
    count = len(numbers)
    places = ShardPlaces(
        [Shard(f"{root}/{n}.tar") for n in range(max(numbers) + 1)],
        numbers=np.array(numbers),
        names=pa.chunked_array([[f"{n}.mp4" for n in range(count)]]),
        offsets=np.zeros(count, np.int64),
        sizes=np.zeros(count, np.int64),
    )
    samples = Samples(places, np.zeros(count, np.int64))
    return VideoDataset(Manifest(samples, ("one",), (), root, "0" * 64), train=True, **SETTINGS)  # type: ignore[arg-type]


def order_of(
    dataset: VideoDataset, *, shuffle: bool, world_size: int, parts: int = 1, batch_size: int
) -> list[list[list[int]]]:
    """[rank][batch]: the samples."""
    found = []
    for rank in range(world_size):
        batches = BatchOrder(
            dataset, batch_size=batch_size, parts=parts, shuffle=shuffle, rank=rank, world_size=world_size
        )
        found.append(list(batches))
        assert len(found[-1]) == len(batches)
    return found


@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 12), parts=st.integers(1, 3), world_size=st.integers(1, 4),
    shuffle=st.booleans(),
)  # fmt: skip
def test_every_sample_exactly_once(count: int, batch_size: int, parts: int, world_size: int, shuffle: bool) -> None:
    shares = order_of(of_files(count), shuffle=shuffle, world_size=world_size, parts=parts, batch_size=batch_size)
    assert sorted(n for share in shares for batch in share for n in batch) == list(range(count))
    if shuffle:
        assert len({len(share) for share in shares}) == 1  # equally many steps everywhere
        alone = epoch_batches(count, batch_size=batch_size, parts=parts, seed=3, epoch=0)
        assert len(alone) == parts * -(-count // batch_size)
        for part, together in zip(alone, zip(*shares, strict=True), strict=True):
            assert sorted(part) == sorted(n for share in together for n in share)


def test_no_batch_is_tiny() -> None:
    sizes = [len(batch) for batch in epoch_batches(33, batch_size=32, seed=0, epoch=0)]
    assert sizes == [17, 16]
    one, other = (epoch_batches(33, batch_size=32, seed=0, epoch=epoch)[0].tolist() for epoch in (0, 1))
    assert one != other


@given(numbers=st.lists(st.integers(0, 9), min_size=1, max_size=60), mixed=st.integers(1, 6), epoch=st.integers(0, 5))
def test_shard_by_shard_takes_every_sample_once_and_holds_few_shards(
    numbers: list[int], mixed: int, epoch: int
) -> None:
    shards = np.array(numbers)
    batches = epoch_batches(len(shards), batch_size=7, seed=1, epoch=epoch, shards=shards, mixed_shards=mixed)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(shards)))
    taken = shards[order]
    for position in range(len(taken)):  # shards that have begun and will come again
        assert len(set(taken[: position + 1]) & set(taken[position:])) <= mixed + 1


def test_shards_are_mixed_and_shuffled_anew_each_epoch() -> None:
    shards = np.repeat(np.arange(20), 50)
    orders = [
        np.concatenate(epoch_batches(1000, batch_size=1000, seed=0, epoch=epoch, shards=shards, mixed_shards=4))
        for epoch in (0, 0, 1)
    ]
    assert orders[0].tolist() == orders[1].tolist() != orders[2].tolist()
    first = [shards[order][:100] for order in (orders[0], orders[2])]
    assert set(first[0]) != set(first[1])
    changes = np.count_nonzero(np.diff(shards[orders[0]]))
    assert changes > 500  # of 999 neighbours: shards are not taken one after the other
    assert len(set(shards[orders[0]][480:520])) >= 4


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("numbers", [[0], [0, 0, 0, 0, 0], [0, 1, 1, 2, 2, 2, 0]])
def test_fewer_shards_than_processes(monkeypatch: pytest.MonkeyPatch, numbers: list[int], world_size: int) -> None:
    monkeypatch.setattr("m2clip.data.order.fetched_ahead", lambda batches, places: iter(batches))
    dataset = of_shards(numbers, root="https://host.example")
    for shuffle in (True, False):
        shares = order_of(dataset, shuffle=shuffle, world_size=world_size, batch_size=2)
        assert sorted(n for share in shares for batch in share for n in batch) == list(range(len(numbers)))


def test_shards_on_this_machine_are_taken_like_files() -> None:
    """The same seed gives the same batches from files and from the shards that were made of them."""
    for shuffle in (True, False):
        files = order_of(of_files(30), shuffle=shuffle, world_size=2, batch_size=4)
        shards = order_of(
            of_shards([n // 7 for n in range(30)], root="folder"), shuffle=shuffle, world_size=2, batch_size=4
        )
        assert files == shards


def test_shards_that_are_fetched_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class File:
        def close(self) -> None:
            pass

    def opened(path: str, *, sha256: str) -> File:
        asked.append(path.rpartition("/")[2])
        return File()

    monkeypatch.setattr("m2clip.data.shards.ahead.open_shard", opened)
    dataset = of_shards([n // 10 for n in range(60)], root="https://host.example")
    for batch in BatchOrder(dataset, batch_size=5, parts=1, shuffle=True, rank=0, world_size=1, mixed_shards=1):
        assert {f"{n // 10}.tar" for n in batch} <= set(asked)
    assert len(asked) == 6


@given(count=st.integers(1, 40), batch_size=st.integers(1, 12), parts=st.integers(1, 3), done=st.integers(0, 50))
def test_what_is_left_of_an_epoch_is_its_end(count: int, batch_size: int, parts: int, done: int) -> None:
    for shuffle in (True, False):
        order = BatchOrder(of_files(count), batch_size=batch_size, parts=parts, shuffle=shuffle, rank=1, world_size=2)
        assert list(order.after(done)) == list(order)[done:]

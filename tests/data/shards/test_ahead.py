"""Shards are fetched before they are needed, a little ahead, and whatever becomes of one, batches go on."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from m2clip.data.shards.ahead import fetched_ahead
from m2clip.data.shards.members import Shard, ShardPlaces
from m2clip.errors import VideoError


def places(numbers: list[int]) -> ShardPlaces:
    count = len(numbers)
    return ShardPlaces(
        [Shard(f"https://host.example/{n}.tar", 1, f"sum{n}") for n in range(max(numbers) + 1)],
        numbers=np.array(numbers),
        names=pa.chunked_array([[f"{n}.mp4" for n in range(count)]]),
        offsets=np.zeros(count, np.int64),
        sizes=np.zeros(count, np.int64),
    )


class Shards:
    """Stands for `open_shard`: notes who was asked for, and fails for those that are to fail."""

    def __init__(self, *, bad: tuple[str, ...] = (), error: Exception | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.threads: set[threading.Thread] = set()
        self.fourth = threading.Event()
        self._bad, self._error = bad, error or VideoError("no such shard")

    def __call__(self, path: str, *, sha256: str) -> "Shards":
        name = path.rpartition("/")[2]
        self.threads.add(threading.current_thread())
        self.asked.append((name, sha256))
        if len(self.asked) == 4:
            self.fourth.set()
        if name in self._bad:
            raise self._error
        return self

    def close(self) -> None:
        """As of a file."""


def test_in_the_order_of_need_and_one_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards()
    monkeypatch.setattr("m2clip.data.shards.ahead.open_shard", shards)
    batches = [np.array([5, 4]), np.array([], np.int64), np.array([0, 5]), np.array([2])]
    met = []
    for batch in fetched_ahead(batches, places([0, 0, 1, 1, 2, 3])):
        # a batch's own shards are here, and not more than one of those that only later batches need
        needed = {"3.tar", "2.tar"} | ({"0.tar"} if len(met) >= 2 else set()) | ({"1.tar"} if len(met) == 3 else set())
        asked = {name for name, _ in shards.asked}
        assert needed <= asked
        assert len(asked - needed) <= 1
        met.append(batch.tolist())
    assert met == [[5, 4], [], [0, 5], [2]]
    assert shards.asked == [("3.tar", "sum3"), ("2.tar", "sum2"), ("0.tar", "sum0"), ("1.tar", "sum1")]


@pytest.mark.parametrize(
    "error", [VideoError("gone"), OSError(28, "No space left on device"), KeyError("a fault of ours")]
)
def test_batches_go_on_without_a_shard(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("m2clip.data.shards.ahead.open_shard", Shards(bad=("0.tar", "2.tar"), error=error))
    batches = [np.array([n]) for n in range(4)]
    assert [batch.tolist() for batch in fetched_ahead(batches, places([0, 1, 2, 3]))] == [[0], [1], [2], [3]]


def test_the_thread_ends_with_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards()
    monkeypatch.setattr("m2clip.data.shards.ahead.open_shard", shards)
    batches = fetched_ahead([np.array([n]) for n in range(9)], places(list(range(9))))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    (thread,) = shards.threads
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert len(shards.asked) <= 2
    assert list(fetched_ahead([], places([0]))) == []

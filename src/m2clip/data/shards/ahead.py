"""Fetching shards in the background: batches come when the shards that they need are on this machine, and the next one is on its way."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from m2clip.data.shards.members import ShardPlaces, open_shard

_AHEAD = 1  # shards that are fetched before they are needed


def fetched_ahead(batches: Sequence[np.ndarray], places: ShardPlaces) -> Iterator[np.ndarray]:
    """Give out batches (whole numbers, which samples) one by one, each when its shards were asked for.

    Whatever a shard's server does, batches go on: who reads a sample of a shard that could not be fetched is told so. A worker
    that met such a shard by itself would seem to hang on one file.
    """
    numbers, first = np.unique(
        places.numbers[np.concatenate([*batches, np.empty(0, np.int64)]).astype(np.int64)], return_index=True
    )
    line = numbers[np.argsort(first)]  # in the order in which they are needed
    rank_of = {int(number): rank for rank, number in enumerate(line)}
    state = _State()
    threading.Thread(target=_fetch_all, args=(line, places, state), daemon=True).start()
    try:
        for batch in batches:
            needed = max((rank_of[int(number)] for number in np.unique(places.numbers[batch])), default=-1)
            with state.changed:
                state.needed = max(state.needed, needed)
                state.changed.notify_all()
                while state.asked <= state.needed:
                    state.changed.wait()
            yield batch
    finally:
        with state.changed:
            state.over = True
            state.changed.notify_all()


class _State:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.needed = -1
        """The last shard, in their order, that a batch needs."""
        self.asked = 0
        """How many shards are here, or cannot be had."""
        self.over = False


def _fetch_all(line: np.ndarray, places: ShardPlaces, state: _State) -> None:
    try:
        for rank, number in enumerate(line):
            with state.changed:
                while not state.over and rank > state.needed + _AHEAD:
                    state.changed.wait()
                if state.over:
                    return
            shard = places.shards[number]
            with suppress(Exception):  # whoever reads a sample of it meets the same, and tells it
                open_shard(shard.path, sha256=shard.sha256).close()
            with state.changed:
                state.asked = rank + 1
                state.changed.notify_all()
    finally:
        with state.changed:
            state.asked = len(line)  # nobody waits for a thread that is gone
            state.changed.notify_all()

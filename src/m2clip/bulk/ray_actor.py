"""The actors of bulk work on Ray: those that read and encode, and the one that knows what each was at when it died."""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Timer
from typing import Any

import numpy as np
import pyarrow as pa

from m2clip.bulk.batches import BatchResult, Reading, results
from m2clip.bulk.ray_messages import asked_rows, packed
from m2clip.bulk.stretches import StretchDataset
from m2clip.bulk.work import Work
from m2clip.data.dataset import BadFile, Item
from m2clip.errors import M2CLIPError

NAMESPACE = "m2clip"
_MOST_DEATHS = 2  # of processes at one video, before it is the video
_MOST_LOADS = 4  # for each actor, before it is the loading
_ENCODING = -1
_TELL_SECONDS = 10.0
_CANNOT_LOAD = (
    "each process that loads the model is killed, as happens where memory runs out: take fewer workers or more memory"
)


@dataclass
class _Attempts:
    """At one block of videos."""

    count: int = 0
    at: int | None = None
    """The video that is being read, or _ENCODING; None: nobody has said."""
    deaths: Counter[int] = field(default_factory=Counter)
    given_up: dict[int, str] = field(default_factory=dict)
    """Videos that are not to be read again, and why."""


class Coordinator:
    """Lives as long as the driver: holds what all actors need, and counts which video their deaths fell on.

    Ray gives a block whose actor died to another one, again and again. The first attempt at a block tells nothing of itself. From the
    second on the actor says before each video that it begins it, so that one which ends its process twice is known and left out.
    """

    def __init__(self, shared: list[Any], *, actors: int) -> None:
        self._shared = shared
        self._loading, self._most_loading = 0, _MOST_LOADS * actors
        self._blocks: dict[int, _Attempts] = {}

    def shared(self) -> list[Any]:
        """References to the work, the list and the starts of batches."""
        return self._shared

    def begin_loading(self) -> bool:
        """Whether one more process may load the model: not where so many have begun, one after another's death, and none has ended."""
        self._loading += 1
        return self._loading <= self._most_loading

    def end_loading(self) -> None:
        """A process has loaded the model."""
        self._loading = 0

    def begin(self, block: int) -> tuple[int, dict[int, str], bool]:
        """How many attempts there are with this one, what is not to be read, and whether encoding ends each process."""
        attempts = self._blocks.setdefault(block, _Attempts())
        if attempts.at is not None:
            attempts.deaths[attempts.at] += 1
            if attempts.at != _ENCODING and attempts.deaths[attempts.at] >= _MOST_DEATHS:
                attempts.given_up[attempts.at] = (
                    "the process that read {path} was killed twice, as happens where memory runs out"
                )
        attempts.at, attempts.count = None, attempts.count + 1
        return attempts.count, attempts.given_up, attempts.deaths[_ENCODING] >= _MOST_DEATHS

    def at(self, block: int, number: int) -> None:
        """The video of this number is begun; or, with _ENCODING, those that have been read."""
        self._blocks[block].at = number

    def give_up(self, block: int, number: int, reason: str) -> None:
        """Never read the video of this number again."""
        self._blocks[block].given_up[number] = reason

    def end(self, block: int) -> None:
        """The block is done."""
        self._blocks.pop(block, None)


class BatchActor:
    """Keeps the model, and makes of each block of numbers the rows of its videos: pa.Table {block} -> pa.Table {result}."""

    def __init__(self, coordinator: str, reading: Reading, batches_a_block: int, device: str, compiled: bool) -> None:
        import ray
        import torch

        torch.set_num_threads(1)  # it has one processor, whatever the environment says
        self._get: Any = ray.get
        self._coordinator = ray.get_actor(coordinator, namespace=NAMESPACE)
        allowed: Any = self._coordinator.begin_loading.remote()
        self._may_load: bool = self._get(allowed)
        if not self._may_load:
            return
        shared: list[Any] = self._get(self._get(self._coordinator.shared.remote()))
        self._work: Work = shared[0]
        self._asked: pa.Table = shared[1]
        self._starts: np.ndarray = shared[2]
        self._work.recognizer.model.to(torch.device(device))
        if compiled:
            self._work.recognizer.compile()
        self._reading: Reading = reading
        self._batches_a_block: int = batches_a_block
        self._get(self._coordinator.end_loading.remote())

    def __call__(self, blocks: pa.Table) -> pa.Table:
        """The packed results of these blocks; an error that ends the run stands in place of them."""
        if not self._may_load:
            return _answer([None], [_CANNOT_LOAD])
        try:
            found = [one for block in blocks.column("block").to_pylist() for one in self._results(block)]
            return _answer(found, [None] * len(found))
        except M2CLIPError as failure:
            return _answer([None], [str(failure)])

    def _results(self, block: int) -> list[bytes]:
        starts = self._starts[block * self._batches_a_block :][: self._batches_a_block + 1]
        first, last = int(starts[0]), int(starts[-1])
        asked = asked_rows(self._asked.slice(first, last - first))
        begun: tuple[int, dict[int, str], bool] = self._get(self._coordinator.begin.remote(block))
        count, given_up, no_encoding = begun
        if no_encoding:
            reason = "the process that encoded {path}, and others with it, was killed twice, as happens where memory runs out"
            given_up = {number: given_up.get(number, reason) for number in range(first, last)}
        read_one = partial(self._read, block=block, first=first, given_up=given_up, tell=count > 1)
        batches = [range(a - first, b - first) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
        found: list[BatchResult] = list(results(self._work, asked, batches, self._reading, read_one=read_one))
        self._get(self._coordinator.end.remote(block))
        return [packed(result, first=first) for result in found]

    def _read(
        self, dataset: StretchDataset, index: int, *, block: int, first: int, given_up: dict[int, str], tell: bool
    ) -> Item | BadFile:
        """The item of this index; a file that keeps its reader for too long ends this process, and is not read again."""
        number, sample = first + index % len(dataset), dataset.sample(index)
        if number in given_up:
            return BadFile(
                sample.path, sample.where, given_up[number].replace("{path}", str(sample.path)), index, crashed=True
            )
        if tell:
            self._get(self._coordinator.at.remote(block, number))
        timer = Timer(self._reading.file_seconds, self._too_slow, [block, number])
        timer.start()
        try:
            return dataset[index]
        finally:
            timer.cancel()
            if tell:
                self._get(self._coordinator.at.remote(block, _ENCODING))

    def _too_slow(self, block: int, number: int) -> None:
        reason = "{path} took longer than " + f"{self._reading.file_seconds:g} s to read"
        try:
            self._get(self._coordinator.give_up.remote(block, number, reason), timeout=_TELL_SECONDS)
        finally:  # where nobody has heard it, this counts as a death like any other
            os.kill(os.getpid(), signal.SIGKILL)  # what hangs in the decoder listens to nothing else


def _answer(results: Sequence[bytes | None], errors: Sequence[str | None]) -> pa.Table:
    return pa.table({"result": pa.array(results, pa.large_binary()), "error": pa.array(errors, pa.string())})

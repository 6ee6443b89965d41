"""Samples are read by several processes, so that a crash or a hang of one costs the sample that it reads and nothing else.

Torch's DataLoader ends the run when one of its workers dies, in the middle of whatever the main process does. Here each worker has a
pipe of its own and takes its samples in order, so the main process knows which one a dead worker was at: it is named as a bad
file, another worker takes the dead one's place, and all others go on. Pixels lie in memory that all share; what a worker finished
before its death is not lost.
"""

import mmap
import multiprocessing
import os
import shutil
import signal
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Literal

import torch

from m2clip.data.dataset import BadFile, Item, VideoDataset
from m2clip.data.workers import READY, Failure, Task, Worker, end_workers
from m2clip.errors import M2CLIPError

Start = Literal["fork", "spawn", "forkserver"]
FILE_SECONDS = 300.0  # by default; minutes, for a long film on a slow disk beside much else is not broken
_MOST_GIVEN = 200  # samples that one worker may have before it: their messages (50 bytes each) must fit into a pipe
_START_SECONDS = 600.0  # until a new worker has imported everything
_LOOK_SECONDS = 1.0  # between two looks at the clock
_MOST_CRASHES = 32  # without one good sample between them: then it is not the files
# How a process ends when somebody else ends it, mostly the system that ran out of memory: the file may be innocent.
_FROM_OUTSIDE = (-signal.SIGTERM, -9)  # Windows has no SIGKILL


class Readers:
    """`workers` processes that read the samples of a data set.

    `slots`: samples that may be read and not yet given out; at least as many as the largest batch. `file_seconds`: how long one
    sample may keep the main process waiting. `known_bad`: of an earlier pass over the same samples; those that crashed there are
    not read. `start`: how processes start (None: as the platform does).
    """

    def __init__(
        self,
        dataset: VideoDataset,
        *,
        workers: int,
        slots: int,
        file_seconds: float,
        known_bad: Iterable[BadFile] = (),
        start: Start | None = None,
    ) -> None:
        self._dataset, self._count, self._file_seconds = dataset, workers, file_seconds
        self._context = multiprocessing.get_context(start)
        self._shape = (slots, *dataset.clip_shape)
        self._crashed = {file.index: file for file in known_bad if file.crashed}  # never read again
        self._crashes = 0  # since the last good sample
        self._workers: list[Worker] = []
        self._reading = False

    def read(self, batches: Iterable[Sequence[int]]) -> Iterator[list[Item | BadFile]]:
        """The samples of each batch, in order. Their pixels are to be copied before the next batch is asked for.

        Raises M2CLIPError where workers cannot start or one file after another kills them.
        """
        if self._reading:
            raise RuntimeError("these samples are being read already; end that pass first")
        coming = iter(batches)
        open_batches: deque[list[Task]] = deque()
        waiting: deque[Task] = deque()  # for a slot or a worker
        done, self._reading = False, True
        try:
            if not self._workers:
                self._begin()
            while True:
                self._hand_out(coming, open_batches, waiting)
                if not open_batches:
                    done = True
                    return
                batch = open_batches[0]
                while any(task.outcome is None for task in batch):
                    self._receive(waiting)
                    self._hand_out(coming, open_batches, waiting)
                yield [task.outcome for task in batch if task.outcome is not None]
                self._free += [task.slot for task in batch if task.slot >= 0]
                open_batches.popleft()
        finally:
            self._reading = False
            if not done:  # what is under way belongs to no later pass
                self.close()

    def close(self) -> None:
        """End the processes and give the shared memory back; another `read` begins anew."""
        if self._workers:
            self._end()
            self._workers = []
            del self._slots  # views of it may live on in batches that are being made

    def _begin(self) -> None:
        size = (
            torch.Size(self._shape).numel() + 2 * mmap.PAGESIZE
        )  # pixels up to a page's end, and a page for the sign to stop
        room = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else size
        if size > room:
            raise M2CLIPError(
                f"the processes that read videos need {size / 2**20:.0f} MB of shared memory, but /dev/shm has {room / 2**20:.0f} MB "
                "free; make it larger (docker run --shm-size=2g), take a smaller batch, or set the workers to 0"
            )
        self._slots = torch.empty(self._shape, dtype=torch.uint8).share_memory_()
        self._free = list(range(len(self._slots)))
        self._stop = torch.zeros((), dtype=torch.uint8).share_memory_()
        workers: list[Worker] = []
        self._end = weakref.finalize(self, end_workers, workers, self._stop, os.getpid())
        self._workers = workers
        for _ in range(self._count):
            workers.append(self._new_worker())

    def _new_worker(self) -> Worker:
        return Worker.start(self._context, self._dataset, self._slots, self._stop)

    def _hand_out(self, coming: Iterator[Sequence[int]], open_batches: deque[list[Task]], waiting: deque[Task]) -> None:
        """Give samples to the workers that have least before them, as long as there are slots; batches are opened as needed."""
        while True:
            while not waiting:
                indices = next(coming, None) if self._free else None
                if indices is None:
                    return
                batch = [Task(index, outcome=self._crashed.get(index)) for index in indices]
                open_batches.append(batch)
                waiting += [task for task in batch if task.outcome is None]
            worker = min(self._workers, key=lambda worker: len(worker.given))
            task = waiting[0]
            if len(worker.given) >= _MOST_GIVEN or (task.slot < 0 and not self._free):
                return
            if task.slot < 0:
                task.slot = self._free.pop()
            try:
                worker.connection.send((task.index, task.slot, self._dataset.epoch))
            except OSError:  # it died while it had nothing to do, which the next look finds
                return
            worker.given.append(waiting.popleft())

    def _receive(self, waiting: deque[Task]) -> None:
        """Wait until something happens, and take it in."""
        began = time.monotonic()
        ready = set(wait([worker.connection for worker in self._workers], timeout=_LOOK_SECONDS))
        waited = min(time.monotonic() - began, _LOOK_SECONDS)  # not the night that a laptop slept
        for worker in list(self._workers):
            if worker.connection in ready:
                if not self._take_messages(worker):
                    self._replace(worker, waiting)
            elif worker.given or not worker.ready:
                worker.waited_seconds += waited
                if worker.waited_seconds > (self._file_seconds if worker.ready else _START_SECONDS):
                    worker.too_slow = True
                    worker.process.kill()  # the next look finds it dead

    def _take_messages(self, worker: Worker) -> bool:
        """Whether the worker lives on."""
        try:
            while worker.connection.poll():
                message = worker.connection.recv()
                worker.waited_seconds = 0.0
                if isinstance(message, Failure):
                    if message.kind is not None:
                        raise message.kind(message.text)
                    raise RuntimeError(f"a process that reads videos failed:\n{message.text}")
                if message == READY:
                    worker.ready = True
                    continue
                task = worker.given.popleft()
                if isinstance(message, Item):
                    message = replace(message, pixels=self._slots[task.slot])
                    self._crashes = 0
                task.outcome = message
        except (EOFError, OSError):
            return False
        return True

    def _replace(self, worker: Worker, waiting: deque[Task]) -> None:
        """Put another process in the place of a dead one; the sample that it was at is bad, what it had not begun is read again."""
        worker.process.join()
        code = worker.process.exitcode or 0
        worker.connection.close()
        if not worker.ready:
            what = "did not get ready" if worker.too_slow else f"ended ({_ending(code)}) before it was ready"
            raise M2CLIPError(
                f"a process that reads videos {what}; see above for its own words, or set the workers to 0, so that videos are read "
                "in the main process"
            )
        if worker.given:
            task = worker.given[0]
            if code in _FROM_OUTSIDE and not worker.too_slow and not task.killed_before:
                task.killed_before = True
            else:
                worker.given.popleft()
                task.outcome = self._crashed[task.index] = self._bad_file(task.index, worker, code)
                self._crashes += 1
        waiting.extendleft(reversed(worker.given))
        if self._crashes >= _MOST_CRASHES:
            raise M2CLIPError(
                f"{self._crashes} videos, one after another, each ended the process that read it, so it is not the videos; the last: "
                f"{task.outcome.reason}"  # type: ignore[union-attr]
            )
        self._workers[self._workers.index(worker)] = self._new_worker()

    def _bad_file(self, index: int, worker: Worker, code: int) -> BadFile:
        sample = self._dataset.sample(index)
        if worker.too_slow:
            reason = f"{sample.path} took longer than {self._file_seconds:g} s to read"
        elif code in _FROM_OUTSIDE:
            reason = f"the process that read {sample.path} was killed twice ({_ending(code)}), as happens where memory runs out"
        else:
            reason = f"the decoder crashed on {sample.path} ({_ending(code)})"
        return BadFile(sample.path, sample.where, reason, index, crashed=True)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"

"""A process that reads samples one after another into shared memory, and the means to start and end it.

It outlives neither its owner nor its use: it ends when the main process is gone, even in the middle of a hang, and leaves Ctrl-C to it.
"""

import gc
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

import torch
from torch import Tensor

from m2clip.apart import end_with_parent
from m2clip.data.dataset import BadFile, Item, VideoDataset
from m2clip.errors import M2CLIPError

READY = "ready"
_IN_ITS_SLOT = torch.empty(0)  # stands for the pixels in a message
_STOP_SECONDS = 2.0  # that a worker has to finish what it reads when all is over


@dataclass
class Task:
    """One sample of a batch on its way."""

    index: int
    slot: int = -1
    """Where its pixels are to lie; -1 until it is given out."""
    outcome: Item | BadFile | None = None
    killed_before: bool = False


@dataclass(frozen=True)
class Failure:
    """An error that no bad file explains, brought from a worker."""

    kind: type[M2CLIPError] | None
    """None: not one of ours, so `text` is a traceback."""
    text: str


@dataclass(eq=False)
class Worker:
    """A process, the pipe to it and what it was given, in order."""

    process: BaseProcess
    connection: Connection
    given: deque[Task] = field(default_factory=deque)
    ready: bool = False
    waited_seconds: float = 0.0
    """How long the main process has been waiting since the worker last finished something."""
    too_slow: bool = False

    @classmethod
    def start(cls, context: BaseContext, dataset: VideoDataset, slots: Tensor, stop: Tensor) -> "Worker":
        """A process that reads samples of `dataset` into `slots` [N, V, T, 3, H, W] until `stop` is 1."""
        ours, theirs = context.Pipe()
        process = context.Process(  # type: ignore[attr-defined]
            target=read_samples, args=(dataset, slots, theirs, stop), daemon=True
        )
        with _without_interrupts():
            process.start()
        theirs.close()  # now the worker alone holds it, and its death closes it
        return cls(process, ours)


def end_workers(workers: Sequence[Worker], stop: Tensor, owner: int) -> None:
    """End processes: those that are idle at once, those that read after the sample, those that hang after _STOP_SECONDS."""
    if os.getpid() != owner:  # a forked copy of the list
        return
    stop.fill_(1)
    for worker in workers:
        try:
            worker.connection.send(None)
        except OSError:
            continue
    deadline = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What starts here never sees Ctrl-C: it is the main process that ends its workers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def read_samples(dataset: VideoDataset, slots: Tensor, connection: Connection, stop: Tensor) -> None:
    """What a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):  # schedulers send it to all processes of a job, and the main one knows what it means
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what the main process does on it is not for a copy of it to do
    gc.freeze()  # what a forked process was born with is no garbage of its own, and to look at it would copy its pages
    torch.set_num_threads(1)  # a forked process must not enter the thread pool that it has a dead copy of
    end_with_parent()
    try:
        connection.send(READY)
        while (task := connection.recv()) is not None:
            if stop:
                return
            index, slot, epoch = task
            dataset.set_epoch(epoch)
            try:
                outcome = dataset[index]
            except M2CLIPError as error:
                connection.send(Failure(type(error), str(error)))
                return
            except Exception:
                connection.send(Failure(None, traceback.format_exc()))
                return
            if isinstance(outcome, Item):
                slots[slot].copy_(outcome.pixels)
                outcome = replace(outcome, pixels=_IN_ITS_SLOT)
            connection.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the main process is no more
        return

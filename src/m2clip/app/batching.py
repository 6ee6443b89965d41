"""One thread that runs the models: requests that wait together go through a model together."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from m2clip.app.limits import Busy, Limits
from m2clip.model.video_clip import VideoFeatures
from m2clip.recognizer import Recognizer

T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    """What one request wants of a model."""

    model: str
    strength: float
    clips: Tensor | None
    """uint8 [B, T, 3, H, W] to be encoded; None: `work` needs none."""
    work: Callable[[VideoFeatures | None], Any]
    """Run in the model's thread with the features of the clips."""
    result: "Future[Any]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    def goes_with(self, other: "_Job") -> bool:
        """Whether the two can be encoded together, whatever their labels are."""
        return (
            self.clips is not None
            and other.clips is not None
            and (self.model, self.strength, self.clips.shape[1:])
            == (other.model, other.strength, other.clips.shape[1:])
        )


class ModelThread:
    """Runs jobs in the order in which they come; clips of one model, strength and shape that wait are encoded together.

    A job whose caller is cancelled before it begins is dropped. Busy where `limits.most_waiting` jobs wait.
    """

    def __init__(self, models: Mapping[str, Recognizer], limits: Limits) -> None:
        self._models, self._limits = models, limits
        self.own_strengths = {name: recognizer.model.strength for name, recognizer in models.items()}
        """What each model has where a request names no strength."""
        self._jobs: deque[_Job] = deque()
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.batch_sizes: Callable[[int], None] = lambda clips: None
        """Told how many clips went through a model together."""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the job that runs, drop the others, end the thread."""
        with self._news:
            self._stopping = True
            for job in self._jobs:
                job.result.cancel()
            self._jobs.clear()
            self._news.notify()
        if self._thread.ident is not None:  # else it was never started
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._jobs)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    async def encode(
        self, model: str, clips: Tensor, work: Callable[[VideoFeatures], T], *, strength: float | None = None
    ) -> T:
        """Encode clips uint8 [B, T, 3, H, W], then run `work` on their features there."""
        return await self._add(model, clips, work, strength)  # type: ignore[arg-type]

    async def run(self, model: str, work: Callable[[], T], *, strength: float | None = None) -> T:
        """Run `work` alone."""
        return await self._add(model, None, lambda _: work(), strength)

    async def _add(
        self, model: str, clips: Tensor | None, work: Callable[[VideoFeatures | None], T], strength: float | None
    ) -> T:
        job = _Job(model, self.own_strengths[model] if strength is None else strength, clips, work)
        with self._news:
            if self._stopping or len(self._jobs) >= self._limits.most_waiting:
                raise Busy(f"{len(self._jobs)} requests wait for the model; try again in a moment")
            self._jobs.append(job)
            self._news.notify()
        return await asyncio.wrap_future(job.result)

    def _run(self) -> None:
        while batch := self._next_batch():
            wanted = [job for job in batch if job.result.set_running_or_notify_cancel()]
            if wanted:
                self._do(wanted)

    def _next_batch(self) -> list[_Job]:
        """Jobs that go together; empty when all is over."""
        with self._news:
            while not self._jobs:
                if self._stopping:
                    return []
                self._news.wait()
            first = self._jobs[0]
            until = first.arrived + self._limits.batch_wait_seconds
            while True:
                batch, clips = [first], 0 if first.clips is None else len(first.clips)
                for job in list(self._jobs)[1:]:
                    if first.goes_with(job) and clips + len(job.clips) <= self._limits.most_batch:  # type: ignore[arg-type]
                        batch.append(job)
                        clips += len(job.clips)  # type: ignore[arg-type]
                left = until - time.monotonic()
                if first.clips is None or clips >= self._limits.most_batch or left <= 0 or self._stopping:
                    break
                self._news.wait(left)
            for job in batch:
                if job in self._jobs:
                    self._jobs.remove(job)
            return batch

    def _do(self, batch: list[_Job]) -> None:
        recognizer = self._models[batch[0].model]
        try:
            if recognizer.model.strength != batch[0].strength:
                recognizer.model.set_strength(batch[0].strength)
            clips = [job.clips for job in batch if job.clips is not None]
            if clips:
                self.batch_sizes(sum(map(len, clips)))
                features: list[VideoFeatures | None] = [
                    *_split(recognizer.encode(torch.cat(clips)), list(map(len, clips)))
                ]
            else:
                features = [None]
        except BaseException as error:
            for job in batch:
                job.result.set_exception(error)
            return
        for job, own in zip(batch, features, strict=True):
            try:
                job.result.set_result(job.work(own))
            except BaseException as error:
                job.result.set_exception(error)


def _split(features: VideoFeatures, counts: list[int]) -> list[VideoFeatures]:
    logits = [None] * len(counts) if features.visual_logits is None else features.visual_logits.split(counts)
    return [
        VideoFeatures(*parts)
        for parts in zip(features.embedding.split(counts), features.frames.split(counts), logits, strict=True)
    ]

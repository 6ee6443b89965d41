"""What the server can do, for its HTTP API and its page alike: decode an upload, and answer questions about it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2clip.app.batching import ModelThread
from m2clip.app.decoding import DecodePool, ReadVideo
from m2clip.app.limits import Broken, Busy, LimitError, Limits, TooSlow
from m2clip.data.timeline_reader import WindowClips, WindowedFrames
from m2clip.errors import ConfigError, M2CLIPError
from m2clip.labels import Labels
from m2clip.model.video_clip import VideoFeatures
from m2clip.recognizer import Recognizer, mean_embedding
from m2clip.timeline import EncodedWindows, SharedFrames, Window
from m2clip.video_scores import VideoScores

if TYPE_CHECKING:
    from m2clip.explanations import Explanation
    from m2clip.search import Found, VideoIndex

_LOG = logging.getLogger(__name__)

__all__ = ["Busy", "LimitError", "Limits", "ReadVideo", "Service", "TooSlow"]


class Service:
    """Models that stay loaded, processes that decode, and an index to search. Its methods belong to one event loop.

    `models` by name, the first is the default; `labels` are those of a request that names none (None: the model's own classes).
    Everything that a request asks wrongly raises an M2CLIPError: LimitError where it is too large, Busy where too many wait,
    TooSlow where it takes longer than `limits.request_seconds`.
    """

    def __init__(
        self,
        models: Mapping[str, Recognizer],
        *,
        limits: Limits | None = None,
        index: "VideoIndex | None" = None,
        labels: Labels | None = None,
        workers: int = 1,
    ) -> None:
        if not models:
            raise ConfigError("there is no model to serve")
        self.models = dict(models)
        self.limits = limits or Limits()
        self.index, self.labels = index, labels
        self.pool = DecodePool(self.limits, workers=workers)
        self.thread = ModelThread(self.models, self.limits)
        self._started = False

    @property
    def default_model(self) -> str:
        """The name of the model that answers where none is named."""
        return next(iter(self.models))

    @property
    def ready(self) -> bool:
        """Whether requests can be answered: the models are loaded, their thread runs, a process can decode."""
        return self._started and self.thread.alive and self.pool.ready > 0

    async def start(self) -> None:
        """Start what works in the background: all of it, or, where M2CLIPError is raised, none."""
        if not self._started:
            # The processes first: where they do not start, nothing is left to be stopped.
            await self.pool.start()
            self.thread.start()
            self._started = True

    async def stop(self) -> None:
        """End it: what runs in the model is finished, what waits is dropped, decoding is killed."""
        self._started = False
        await self.pool.stop()
        await asyncio.to_thread(self.thread.stop)

    def strength(self, model: str) -> float:
        """The adapter strength that a model has by itself."""
        return self.thread.own_strengths[model]

    def check(
        self,
        *,
        labels: Labels | None = None,
        top: int = 1,
        model: str | None = None,
        strength: float | None = None,
    ) -> None:
        """Raise what `classify` would raise for these, before the upload is decoded."""
        self.limits.check_top(top)
        self._asked(model, labels)
        _checked(strength)

    async def read(self, upload: Path, *, name: str | None = None) -> ReadVideo:
        """Decode a file, in a process with limits. VideoError for one that cannot be read, LimitError for one too large.

        `name` stands in messages instead of the file's own.
        """
        if upload.stat().st_size > self.limits.most_bytes:
            raise LimitError(f"the file has more than the {self.limits.most_bytes / 2**20:g} MB that are allowed")
        if self.pool.waiting >= self.limits.most_waiting:
            raise Busy(f"{self.pool.waiting} videos wait to be decoded; try again in a moment")
        async with self.in_time():
            readers = {key: model.reader for key, model in self.models.items()}
            return await self.pool.read(upload, readers, name=name or upload.name)

    async def picture(self, path: Path, side: int) -> NDArray[np.uint8]:
        """The middle frame of a video of the index, uint8 RGB [H, W, 3]; its file may be a stranger's as an upload is."""
        async with self.in_time():
            return await self.pool.picture(path, side)

    async def classify(
        self,
        read: ReadVideo,
        *,
        labels: Labels | None = None,
        top: int = 5,
        model: str | None = None,
        strength: float | None = None,
    ) -> VideoScores:
        """The probabilities of the labels; `top` of them can be had of the result."""
        self.limits.check_top(top)
        name, recognizer, asked = self._asked(model, labels)
        clips = read.clips[name]
        async with self.in_time():
            return await self.thread.encode(
                name,
                clips.pixels.flatten(0, 1),
                lambda features: recognizer.score_features(features, clips, recognizer.prepare(asked))[0],
                strength=_checked(strength),
            )

    async def embed(self, read: ReadVideo, *, model: str | None = None) -> NDArray[np.float32]:
        """The embedding of a video, float32 [D], of unit norm."""
        name, _, _ = self._asked(model, None)
        async with self.in_time():
            return await self.thread.encode(
                name, read.clips[name].pixels[0], lambda features: mean_embedding(features.embedding)
            )

    async def explain(
        self,
        read: ReadVideo,
        *,
        label: str,
        labels: Labels | None = None,
        model: str | None = None,
        strength: float | None = None,
    ) -> "Explanation":
        """Where a model looks for a label among `labels`."""
        from m2clip.explanations import explain

        name, recognizer, asked = self._asked(model, labels)
        clips = read.clips[name]
        async with self.in_time():
            return await self.thread.run(
                name,
                lambda: explain(recognizer, clips, label, recognizer.prepare(asked)),
                strength=_checked(strength),
            )

    async def timeline(
        self,
        upload: Path,
        *,
        name: str | None = None,
        labels: Labels | None = None,
        window_seconds: float = 2.0,
        step_seconds: float = 1.0,
        top: int = 5,
        model: str | None = None,
    ) -> list[Window]:
        """What happens when, as `Recognizer.timeline` says it. Between two pieces of the video the model answers others."""
        self.limits.check_top(top)
        key, recognizer, asked = self._asked(model, labels)
        reader = recognizer.timeline_reader(window_seconds, step_seconds)
        found: list[Window] = []
        shared: SharedFrames | None = None
        async with self.in_time():
            classes = await self.thread.run(key, lambda: recognizer.prepare(asked))

            def scored(encoded: list[EncodedWindows]) -> list[Window]:
                return [window for some in encoded for window in recognizer.score_windows(some, classes, top)]

            def of_clips(spans: tuple[tuple[float, float], ...], features: VideoFeatures) -> list[Window]:
                return scored([EncodedWindows(spans, features)])

            def of_frames(frames: SharedFrames, chunk: WindowedFrames | None) -> list[Window]:
                return scored(frames.finish() if chunk is None else frames.push(chunk))

            chunks = self.pool.read_timeline(upload, reader, name=name or upload.name)
            async with aclosing(chunks):
                async for chunk in chunks:
                    if isinstance(chunk, WindowClips):
                        clips = chunk.clips.pixels.flatten(0, 1)
                        found += await self.thread.encode(key, clips, partial(of_clips, chunk.spans))
                    else:
                        shared = shared or SharedFrames(recognizer.model)
                        found += await self.thread.run(key, partial(of_frames, shared, chunk))
            if shared is not None:
                found += await self.thread.run(key, partial(of_frames, shared, None))
        return found

    async def search(self, *, text: str | None = None, read: ReadVideo | None = None, top: int = 10) -> "list[Found]":
        """The videos of the index that are nearest to a text or to a video, nearest first."""
        self.limits.check_top(top)
        if self.index is None:
            raise ConfigError("this server has no index to search; start it with --index")
        if (text is None) == (read is None):
            raise ConfigError("search by a text or by a video: give one of them")
        name, index = self.default_model, self.index
        if read is not None:
            vector = await self.embed(read)
        else:
            assert text is not None
            if not text.strip():
                raise ConfigError("the text to search for is empty")
            self.limits.check_text(text, "the text")
            words, recognizer = text, self.models[name]
            async with self.in_time():
                vector = await self.thread.run(name, lambda: recognizer.embed_text(words))
        async with self.in_time():
            try:
                return await asyncio.to_thread(index.search, vector, top)
            except M2CLIPError as error:  # it was checked at the start, so this is no fault of the question
                _LOG.error("the index cannot be searched: %s", error)
                raise Broken("the index cannot be searched any more; the server's log says why") from None

    def _asked(self, model: str | None, labels: Labels | None) -> tuple[str, Recognizer, Labels | None]:
        """The model and the labels that a request means. ConfigError for a name that is none, LimitError for too many labels."""
        name = self.default_model if model is None else model
        if name not in self.models:
            raise ConfigError(f"there is no model {name[:100]!r} here; there is {', '.join(self.models)}")
        self.limits.check_labels(None if labels is None else list(labels))
        return name, self.models[name], self.labels if labels is None else labels

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """What is awaited in it may take `limits.request_seconds` in all, else it is cancelled: TooSlow."""
        try:
            async with asyncio.timeout(self.limits.request_seconds):
                yield
        except TimeoutError:
            raise TooSlow(
                f"this took longer than {self.limits.request_seconds:g} s and was dropped; try again later"
            ) from None


def _checked(strength: float | None) -> float | None:
    if strength is not None and not 0.0 <= strength <= 1.0:
        raise ConfigError(f"strength is {strength:g}: it must be between 0 (the frozen CLIP) and 1")
    return strength

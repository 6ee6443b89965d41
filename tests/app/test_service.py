"""Requests that wait together are encoded together, and get what each would get alone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2clip.app.limits import Busy, LimitError, Limits, TooSlow
from m2clip.app.service import Service
from m2clip.errors import ConfigError, VideoError
from m2clip.recognizer import Recognizer
from tests.small_inputs import moving_square, tiny_model, write_video

NAMES = ["bouncing", "moving", "spinning"]


def trained_like(seed: int) -> Any:
    """A tiny model whose adapters do something."""
    model = tiny_model(NAMES, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.info = model.info.model_copy(update={"training": {"epochs": 1}})
    return model


@pytest.fixture(scope="module")
def recognizers() -> dict[str, Recognizer]:
    return {"one": Recognizer(trained_like(1), web=None), "two": Recognizer(trained_like(2), frames=4, web=None)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("service")
    return [write_video(root / f"{i}.mp4", moving_square(frames=36, shift=i)) for i in range(6)]


def serving(models: dict[str, Recognizer], work: Callable[[Service], Awaitable[Any]], **limits: Any) -> Any:
    async def run() -> Any:
        service = Service(models, limits=Limits(**limits), workers=2)
        await service.start()
        try:
            return await work(service)
        finally:
            await service.stop()

    return asyncio.run(run())


class Held:
    """The model's thread, kept busy until it is let go."""

    def __init__(self, service: Service) -> None:
        self.service, self.go, self.begun = service, threading.Event(), threading.Event()

    async def __aenter__(self) -> "Held":
        def work() -> None:
            self.begun.set()
            self.go.wait(60)

        self.task = asyncio.ensure_future(self.service.thread.run("one", work))
        await asyncio.to_thread(self.begun.wait, 60)
        return self

    async def until_waiting(self, count: int) -> None:
        while self.service.thread.waiting < count:
            await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        self.go.set()
        await self.task


def test_together_as_alone(recognizers: dict[str, Recognizer], videos: list[Path]) -> None:
    asked = [None, ["walking", "running"], NAMES[::-1], None, ["a", "b", "c"], ["walking", "running"]]

    async def work(service: Service) -> tuple[list[Any], list[Any], list[int]]:
        reads = [await service.read(video) for video in videos]
        alone = [await service.classify(read, labels=labels) for read, labels in zip(reads, asked, strict=True)]
        sizes: list[int] = []
        service.thread.batch_sizes = sizes.append
        async with Held(service) as held:
            tasks = [
                asyncio.ensure_future(service.classify(read, labels=labels))
                for read, labels in zip(reads, asked, strict=True)
            ]
            await held.until_waiting(len(tasks))
        return alone, await asyncio.gather(*tasks), sizes

    alone, together, sizes = serving(recognizers, work)
    assert sizes == [6]
    for video, labels, one, other in zip(videos, asked, alone, together, strict=True):
        right = recognizers["one"].score(video, labels)
        assert one.classes.names == other.classes.names == right.classes.names
        assert one.probabilities.equal(right.probabilities)
        torch.testing.assert_close(other.probabilities, right.probabilities, rtol=0, atol=1e-5)
    assert together[0].classes.reading == "ensemble"
    assert together[1].classes.reading == "similarity"


def test_batches_are_bounded_and_keep_models_and_strengths_apart(
    recognizers: dict[str, Recognizer], videos: list[Path]
) -> None:
    async def work(service: Service) -> tuple[list[Any], list[int]]:
        read = await service.read(videos[0])
        sizes: list[int] = []
        service.thread.batch_sizes = sizes.append
        asked = [("one", None), ("two", None), ("one", 0.0), ("one", None), ("one", None), ("one", 0.0), ("two", None)]
        async with Held(service) as held:
            tasks = [
                asyncio.ensure_future(service.classify(read, model=model, strength=strength))
                for model, strength in asked
            ]
            await held.until_waiting(len(tasks))
        return await asyncio.gather(*tasks), sizes

    found, sizes = serving(recognizers, work, most_batch=2)
    # one: 2 of 3, two: 2, one at 0: 2, the last of one
    assert sizes == [2, 2, 2, 1]
    frozen = Recognizer(trained_like(1), strength=0.0, web=None)
    for scores, recognizer in zip(
        found,
        [recognizers["one"], recognizers["two"], frozen, *[recognizers["one"]] * 2, frozen, recognizers["two"]],
        strict=True,
    ):
        right = recognizer.score(videos[0])
        torch.testing.assert_close(scores.probabilities, right.probabilities, rtol=0, atol=1e-5)
    assert not np.allclose(found[0].probabilities, found[2].probabilities, atol=1e-3)


def test_embeddings_and_timelines_are_those_of_the_recognizer(
    recognizers: dict[str, Recognizer], videos: list[Path]
) -> None:
    async def work(service: Service) -> Any:
        read = await service.read(videos[1])
        return (
            await service.embed(read),
            await service.timeline(videos[1], window_seconds=1.0, step_seconds=0.25, top=2),
            await service.timeline(videos[1], labels=["x", "y"], window_seconds=1.0, step_seconds=1.0, model="two"),
        )

    embedding, shared, single = serving(recognizers, work)
    assert np.array_equal(embedding, recognizers["one"].embed(videos[1]))
    assert shared == recognizers["one"].timeline(videos[1], None, 1.0, 0.25, 2)
    assert len(shared) == 9
    assert single == recognizers["two"].timeline(videos[1], ["x", "y"], 1.0, 1.0)


def test_a_request_too_many_is_turned_away(recognizers: dict[str, Recognizer], videos: list[Path]) -> None:
    async def work(service: Service) -> None:
        read = await service.read(videos[0])
        async with Held(service) as held:
            tasks = [asyncio.ensure_future(service.embed(read)) for _ in range(3)]
            await held.until_waiting(3)
            with pytest.raises(Busy, match="3 requests wait for the model"):
                await service.embed(read)
            tasks[0].cancel()
            tasks[1].cancel()
            await asyncio.wait(tasks[:2])
        assert (await tasks[2]).shape == (24,)

    serving(recognizers, work, most_waiting=3)


def test_what_takes_too_long_is_dropped_before_it_begins(
    recognizers: dict[str, Recognizer], videos: list[Path]
) -> None:
    ran: list[str] = []

    async def work(service: Service) -> None:
        read = await service.read(videos[0])
        object.__setattr__(service.limits, "request_seconds", 0.05)
        async with Held(service) as held:
            with pytest.raises(TooSlow, match="this took longer"):
                await service.embed(read)
            late = asyncio.ensure_future(service.thread.run("one", lambda: ran.append("late")))
            await held.until_waiting(1)
            late.cancel()
            await asyncio.wait([late])
        await service.thread.run("one", lambda: ran.append("after"))

    serving(recognizers, work)
    assert ran == ["after"]


def test_what_a_model_raises_reaches_its_caller_alone(recognizers: dict[str, Recognizer], videos: list[Path]) -> None:
    async def work(service: Service) -> None:
        read = await service.read(videos[0])
        async with Held(service) as held:
            bad = asyncio.ensure_future(service.classify(read, labels=["same", "same"]))
            good = asyncio.ensure_future(service.classify(read))
            await held.until_waiting(2)
        with pytest.raises(ConfigError, match="given twice"):
            await bad
        assert (await good).classes.names == tuple(NAMES)

    serving(recognizers, work)


def test_questions_that_cannot_be_answered(
    recognizers: dict[str, Recognizer], videos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(b"x" * 200)
    questions: list[tuple[Callable[[Service, Any], Awaitable[Any]], type[Exception], str]] = [
        (lambda s, r: s.classify(r, labels=["x"] * 4), LimitError, "4 labels; give 3 at most"),
        (lambda s, r: s.classify(r, labels=["x" * 11]), LimitError, "11 characters; give 10 at most"),
        (lambda s, r: s.classify(r, top=6), LimitError, "top is 6"),
        (lambda s, r: s.classify(r, top=0), ConfigError, "top is 0"),
        (lambda s, r: s.classify(r, model="no"), ConfigError, "there is no model 'no' here; there is one, two"),
        (lambda s, r: s.classify(r, strength=1.5), ConfigError, "strength is 1.5"),
        (lambda s, r: s.timeline(videos[0], step_seconds=0.001), LimitError, "3,000 windows; 100 are allowed"),
        (lambda s, r: s.timeline(videos[0], window_seconds=-1), ConfigError, "window_seconds is -1"),
        (lambda s, r: s.search(text="x", top=5), ConfigError, "no index to search"),
        (lambda s, r: s.read(tmp_path / "large"), VideoError, "cannot read large"),
    ]

    async def work(service: Service) -> None:
        read = await service.read(videos[0])
        for question, kind, words in questions:
            with pytest.raises(kind, match=words):
                await question(service, read)

    serving(recognizers, work, most_labels=3, most_label_characters=10, most_top=5, most_windows=100)

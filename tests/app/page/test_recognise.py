"""What the tab Recognise does when answers come late, or not at all."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

gradio = pytest.importorskip("gradio")

from m2clip import Recognizer  # noqa: E402
from m2clip.app.limits import Busy, Limits  # noqa: E402
from m2clip.app.page.desk import Desk  # noqa: E402
from m2clip.app.page.recognise import RecogniseTab  # noqa: E402
from m2clip.app.page.shelf import Shelf  # noqa: E402
from m2clip.app.page.uploads import Uploads  # noqa: E402
from m2clip.app.page.visits import Visits  # noqa: E402
from m2clip.data.clip_reader import ReadClips  # noqa: E402
from m2clip.data.video import VideoInfo  # noqa: E402
from m2clip.scoring import Prediction  # noqa: E402
from m2clip.timeline import Window  # noqa: E402
from m2clip.video_scores import Classes, VideoScores  # noqa: E402
from tests.small_inputs import tiny_model  # noqa: E402

SKIP = gradio.skip()


class SlowService:
    """Answers only when told to; the score of "up" is the strength that was asked for."""

    def __init__(self) -> None:
        self.models = {"tiny": Recognizer(tiny_model(("up", "down")), device="cpu")}
        self.default_model, self.labels, self.index, self.limits = "tiny", None, None, Limits()
        self.gates: list[asyncio.Event] = []
        self.reads = 0
        self.duration_seconds = 1.0
        self.timelines: list[dict[str, Any]] = []
        self.failure: Exception | None = None

    async def read(self, _: Any, *, name: str) -> Any:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        pixels = torch.zeros(1, 1, 2, 3, 8, 8, dtype=torch.uint8)
        clips = ReadClips(pixels, np.array([[[0, 1]]]), np.array([[[0.0, 0.5]]]))
        info = VideoInfo(2, 8, 8, 2.0, self.duration_seconds, 0, "h264", np.array([0.0, 0.5]))
        return SimpleNamespace(clips={"tiny": clips}, info=info)

    async def classify(self, read: Any, *, labels: Any, strength: float | None) -> VideoScores:
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        up = 1.0 if strength is None else strength
        classes = Classes(("up", "down"), (("up",), ("down",)), "similarity", torch.zeros(2, 2), None)
        views = torch.tensor([[up, 1 - up]])
        return VideoScores(classes, views[0], views, np.array([[0, 1]]), np.array([[0.0, 0.5]]))

    async def timeline(self, upload: Any, **asked: Any) -> list[Window]:
        self.timelines.append(asked)
        return [Window(0.0, self.duration_seconds, (Prediction("up", 1.0), Prediction("down", 0.0)))]


@pytest.fixture
def service() -> SlowService:
    return SlowService()


@pytest.fixture
def tab(service: SlowService) -> RecogniseTab:
    with gradio.Blocks():
        return RecogniseTab(Desk(service, Uploads(100), Visits(), Shelf(), ()))  # type: ignore[arg-type]


REQUEST: Any = SimpleNamespace(session_hash="session")


def chosen(tab: RecogniseTab) -> None:
    token = asyncio.run(tab._desk.uploads.receive(one_byte(), name="a.mp4"))
    tab.open(SimpleNamespace(_data={"token": token, "name": "a.mp4"}), REQUEST)  # type: ignore[arg-type]


async def one_byte() -> Any:
    yield b"x"


async def opened(service: SlowService, count: int) -> None:
    """Wait until so many questions have reached the service."""
    while len(service.gates) < count:
        await asyncio.sleep(0)


def test_an_older_answer_never_overwrites_a_newer_one(tab: RecogniseTab, service: SlowService) -> None:
    chosen(tab)

    async def drag() -> tuple[Any, Any]:
        first = asyncio.create_task(tab.recognise("", REQUEST))
        await opened(service, 1)
        service.gates[0].set()
        await first
        older = asyncio.create_task(tab.turn_dial(0.25, REQUEST))
        await opened(service, 2)
        newer = asyncio.create_task(tab.turn_dial(0.75, REQUEST))
        await opened(service, 3)
        service.gates[2].set()
        shown = await newer
        service.gates[1].set()
        # The older question finds that the dial has moved on and asks for its newest place, so as never to be wrong; it is not shown.
        await opened(service, 4)
        service.gates[3].set()
        return shown, await older

    newer, older = asyncio.run(drag())
    assert "75.0 %" in newer[1]
    assert older == (SKIP, SKIP)
    assert service.reads == 1


def test_a_dial_that_moves_while_a_video_is_scored_is_heard(tab: RecogniseTab, service: SlowService) -> None:
    chosen(tab)

    async def drag() -> Any:
        first = asyncio.create_task(tab.recognise("", REQUEST))
        await opened(service, 1)
        await tab.turn_dial(0.25, REQUEST)
        service.gates[0].set()
        await opened(service, 2)
        service.gates[1].set()
        return await first

    assert "25.0 %" in asyncio.run(drag())[1]


def test_another_video_silences_the_last_one(tab: RecogniseTab, service: SlowService) -> None:
    chosen(tab)

    async def switch() -> Any:
        first = asyncio.create_task(tab.recognise("", REQUEST))
        await opened(service, 1)
        tab.open(SimpleNamespace(_data={"token": "other", "name": "b.mp4"}), REQUEST)  # type: ignore[arg-type]
        service.gates[0].set()
        return await first

    assert asyncio.run(switch()) == (SKIP,) * 6


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Busy("32 videos wait to be decoded; try again in a moment"), "press the button once more"),
        (RuntimeError("/home/me/secret"), "Something broke inside the server"),
    ],
)
def test_failures_are_told_and_keep_their_secrets(
    tab: RecogniseTab, service: SlowService, failure: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    chosen(tab)
    service.failure = failure
    status, bars, *_ = asyncio.run(tab.recognise("", REQUEST))
    assert said in status
    assert "secret" not in status
    assert bars == ""
    assert ("secret" in caplog.text) == isinstance(failure, RuntimeError)
    # The next try works.
    service.failure = None

    async def again() -> Any:
        first = asyncio.create_task(tab.recognise("", REQUEST))
        await opened(service, 1)
        service.gates[0].set()
        return await first

    assert "100.0 %" in asyncio.run(again())[1]


@pytest.mark.parametrize(("seconds", "at_once"), [(60.0, True), (61.0, False)])
def test_the_timeline_of_a_long_video_is_made_when_asked_for(
    tab: RecogniseTab, service: SlowService, seconds: float, at_once: bool
) -> None:
    service.duration_seconds = seconds
    chosen(tab)

    async def all_of_it() -> Any:
        first = asyncio.create_task(tab.recognise("", REQUEST))
        await opened(service, 1)
        service.gates[0].set()
        return *(await first), await tab.timeline_at_once(REQUEST), len(service.timelines), await tab.timeline(REQUEST)

    *_, waits, button, unasked, made, asked = asyncio.run(all_of_it())
    assert button["visible"] is not at_once
    assert ("Not made yet" in waits) is not at_once
    assert made == (1 if at_once else 0)
    assert (unasked == SKIP) is not at_once
    assert "m2-lanes" in asked
    assert service.timelines[-1]["step_seconds"] == 0.5
    assert service.timelines[-1]["name"] == "a.mp4"


def test_without_a_video_the_button_says_what_is_missing(tab: RecogniseTab) -> None:
    status, *_ = asyncio.run(tab.recognise("waving", REQUEST))
    assert "There is no video yet: choose, drop or record one" in status


@pytest.mark.parametrize(("method", "visible"), [("m2clip", True), ("linear-probe", False)])
def test_a_model_without_adapters_has_no_dial(service: SlowService, method: str, visible: bool) -> None:
    service.models = {"tiny": Recognizer(tiny_model(("up", "down"), method=method), device="cpu")}
    with gradio.Blocks() as blocks:
        RecogniseTab(Desk(service, Uploads(100), Visits(), Shelf(), ()))  # type: ignore[arg-type]
    dial = next(one for one in blocks.blocks.values() if isinstance(one, gradio.Slider))
    assert dial.visible == visible

"""Live recognition: which windows, of which frames, and what they must equal; the newest one where recognition is too slow."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from m2clip.data.live import LiveCounts, LiveFrame, LiveLimits, LiveSource
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import ConfigError, VideoError
from m2clip.live import LiveWindow, LiveWindows, recognize_live, window_frames
from m2clip.recognizer import Recognizer
from m2clip.timeline import EncodedWindows, Window
from tests.live_server import sending, silence, transport_stream
from tests.small_inputs import tiny_model
from tests.web_server import serving

NAMES = ("walking", "running", "jumping")
RATE, FRAMES, STEP_SECONDS = 4.0, 8, 1.0  # windows of 2 s


def recognizer_of(method: str = "m2clip", **options: Any) -> Recognizer:
    """Adapters start at zero, where no frame sees another; these do not."""
    model = tiny_model(NAMES, method=method)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.trained_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Recognizer(model, **options)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return recognizer_of()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """uint8 [40, 3, 32, 32]."""
    return torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Given:
    """A source that gives these frames, some at a time."""

    def __init__(
        self, pixels: Tensor, drains: Sequence[Sequence[tuple[int, int]]], counts: LiveCounts | None = None
    ) -> None:
        """`drains`: (row, index) of the frames; frame i of row r has the pixels 20 r + i and stands for 20 r seconds later."""
        self._pixels, self._drains, self.counts = pixels, list(drains), counts or LiveCounts()

    def take(self, timeout_seconds: float) -> list[LiveFrame] | None:
        if not self._drains:
            return None
        return [
            LiveFrame(self._pixels[20 * row + index], row, index, 20 * row + (index + 0.5) / RATE, time.monotonic())
            for row, index in self._drains.pop(0)
        ]


def windows_of(recognizer: Recognizer, source: Given, *, step_seconds: float = STEP_SECONDS) -> list[LiveWindow]:
    live = LiveWindows(
        recognizer, recognizer.prepare(), rate_fps=RATE, frames=FRAMES, step_seconds=step_seconds, top=len(NAMES)
    )
    return list(live.of(source))


def one_by_one(row: int, first: int, stop: int) -> list[list[tuple[int, int]]]:
    return [[(row, index)] for index in range(first, stop)]


def expected(recognizer: Recognizer, sequence: Tensor) -> dict[str, float]:
    """The scores of the last window of a sequence, uint8 [n, 3, S, S], encoded in one pass."""
    sizes, model = recognizer.model.info.sizes, recognizer.model
    with torch.inference_mode():
        frames, tokens = model.encode_frames(PixelStatistics(sizes.mean, sizes.std).normalize(sequence)[None])
        features = model.read_frames(frames[:, -FRAMES:], tokens[:, -FRAMES:])
    (window,) = recognizer.score_windows(EncodedWindows(((0, 2),), features), recognizer.prepare(), len(NAMES))
    return scores_of(window)


def scores_of(window: Window) -> dict[str, float]:
    return {found.label: found.score for found in window.predictions}


def test_a_window_every_step_reads_all_frames_until_then(recognizer: Recognizer, pixels: Tensor) -> None:
    """2 s at 4 a second, a step of 1 s: windows end with frames 7, 11, 15, 19."""
    found = windows_of(recognizer, Given(pixels, one_by_one(0, 0, 20)))
    assert [(one.start_seconds, one.end_seconds) for one in found] == [(0, 2), (1, 3), (2, 4), (3, 5)]
    for window, stop in zip(found, (8, 12, 16, 20), strict=True):
        assert scores_of(window) == pytest.approx(expected(recognizer, pixels[:stop]), abs=1e-5)
    # Frames see their neighbours before the window, so that it is not the same as a clip of its own.
    assert scores_of(found[-1]) != pytest.approx(expected(recognizer, pixels[12:20]), abs=1e-4)


def test_steps_that_are_no_whole_frames(recognizer: Recognizer, pixels: Tensor) -> None:
    # 0.6 s are 2.4 frames: windows are complete with the first frame at or behind 7, 9.4, 11.8, 14.2, 16.6, 19.
    found = windows_of(recognizer, Given(pixels, one_by_one(0, 0, 20)), step_seconds=0.6)
    assert [one.end_seconds * RATE - 1 for one in found] == pytest.approx([7, 10, 12, 15, 17, 19])


def test_frames_that_come_together_give_the_newest_window(recognizer: Recognizer, pixels: Tensor) -> None:
    found = windows_of(recognizer, Given(pixels, [[(0, index) for index in range(18)], [(0, 18)], [(0, 19)]]))
    assert [one.end_seconds for one in found] == [4.5, 5.0]
    assert scores_of(found[0]) == pytest.approx(expected(recognizer, pixels[:18]), abs=1e-5)


def test_after_dropped_frames_windows_begin_anew(recognizer: Recognizer, pixels: Tensor) -> None:
    drains = [*one_by_one(0, 0, 9), [(0, index) for index in range(12, 20)]]
    _, second = windows_of(recognizer, Given(pixels, drains, LiveCounts(dropped=3, reconnects=2)))
    assert (second.start_seconds, second.end_seconds) == (3, 5)
    assert scores_of(second) == pytest.approx(expected(recognizer, pixels[12:20]), abs=1e-5)
    assert (second.dropped_frames, second.reconnects) == (3, 2)


def test_no_window_holds_frames_of_both_sides_of_a_break(recognizer: Recognizer, pixels: Tensor) -> None:
    drains = [*one_by_one(0, 0, 15), *one_by_one(1, 0, 9)]
    drains[14:16] = [drains[14] + drains[15]]  # the break lies inside of what is taken at once
    found = windows_of(recognizer, Given(pixels, drains))
    assert [one.end_seconds for one in found] == [2, 3, 22]
    assert scores_of(found[-1]) == pytest.approx(expected(recognizer, pixels[20:28]), abs=1e-5)


@pytest.mark.parametrize(("method", "step_seconds"), [("aim", STEP_SECONDS), ("m2clip", 2.0), ("m2clip", 3.0)])
def test_windows_that_share_no_frames_are_clips(method: str, step_seconds: float, pixels: Tensor) -> None:
    recognizer = recognizer_of(method)
    found = windows_of(recognizer, Given(pixels, one_by_one(0, 0, 20)), step_seconds=step_seconds)
    ends = [round(one.end_seconds * RATE) for one in found]
    assert ends == list(range(8, 21, round(step_seconds * RATE)))
    for window, stop in zip(found, ends, strict=True):
        assert scores_of(window) == pytest.approx(expected(recognizer, pixels[stop - 8 : stop]), abs=1e-5)


def test_latency_counts_from_the_arrival_of_the_newest_picture(recognizer: Recognizer, pixels: Tensor) -> None:
    before = time.time()
    (window,) = windows_of(recognizer, Given(pixels, one_by_one(0, 0, 8)))
    assert 0 < window.latency_seconds < time.time() - before
    assert before <= window.arrived_at <= time.time()


def test_it_ends_after_the_time_that_is_asked_for(recognizer: Recognizer, pixels: Tensor) -> None:
    class Silent(Given):
        def take(self, timeout_seconds: float) -> list[LiveFrame] | None:
            time.sleep(timeout_seconds)
            return []

    live = LiveWindows(recognizer, recognizer.prepare(), rate_fps=RATE, frames=FRAMES, step_seconds=1, top=1)
    start = time.monotonic()
    assert list(live.of(Silent(pixels, []), for_seconds=0.3)) == []
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("options", "window_seconds", "rate_fps", "frames"),
    [
        ({}, 2.0, 4.0, 8),  # uniform segments fill the window
        ({"fps": 5.0}, 2.0, 5.0, 10),
        ({"clip_seconds": 3.5}, 4.0, 2.0, 8),  # 8 frames over 3.5 s lie half a second apart
        ({"stride_frames": 5}, 2.0, 5.0, 10),  # of 25 a second
        ({"fps": 0.1}, 2.0, 0.1, 1),
    ],
)
def test_frames_lie_as_far_apart_as_in_a_clip(
    options: dict[str, Any], window_seconds: float, rate_fps: float, frames: int
) -> None:
    found = window_frames(Recognizer(tiny_model(NAMES), **options), window_seconds, 1.0)
    assert found == (pytest.approx(rate_fps), frames)


def test_what_cannot_be_asked_for_is_told(recognizer: Recognizer) -> None:
    with pytest.raises(ConfigError, match="step_seconds is 0"):
        window_frames(recognizer, 2.0, 0.0)
    with pytest.raises(ConfigError, match="shorter window"):
        window_frames(Recognizer(tiny_model(NAMES), fps=1000), 60.0, 1.0)
    with pytest.raises(ConfigError, match="one view"):
        window_frames(Recognizer(tiny_model(NAMES), views_spatial=3), 2.0, 1.0)
    with pytest.raises(VideoError, match="no such file"):
        recognize_live(recognizer, "nothing.ts")


def test_a_file_that_is_played_shows_what_its_timeline_shows(recognizer: Recognizer, tmp_path: Path) -> None:
    """But for the last frames of a window, which have not seen what follows: the last window of all has nothing behind it."""
    path = tmp_path / "clip.ts"
    path.write_bytes(transport_stream(30, step=8))
    rate_fps, frames = window_frames(recognizer, 0.8, 0.4)
    windows = LiveWindows(
        recognizer, recognizer.prepare(), rate_fps=rate_fps, frames=frames, step_seconds=0.4, top=len(NAMES)
    )
    # The queue has room for all of it, so that nothing is dropped however slow this machine is.
    with LiveSource(str(path), rate_fps=rate_fps, image_size=32, queue_frames=64) as source:
        live = list(windows.of(source))
    timeline = recognizer.timeline(path, window_seconds=0.8, step_seconds=0.4, top=len(NAMES))
    assert (live[-1].start_seconds, live[-1].end_seconds) == pytest.approx((0.4, 1.2))
    assert (timeline[-1].start_seconds, timeline[-1].end_seconds) == pytest.approx((0.4, 1.2))
    assert scores_of(live[-1]) == pytest.approx(scores_of(timeline[-1]), abs=1e-5)


def test_recognition_that_is_too_slow_sees_the_newest_frames(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first window is recognised, all the rest of the stream comes: the next window is its end, and the rest is dropped."""
    from m2clip import live

    sources = []

    class Noted(live.LiveSource):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            sources.append(self)

    monkeypatch.setattr(live, "LiveSource", Noted)
    recognised = threading.Event()
    early, late = transport_stream(15), transport_stream(185, first=15)
    with serving() as server:
        server.answers["/live"] = sending(early, lambda over: recognised.wait(), late, silence)
        windows = recognize_live(
            recognizer,
            server.url + "/live",
            window_seconds=0.32,
            step_seconds=0.04,
            limits=LiveLimits(stall_seconds=30),
        )
        first = next(windows)
        recognised.set()
        (source,) = sources
        deadline = time.monotonic() + 30
        while source.counts.decoded < 198:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = next(windows)
        windows.close()  # type: ignore[attr-defined]
    assert 0.3 < first.end_seconds <= 0.6
    assert 7.8 < second.end_seconds <= 8.0
    assert second.end_seconds - second.start_seconds == pytest.approx(0.32)
    assert second.dropped_frames >= 185 - 8 - 2  # of the late ones, all but a window; the decoder holds the last

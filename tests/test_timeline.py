"""Windows from one pass over a video: the mean of their frames, in order, as soon as they are complete; nothing else is kept."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m2clip import Recognizer
from m2clip.data.clip_reader import ClipReader
from m2clip.data.sampling import ClipSampling
from m2clip.data.steady_frames import SteadyFrames
from m2clip.data.timeline_reader import FrameWindow, TimelineReader, WindowedFrames, frame_windows
from m2clip.data.transforms import PixelStatistics
from m2clip.errors import ConfigError, VideoError
from m2clip.model.video_clip import VideoCLIP, VideoFeatures
from m2clip.timeline import SharedFrames, encoded_windows
from tests.model.rivals.plain_clip import NAMES, model_of

PIXELS = torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def model() -> VideoCLIP:
    return model_of("m2clip").eval()


@pytest.fixture(scope="module")
def probe() -> VideoCLIP:
    """Its head reads frames otherwise: each through the last LayerNorm."""
    return model_of("linear-probe").eval()


def one_pass(model: VideoCLIP, count: int) -> tuple[Tensor, Tensor]:
    """All frames as one clip: [T, D] and [T, C]."""
    sizes = model.info.sizes
    with torch.inference_mode():
        (embeddings,), (tokens,) = model.encode_frames(
            PixelStatistics(sizes.mean, sizes.std).normalize(PIXELS[None, :count])
        )
    return embeddings, tokens


def chunked(windows: list[FrameWindow], sizes: list[int]) -> Iterator[WindowedFrames]:
    first = 0
    for size in sizes:
        inside = tuple(window for window in windows if first <= window.first < first + size)
        yield WindowedFrames(SteadyFrames(PIXELS[first : first + size], np.arange(size) + 0.5), inside)
        first += size


def no_clips(pixels: Tensor) -> VideoFeatures:
    raise AssertionError("no window is encoded alone")


@given(
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=7).filter(lambda sizes: sum(sizes) <= 60),
    window=st.floats(0.3, 12),
    share=st.floats(0.05, 0.999),
    head=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_a_window_is_the_mean_of_its_frames(
    model: VideoCLIP, probe: VideoCLIP, sizes: list[int], window: float, share: float, head: bool
) -> None:
    chosen = probe if head else model
    windows = list(frame_windows(float(sum(sizes)), window, window * share, rate=1.0))
    found = list(encoded_windows(chunked(windows, sizes), chosen, encode=no_clips))
    embeddings, tokens = one_pass(chosen, sum(sizes))
    assert [span for some in found for span in some.spans] == [one[:2] for one in windows]
    expected = [
        chosen.read_frames(embeddings[None, one.first : one.stop], tokens[None, one.first : one.stop])
        for one in windows
    ]
    for name in ("embedding", "visual_logits"):
        ours = torch.cat([getattr(some.features, name) for some in found])
        theirs = torch.cat([getattr(one, name) for one in expected])
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_windows_come_as_soon_as_their_frames_are_done(model: VideoCLIP) -> None:
    """Four frames later: three blocks and the output adapter each wait for one."""
    windows = list(frame_windows(20, 4, 2, rate=1.0))
    shared = SharedFrames(model)
    came = [[span for some in shared.push(chunk) for span in some.spans] for chunk in chunked(windows, [1] * 20)]
    assert [k for k, spans in enumerate(came) for _ in spans] == [7, 9, 11, 13, 15, 17, 19]
    assert [span for some in shared.finish() for span in some.spans] == [(14, 18), (16, 20)]


@pytest.mark.parametrize(("window", "step"), [(4.0, 2.0), (3.0, 0.01), (2.0, 9.0)])
def test_what_is_held_does_not_grow(model: VideoCLIP, window: float, step: float) -> None:
    """Of frames that were encoded, only those of windows that have begun."""
    windows = list(frame_windows(60, window, step, rate=1.0))
    shared, held = SharedFrames(model), []
    for chunk in chunked(windows, [3] * 20):
        for some in shared.push(chunk):
            assert len(some.spans) <= 64
        assert shared._embeddings is not None
        assert shared._class_tokens is not None
        held.append(len(shared._embeddings))
        assert shared._embeddings.untyped_storage().nbytes() == held[-1] * 48 * 4
        assert shared._class_tokens.untyped_storage().nbytes() == held[-1] * 64 * 4
    assert max(held) <= window
    assert not shared._waiting or shared._waiting[0].first >= 50


def test_a_video_that_breaks_off_gives_the_windows_before(model: VideoCLIP) -> None:
    windows = list(frame_windows(20, 4, 2, rate=1.0))

    def breaking() -> Iterator[WindowedFrames]:
        yield from list(chunked(windows, [5, 6, 9]))[:2]
        raise VideoError("clip.mp4 is gone")

    found: list[tuple[float, float]] = []

    def gather() -> None:
        for some in encoded_windows(breaking(), model, encode=no_clips):
            found.extend(some.spans)

    with pytest.raises(VideoError, match="gone"):
        gather()
    assert found == [(0, 4), (2, 6), (4, 8), (6, 10)]


def test_shared_frames_need_a_model_that_can_share_them() -> None:
    windows = list(frame_windows(20, 4, 2, rate=1.0))
    with pytest.raises(ConfigError, match="aim"):
        list(encoded_windows(chunked(windows, [20]), model_of("aim"), encode=no_clips))


def video(seconds: float) -> np.ndarray[Any, Any]:
    """At 25 frames a second."""
    return np.random.default_rng(0).integers(0, 256, (int(25 * seconds), 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("options", "shared"),
    [({}, True), ({"views_spatial": 3}, False), ({"views_temporal": 2}, False)],
)
def test_a_recognizer_shares_frames_where_it_can(model: VideoCLIP, options: dict[str, int], shared: bool) -> None:
    recognizer = Recognizer(model, **options)  # type: ignore[arg-type]
    assert recognizer.timeline_reader(2.0, 1.0) == TimelineReader(recognizer.reader, 2.0, 1.0, alone=not shared)
    assert recognizer.timeline_reader(2.0, 1.0).shares_frames(4.0) == shared
    assert Recognizer(model_of("aim")).timeline_reader(2.0, 1.0).alone


@pytest.mark.parametrize("asked", [False, True])
def test_windows_alone_are_classified_as_videos(model: VideoCLIP, asked: bool) -> None:
    pixels, recognizer = video(4), Recognizer(model if asked else model_of("aim"))
    found = recognizer.timeline(pixels, NAMES, 2.0, 1.0, alone=asked)
    assert [(one.start_seconds, one.end_seconds) for one in found] == [(0, 2), (1, 3), (2, 4)]
    alone = recognizer.classify(pixels[25:75], NAMES)
    assert [one.label for one in found[1].predictions] == [one.label for one in alone]
    assert [one.score for one in found[1].predictions] == pytest.approx([one.score for one in alone], abs=1e-5)


def test_a_video_in_one_window_is_classified_as_it_is(model: VideoCLIP) -> None:
    pixels, recognizer = video(1.5), Recognizer(model)
    (found,) = recognizer.timeline(pixels, NAMES, 2.0, 0.5)
    assert (found.start_seconds, found.end_seconds) == (0, pytest.approx(1.48))
    assert found.predictions == tuple(recognizer.classify(pixels, NAMES))


def test_windows_of_shared_frames_differ_from_those_alone_at_their_borders_only(model: VideoCLIP) -> None:
    """Frames that lie further from a border than the adapters reach are the same."""
    embeddings, _ = one_pass(model, 40)
    sizes = model.info.sizes
    with torch.inference_mode():
        (alone,), _ = model.encode_frames(PixelStatistics(sizes.mean, sizes.std).normalize(PIXELS[None, 10:30]))
    difference = (alone - embeddings[10:30]).abs().amax(-1)
    assert difference[4:16].max() < 1e-5  # three blocks and the output adapter reach a frame each
    assert difference[[0, 1, 2, 17, 18, 19]].min() > 1e-3


def test_frames_are_read_as_the_model_takes_them(model: VideoCLIP) -> None:
    recognizer = Recognizer(model, fps=5.0)
    reader = recognizer.timeline_reader(2.0, 1.0)
    assert reader.clip_reader == ClipReader(ClipSampling(4, fps=5.0), 32)
    assert len(recognizer.timeline(video(4), NAMES, 2.0, 1.0, top=1)) == 3

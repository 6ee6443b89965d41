"""What is read for a timeline: each frame once and in order, the windows that begin in a chunk, or clips of their own."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.data.clip_reader import ClipReader
from m2clip.data.parts import window_spans
from m2clip.data.sampling import ClipSampling
from m2clip.data.timeline_reader import TimelineReader, WindowClips, WindowedFrames, frame_windows, steady_rate
from m2clip.data.video import Video
from m2clip.errors import ConfigError


def reader(window: Any, step: Any, *, alone: bool = False, **sampling: Any) -> TimelineReader:
    return TimelineReader(ClipReader(ClipSampling(**{"frames": 4, **sampling}), 16), window, step, alone=alone)


def numbered(count: int) -> Video:
    """Frame t is all t; as an array it is shown at 25 frames a second."""
    return Video(np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 32, 32, 3)).copy())


def test_windows_and_their_frames() -> None:
    # 2 frames a second lie at 0.25, 0.75, ... s.
    assert [tuple(window) for window in frame_windows(5, 2, 1, rate=2)] == [
        (0, 2, 0, 4), (1, 3, 2, 6), (2, 4, 4, 8), (3, 5, 6, 10),
    ]  # fmt: skip
    # The last window ends with the video: at 4.3 s there is no frame behind the one at 4.25 - which is frame 8 of 9.
    assert [tuple(window)[2:] for window in frame_windows(4.3, 2, 1.5, rate=2)] == [(0, 4), (3, 7), (6, 9)]
    # Between two frames: the nearest one.
    assert [tuple(window)[2:] for window in frame_windows(1, 0.2, 0.15, rate=2)] == [(0, 1)] * 3 + [(1, 2)] * 4


@given(
    duration=st.floats(0.01, 50),
    window=st.floats(0.05, 60),
    step=st.floats(0.05, 60),
    rate=st.floats(0.05, 60),
)
def test_every_window_has_frames_and_none_begins_before_the_one_before(
    duration: float, window: float, step: float, rate: float
) -> None:
    found = list(frame_windows(duration, window, step, rate=rate))
    count = max(1, int(np.ceil(duration * rate - 0.5)))
    assert [one[:2] for one in found] == list(window_spans(duration, window, step))
    firsts = [one.first for one in found]
    assert firsts == sorted(firsts)
    for one in found:
        assert 0 <= one.first < one.stop <= count
        moments = (np.arange(count) + 0.5) / rate
        inside = np.flatnonzero((moments > one.start_seconds + 1e-5) & (moments < one.end_seconds - 1e-5))
        assert set(inside) <= set(range(one.first, one.stop))
        assert len(inside) >= one.stop - one.first - 2


@pytest.mark.parametrize(
    ("sampling", "rate"),
    [({"frames": 8}, 4), ({"fps": 3.0}, 3), ({"frames": 8, "clip_seconds": 3.5}, 2), ({"stride_frames": 5}, 5)],
)
def test_frames_lie_as_far_apart_as_in_a_clip(sampling: dict[str, Any], rate: float) -> None:
    assert steady_rate(ClipSampling(**sampling), 2.0, 25.0) == pytest.approx(rate)


def test_each_frame_comes_once_with_the_windows_that_begin_in_its_chunk() -> None:
    with numbered(250) as video:  # 10 s; windows of 0.4 s have 4 frames, so 10 a second
        chunks = list(reader(0.4, 0.1).read(video))
    assert all(isinstance(chunk, WindowedFrames) for chunk in chunks)
    assert [len(chunk.frames.pixels) for chunk in chunks] == [32, 32, 32, 4]
    values = np.concatenate([chunk.frames.pixels[:, 0, 0, 0].numpy() for chunk in chunks])
    assert values.tolist() == [int((k + 0.5) * 2.5) for k in range(100)]
    windows = [window for chunk in chunks for window in chunk.windows]
    assert windows == list(frame_windows(10, 0.4, 0.1, rate=10))
    for number, chunk in enumerate(chunks):
        assert all(window.first // 32 == number for window in chunk.windows)


@pytest.mark.parametrize(
    ("window", "step", "alone"),
    [(0.4, 0.4, False), (0.4, 0.5, False), (9.9, 1, False), (12, 1, False), (0.4, 0.1, True)],
)
def test_windows_without_overlap_are_clips(window: float, step: float, alone: bool) -> None:
    made = pickle.loads(pickle.dumps(reader(window, step, alone=alone)))
    with numbered(100) as video:  # 4 s
        spans = list(window_spans(4.0, window, step))
        chunks = list(made.read(video))
    assert all(isinstance(chunk, WindowClips) for chunk in chunks)
    assert [span for chunk in chunks for span in chunk.spans] == spans
    assert all(len(chunk.spans) == len(chunk.clips.pixels) <= 8 for chunk in chunks)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "2", None])
def test_lengths_that_are_none(bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"window_seconds is .*above 0"):
        reader(bad, 1)
    with pytest.raises(ConfigError, match=r"step_seconds is .*above 0"):
        reader(1, bad)


def test_too_many_windows_or_frames() -> None:
    with numbered(25) as video:
        with pytest.raises(ConfigError, match=r"step_seconds is 1e-07: in 1 s that makes more than 1,000,000 windows"):
            next(reader(0.1, 1e-7).read(video))
        with pytest.raises(ConfigError, match=r"9.9e\+07 frames a second make more than 20,000,000 frames in 1 s"):
            next(reader(0.5, 0.1, frames=100, clip_seconds=1e-6).read(video))

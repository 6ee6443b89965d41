"""Stretches of a video: the frames on the screen in them, where they begin and end, and the windows of a timeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.data.dataset import Item, VideoDataset
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.parts import frames_between, part_between, shown_part, window_spans
from m2clip.data.sampling import ClipSampling
from m2clip.errors import ConfigError
from tests.odd_videos import encode, greys

TIMES = np.arange(50) / 25


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, 50)),
        (0.4, None, (10, 50)),
        (0.39, 0.81, (9, 21)),  # frame 9 is on the screen from 0.36 to 0.40, frame 20 from 0.80 on
        (0.4, 0.8, (10, 20)),
        (None, 0.01, (0, 1)),
        (0.0, 99.0, (0, 50)),
        (1.96, 5.0, (49, 50)),
    ],
)
def test_frames_between_two_times(start: float | None, end: float | None, expected: tuple[int, int]) -> None:
    assert frames_between(TIMES, start_seconds=start, end_seconds=end) == expected


@pytest.mark.parametrize(
    ("start", "end"), [(2.5, None), (-1.0, 1.0), (1.0, 1.0), (1.0, 0.5), (np.nan, None), (0.0, np.nan)]
)
def test_parts_that_are_not_in_the_video(start: float, end: float | None) -> None:
    with pytest.raises(ConfigError, match=r"is not in the video, whose last frame is at 1\.96 s"):
        frames_between(TIMES, start_seconds=start, end_seconds=end)


@given(data=st.data(), count=st.integers(1, 30))
def test_any_part_has_a_frame(data: st.DataObject, count: int) -> None:
    times = np.cumsum(data.draw(st.lists(st.floats(0.001, 1), min_size=count, max_size=count)))
    times -= times[0]
    start = data.draw(st.floats(0, float(times[-1])))
    end = data.draw(st.one_of(st.none(), st.floats(start, start + 10, exclude_min=True)))
    first, stop = frames_between(times, start_seconds=start, end_seconds=end)
    assert 0 <= first < stop <= count


def test_windows_of_a_timeline() -> None:
    assert list(window_spans(5.0, 2.0, 1.5)) == [(0, 2), (1.5, 3.5), (3, 5)]
    assert list(window_spans(1.0, 2.0, 1.0)) == [(0, 1)]
    assert list(window_spans(4.5, 2.0, 1.0)) == [(0, 2), (1, 3), (2, 4), (3, 4.5)]
    assert list(window_spans(5.0, 1.0, 3.0)) == [(0, 1), (3, 4)]
    assert list(window_spans(6.0, 1.0, 3.0)) == [(0, 1), (3, 4)]
    assert len(list(window_spans(sum([0.1] * 30), 1.0, 1.0))) == 3  # 3.0000000000000013 s


def test_a_window_holds_the_frames_that_a_player_shows() -> None:
    times = np.array([0.0, 0.5, 1.0, 3.0])

    def shown(start: float, end: float) -> tuple[int, int]:
        part = shown_part(times, 3.5, start, end)
        return part.first, part.stop

    assert shown(0.0, 1.0) == (0, 2)
    assert shown(0.75, 1.0) == (1, 2)
    assert shown(1.5, 2.5) == (2, 3)  # a gap: the last picture stays on screen
    assert shown(3.0, 3.2) == (3, 4)
    assert shown(7.0, 8.0) == (3, 4)


def test_a_parts_first_frame_is_shown_from_where_the_part_begins() -> None:
    part = part_between(TIMES, 2.0, start_seconds=0.39, end_seconds=0.81)
    assert (part.first, part.stop, part.end_seconds) == (9, 21, 0.81)
    np.testing.assert_array_equal(part.pts_seconds, [0.39, *TIMES[10:21]])
    assert TIMES[9] == 0.36  # the video's own times stay as they are
    whole = part_between(TIMES, 2.0, start_seconds=None, end_seconds=9.0)
    assert (whole.first, whole.stop, whole.end_seconds) == (0, 50, 2.0)


def test_a_part_gives_frames_of_the_video() -> None:
    part = part_between(TIMES, 2.0, start_seconds=1.0, end_seconds=2.0)  # frames 25 to 49
    for sampling, expected in (
        (ClipSampling(3, stride_frames=4), [[25, 29, 33], [41, 45, 49]]),
        (ClipSampling(3, fps=5), [[25, 30, 35], [39, 44, 49]]),
        (ClipSampling(3, clip_seconds=0.8), [[25, 35, 45], [29, 39, 49]]),
    ):
        assert part.test_indices(sampling, 2).tolist() == expected
        drawn = part.train_indices(sampling, np.random.default_rng(0))
        assert 25 <= drawn.min() <= drawn.max() < 50
        assert np.diff(drawn).tolist() == np.diff(expected[0]).tolist()


@pytest.mark.parametrize("way", [{}, {"stride_frames": 3}, {"fps": 5.0}, {"clip_seconds": 1.0}], ids=str)
@pytest.mark.parametrize("train", [False, True])
def test_each_way_stays_in_the_part_that_a_list_names(tmp_path: Path, way: dict[str, Any], train: bool) -> None:
    """40 frames at 10 a second, frame i a grey of 6 i: what a data set gives tells which frames it took."""
    path = encode(tmp_path / "a.mkv", "ffv1", greys(range(0, 240, 6)), rate=10, pix_fmt="bgr0")
    spans = ((None, None), (1.05, 3.0), (2.0, None), (None, 0.4), (3.95, 9.0))
    samples = tuple(Sample(path, 0, start, end) for start, end in spans)
    dataset = VideoDataset(
        Manifest(samples, ("a",), (), "list.txt", ""),  # type: ignore[arg-type]
        frames=4, **way, size=16, mean=(0.5,) * 3, std=(0.5,) * 3, train=train, views_temporal=2,
    )  # fmt: skip
    allowed = ((0, 40), (10, 30), (20, 40), (0, 4), (39, 40))
    for epoch in range(3 if train else 1):
        dataset.set_epoch(epoch)
        for index, (first, stop) in enumerate(allowed):
            item = dataset[index]
            assert isinstance(item, Item)
            taken = np.rint(item.pixels.float().mean((2, 3, 4)).numpy() / 6).astype(int)
            assert first <= taken.min() <= taken.max() < stop
            assert (np.diff(taken, axis=1) >= 0).all()
            if index == 2:  # two seconds are enough for each way
                gap = {"stride_frames": 3, "fps": 2, "clip_seconds": None}.get(next(iter(way), ""))
                assert gap is None or (np.diff(taken, axis=1) == gap).all()

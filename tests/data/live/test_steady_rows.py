"""Frames at a steady rate from pictures as they come: the same ones as of a file, and breaks."""

import numpy as np
import pytest

from m2clip.data.live.steady_rows import SteadyRows
from m2clip.data.steady_frames import SteadyReader
from m2clip.data.video import Video


def rows(times: list[float], rate_fps: float) -> list[tuple[int, int, int]]:
    """(row, k, number of the picture) of pictures at these times."""
    steady: SteadyRows[int] = SteadyRows(rate_fps)
    found = []
    for picture, seconds in enumerate(times):
        found += [(steady.row, *frame) for frame in steady.add(picture, seconds)]
    return found + [(steady.row, *frame) for frame in steady.finish()]


def test_a_frame_is_what_is_shown_at_the_middle_of_its_step() -> None:
    # Moments 0.25, 0.75, 1.25, ...: shown are the pictures of 0, 0.4 and 0.8 s (the last one until 1.2 s).
    assert rows([0.0, 0.4, 0.8], 2) == [(0, 0, 0), (0, 1, 1)]


def test_a_slow_source_repeats_its_pictures() -> None:
    assert rows([0.0, 1.0, 2.0], 2) == [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 1), (0, 4, 2), (0, 5, 2)]


@pytest.mark.parametrize("rate_fps", [1.0, 3.7, 12.5, 25.0, 40.0])
def test_frames_are_those_of_a_file(rate_fps: float) -> None:
    count = 61
    with Video(
        np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 8, 8, 3)).copy()
    ) as video:
        of_file = [int(value) for one in SteadyReader(rate_fps, 8).read(video) for value in one.pixels[:, 0, 0, 0]]
    # No moment of these rates falls onto a picture's time exactly, where rounding would decide.
    assert [picture for _, _, picture in rows([n / 25 for n in range(count)], rate_fps)] == of_file


@pytest.mark.parametrize("jump_seconds", [2.5, -2.5, 1e6])
def test_a_jump_of_the_clock_begins_a_row(jump_seconds: float) -> None:
    after = 10.0 + jump_seconds
    found = rows([9.0, 9.5, 10.0, after, after + 0.5, after + 1.0], 2)
    assert found == [(0, 0, 0), (0, 1, 1), (1, 0, 3), (1, 1, 4), (1, 2, 5)]


def test_pictures_that_come_too_late_by_their_own_time_are_not_used() -> None:
    assert rows([0.0, 0.5, 0.4, 0.5, 1.0], 2) == [(0, 0, 0), (0, 1, 1), (0, 2, 4)]


def test_one_picture_is_one_frame_and_none_is_none() -> None:
    assert rows([7.0], 2) == [(0, 0, 0)]
    assert rows([], 2) == []

"""Frames at a steady rate: which ones, whatever the chunk."""

import numpy as np
import pytest
import torch

from m2clip.data.steady_frames import SteadyReader
from m2clip.data.video import Video


def numbered(count: int) -> np.ndarray:
    """Frame t is all t; as an array it is shown at 25 frames a second."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 32, 32, 3)).copy()


def values(reader: SteadyReader, count: int) -> tuple[list[int], list[float]]:
    with Video(numbered(count)) as video:
        chunks = list(reader.read(video))
    assert all(len(chunk.pixels) <= reader.chunk_frames for chunk in chunks)
    pixels = torch.cat([chunk.pixels for chunk in chunks])
    assert pixels.shape[1:] == (3, 16, 16)
    return pixels[:, 0, 0, 0].tolist(), np.concatenate([chunk.seconds for chunk in chunks]).tolist()


def test_the_frames_that_a_player_shows_at_the_middle_of_each_step() -> None:
    # 1 s; at 0.1, 0.3, 0.5, 0.7, 0.9 s a player shows frames 2.5 -> 2, 7.5 -> 7, 12.5 -> 12, 17, 22.
    assert values(SteadyReader(5, 16), 25) == ([2, 7, 12, 17, 22], pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9]))


def test_a_frame_that_begins_at_the_moment_is_shown() -> None:
    # At 2.5 a second the moments 0.2, 0.6, 1.0, 1.4 s are frames 5, 15, 25, 35, of which 35 / 25 is a hair more than 3.5 / 2.5.
    assert values(SteadyReader(2.5, 16), 40)[0] == [5, 15, 25, 35]


def test_a_faster_rate_than_the_videos_repeats_frames() -> None:
    assert values(SteadyReader(50, 16), 3)[0] == [0, 0, 1, 1, 2, 2]


def test_a_video_shorter_than_half_a_step_gives_its_frame() -> None:
    assert values(SteadyReader(1, 16), 1)[0] == [0]


@pytest.mark.parametrize("chunk_frames", [1, 3, 64])
def test_chunks_change_nothing(chunk_frames: int) -> None:
    assert values(SteadyReader(7.3, 16, chunk_frames), 60) == values(SteadyReader(7.3, 16), 60)

"""Frames at a steady rate: which ones, whatever the chunk."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from m2clip.data.decode.keyed_pictures import KeyedPictures
from m2clip.data.steady_frames import SteadyReader
from m2clip.data.video import Video
from tests.odd_videos import encode
from tests.small_inputs import moving_square


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


@pytest.mark.parametrize("rate", [2.0, 7.0, 24.0])
def test_reading_in_chunks_decodes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    """Five groups of pictures, with pictures that are stored in another order than shown; each chunk goes on where the last ended."""
    options = {"g": "48", "keyint_min": "48", "sc_threshold": "0", "bf": "3"}
    path = encode(tmp_path / "long.mp4", "libx264", moving_square(frames=240), rate=24, options=options)
    starts: list[int] = []
    decoded: list[int | None] = []
    decode = KeyedPictures._decoded_from

    def counted(self: KeyedPictures, key_ordinal: int, key_pts: int) -> Iterator[list[av.VideoFrame]]:
        starts.append(key_ordinal)
        for pictures in decode(self, key_ordinal, key_pts):
            decoded.extend(picture.pts for picture in pictures)
            yield pictures

    monkeypatch.setattr(KeyedPictures, "_decoded_from", counted)
    with Video(path) as video:
        starts.clear()
        decoded.clear()  # opening has decoded the first picture
        pixels = torch.cat([chunk.pixels for chunk in SteadyReader(rate, 16, 4).read(video)])
        assert len(pixels) == 10 * rate
        assert len(decoded) == len(set(decoded)) <= 240
        assert len(starts) == len(set(starts)) <= 5
        assert torch.equal(pixels, torch.cat([chunk.pixels for chunk in SteadyReader(rate, 16, 1000).read(video)]))

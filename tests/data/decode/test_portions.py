"""Frames in portions: each frame once and in order, few large ones at a time, and the same as all together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from m2clip.data.decode import portions
from m2clip.data.decode.portions import in_portions
from m2clip.data.video import Video
from tests.odd_videos import encode, pattern


@pytest.mark.parametrize(("held", "expected"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_portions_are_as_large_as_allowed(monkeypatch: pytest.MonkeyPatch, held: int, expected: list[int]) -> None:
    frames = pattern(7)
    monkeypatch.setattr(portions, "_PORTION_BYTES", held * frames[0].nbytes + 5)
    given, sizes = 0, []

    def giving() -> Iterator[np.ndarray]:
        nonlocal given
        for frame in frames:
            given += 1
            yield frame

    def each(some: np.ndarray) -> np.ndarray:
        sizes.append(len(some))
        assert given == sum(sizes)  # nothing is taken in advance
        return some[:, ::2, :, 0]

    np.testing.assert_array_equal(in_portions(giving(), 7, each), frames[:, ::2, :, 0])
    assert sizes == expected
    np.testing.assert_array_equal(in_portions(giving(), 7, None), frames)


def test_a_frame_larger_than_a_portion_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "_PORTION_BYTES", 10)
    sizes: list[int] = []
    in_portions(iter(pattern(3)), 3, lambda some: (sizes.append(len(some)), some)[1])
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("from_file", [True, False])
def test_frames_of_a_video_by_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_file: bool) -> None:
    monkeypatch.setattr(portions, "_PORTION_BYTES", 2 * 48 * 64 * 3)
    source = encode(tmp_path / "a.mp4", "libx264", pattern(20)) if from_file else pattern(20)
    seen: list[int] = []

    def each(some: np.ndarray) -> np.ndarray:
        seen.append(len(some))
        return some[:, :5, :6].astype(np.int16)

    with Video(source) as video:
        asked = [19, 3, 3, 11, 0]
        made = video.frames(asked, each)
        np.testing.assert_array_equal(made, video.frames(asked)[:, :5, :6])
        assert (made.dtype, seen) == (np.int16, [2, 2])  # four frames, since one is asked for twice
        assert video.frames([], each).shape == (0, 5, 6, 3)

"""Frames that nobody needs are left out, and what is decoded is what a decoding of everything gives, without a second attempt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2clip.data.decode.decoding import FileFrames
from m2clip.data.decode.keyed_pictures import KeyedPictures
from m2clip.data.decode.packets import UnexpectedFrameError
from m2clip.data.video import Video
from tests.odd_videos import encode, pattern, sequential, x264

X265 = "keyint=16:min-keyint=16:bframes=4:scenecut=0:pools=1:log-level=none"
WITH_SPARE_FRAMES: dict[str, Callable[[Path], Path]] = {
    "h264": lambda p: encode(p / "a.mp4", "libx264", pattern(70), options=x264(keyint=20, bframes=3, b_pyramid=2)),
    "h264, one group": lambda p: encode(p / "a.mkv", "libx264", pattern(70), options=x264(bframes=5, scenecut=0)),
    "h264, open groups": lambda p: encode(
        p / "a.mkv", "libx264", pattern(70), options=x264(open_gop=1, keyint=12, min_keyint=12, bframes=3, scenecut=0)
    ),
    "h265": lambda p: encode(p / "a.mp4", "libx265", pattern(40), options={"x265-params": f"{X265}:open-gop=0"}),
    "h265, open groups": lambda p: encode(
        p / "a.mp4", "libx265", pattern(40), options={"x265-params": f"{X265}:open-gop=1"}
    ),
    "mpeg4": lambda p: encode(p / "a.mp4", "mpeg4", pattern(60), options={"bf": "2", "g": "20"}),
}


@pytest.fixture(scope="module", params=WITH_SPARE_FRAMES, ids=lambda name: name.replace(" ", "_"))
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A file, and its pictures by a full decode."""
    path = WITH_SPARE_FRAMES[request.param](tmp_path_factory.mktemp("spare"))
    return path, sequential(path)


@pytest.fixture
def left_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The packets that were left out; a second attempt at decoding is a failure."""
    found: list[int] = []
    ask = KeyedPictures._is_left_out

    def noting(self: KeyedPictures, ordinal: int) -> bool:
        answer = ask(self, ordinal)
        found.extend([ordinal] * answer)
        return answer

    def failing(self: Any, error: Exception) -> None:
        raise AssertionError("decoding did not give what the packets promised") from error

    monkeypatch.setattr(KeyedPictures, "_is_left_out", noting)
    monkeypatch.setattr(FileFrames, "_read_another_way", failing)
    return found


def test_uniform_frames_leave_others_out(known: tuple[Path, list[np.ndarray]], left_out: list[int]) -> None:
    path, pictures = known
    asked = np.linspace(0, len(pictures) - 1, 8).astype(int)
    with Video(path) as video:
        np.testing.assert_array_equal(video.frames(asked), np.stack([pictures[i] for i in asked]))
        assert left_out
        np.testing.assert_array_equal(video.frames(range(len(pictures))), np.stack(pictures))  # none is gone for good


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_frames_in_several_calls(
    known: tuple[Path, list[np.ndarray]], left_out: list[int], data: st.DataObject
) -> None:
    path, pictures = known
    asked = st.lists(st.integers(0, len(pictures) - 1), max_size=5)
    with Video(path) as video:
        for _ in range(3):  # each call begins where the one before left the decoder
            for i, frame in zip(indices := data.draw(asked), video.frames(indices), strict=True):
                np.testing.assert_array_equal(frame, pictures[i])


def test_spare_frames_do_not_reach_the_decoder(tmp_path: Path, left_out: list[int]) -> None:
    options = x264(keyint=100, bframes=1, b_adapt=0, scenecut=0, b_pyramid=0)  # I B P B P ..., stored I P B P B
    path = encode(tmp_path / "a.mp4", "libx264", pattern(41), options=options)
    with Video(path) as video:
        assert video._frames._table.spare.tolist() == [rank % 2 == 1 for rank in range(40)] + [False]  # type: ignore[union-attr]
        frames = video.frames([21, 40])
    np.testing.assert_array_equal(frames, np.stack([sequential(path)[rank] for rank in (21, 40)]))
    # Ranks 1 and 3 were decoded when the first picture was sought; 21 is wanted; the last packet is that of rank 39.
    ranks = sorted(2 * (ordinal // 2) - 1 for ordinal in left_out)
    assert set(ranks) >= {rank for rank in range(7, 39, 2) if rank != 21}
    assert 21 not in ranks


def test_an_unreliable_guess_is_dropped_before_frames_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that calls every frame spare makes the decoder stumble; then everything is decoded, still by the table."""
    path = encode(tmp_path / "a.mp4", "mpeg4", pattern(40), options={"g": "20"})
    pictures = sequential(path)
    with Video(path) as video:
        frames = video._frames
        assert isinstance(frames, FileFrames)
        frames._table.spare[:] = True
        original = KeyedPictures._from_key

        def stumbling(self: KeyedPictures, *key: int) -> Any:
            for rank, picture in original(self, *key):
                if self._left_out.any():
                    raise UnexpectedFrameError
                yield rank, picture

        monkeypatch.setattr(KeyedPictures, "_from_key", stumbling)
        np.testing.assert_array_equal(video.frames([15, 39]), np.stack([pictures[15], pictures[39]]))
        assert isinstance(frames._pictures, KeyedPictures)

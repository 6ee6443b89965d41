"""Sampling by time: what a player shows at moments equally far apart, for any rate, constant or not, and any length."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from m2clip.data import sampling
from m2clip.data.sampling import ClipSampling
from m2clip.data.video import Video
from m2clip.errors import ConfigError, VideoError
from tests.odd_videos import encode, greys, packed_avi

RATES = (1.0, 10.0, 12.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0, 240.0)

counts = st.integers(1, 400)
lengths = st.integers(1, 33)
several = st.integers(1, 6)
strides = st.integers(1, 33)
any_times = st.lists(st.floats(0, 2), min_size=1, max_size=40).map(lambda gaps: np.cumsum(gaps) - gaps[0])
ways = st.one_of(
    st.builds(lambda fps: {"fps": fps}, st.floats(0.05, 200)),
    st.builds(lambda seconds: {"clip_seconds": seconds}, st.floats(0.01, 60)),
)


def ticked(times: np.ndarray, ticks: int) -> np.ndarray:
    """Times as a container keeps them: 1000 ticks a second in Matroska, WebM and FLV, often 600 in QuickTime; 0: exact."""
    return np.rint(times * ticks) / ticks if ticks else times


@given(
    times=any_times, frames=lengths, way=ways, views=st.integers(1, 50), more=st.floats(0, 5), seed=st.integers(0, 9)
)
def test_any_times_give_valid_frames_in_order(
    times: np.ndarray, frames: int, way: dict[str, float], views: int, more: float, seed: int
) -> None:
    clip = ClipSampling(frames, **way)  # type: ignore[arg-type]
    end = float(times[-1]) + more
    test = clip.test_indices(times, views, end_seconds=end)
    train = clip.train_indices(times, np.random.default_rng(seed), end_seconds=end)
    assert (test.shape, train.shape) == ((views, frames), (frames,))
    assert test.dtype == train.dtype == np.int64
    for indices in (*test, train):
        assert 0 <= indices.min() <= indices.max() < len(times)
        assert (np.diff(indices) >= 0).all()
    assert (np.diff(test, axis=0) >= 0).all()  # views go from the start of the video to its end
    span = (frames - 1) * (1 / way["fps"] if "fps" in way else way["clip_seconds"] / max(frames - 1, 1))
    if span >= end:  # no room to move: the clip begins with the video, and its last frame is repeated
        assert (test == test[0]).all()
        assert max(times[test[0, 0]], times[train[0]]) <= 2e-3


@given(times=any_times, frames=lengths, way=ways, seed=st.integers(0, 99))
def test_each_frame_is_on_the_screen_at_its_moment(
    times: np.ndarray, frames: int, way: dict[str, float], seed: int
) -> None:
    clip = ClipSampling(frames, **way)  # type: ignore[arg-type]
    end = float(times[-1]) + 1.0
    gap = 1 / way["fps"] if "fps" in way else way["clip_seconds"] / max(frames - 1, 1)
    start = np.random.default_rng(seed).uniform(0, max(end - (frames - 1) * gap, 0))
    indices = clip.train_indices(times, np.random.default_rng(seed), end_seconds=end)
    for k, index in enumerate(indices):
        moment = start + k * gap
        assert times[index] <= moment + 2e-3 + 1e-9
        assert index == len(times) - 1 or times[index + 1] > moment - 5e-3 - 1e-9


@given(count=counts, rate=st.sampled_from(RATES), frames=lengths, stride=strides, ticks=st.sampled_from((0, 600, 1000)))
@example(count=61, rate=30.0, frames=16, stride=4, ticks=1000)
def test_at_a_constant_rate_the_middle_clip_is_that_of_the_stride(
    count: int, rate: float, frames: int, stride: int, ticks: int
) -> None:
    # Of fewer frames nobody can tell that their times are rounded, nor of 23.976 a second at 600 ticks, where most gaps are 25 of them.
    assume(ticks == 0 or (count > 3 and rate <= 60 and (ticks == 1000 or rate.is_integer())))
    times = ticked(np.arange(count) / rate, ticks)
    expected = sampling.test_indices(count, frames=frames, stride_frames=stride)
    for clip in (
        ClipSampling(frames, fps=rate / stride),
        ClipSampling(frames, clip_seconds=max(frames - 1, 1) * stride / rate),
    ):
        assert clip.test_indices(times, 1, end_seconds=count / rate).tolist() == expected.tolist()


@pytest.mark.case("S1")
@given(
    count=counts, rate=st.sampled_from(RATES), frames=lengths, stride=strides, views=several, seed=st.integers(0, 99)
)
def test_gaps_are_as_asked_until_the_video_ends(
    count: int, rate: float, frames: int, stride: int, views: int, seed: int
) -> None:
    clip = ClipSampling(frames, fps=rate / stride)
    times = np.arange(count) / rate
    test = clip.test_indices(times, views)
    train = clip.train_indices(times, np.random.default_rng(seed))
    for indices in (*test, train):
        np.testing.assert_array_equal(indices, np.minimum(indices[0] + np.arange(frames) * stride, count - 1))
    room = max(count - ((frames - 1) * stride + 1), 0)  # the last frame that a clip can start at
    assert len({tuple(view) for view in test.tolist()}) == min(views, room + 1)  # views differ where they can
    if views > 1:
        assert (test[0, 0], test[-1, 0]) == (0, room)
    assert 0 <= train[0] <= room


@given(
    count=st.integers(1, 200),
    frames=lengths,
    way=ways,
    views=several,
    seed=st.integers(0, 9),
    rate=st.sampled_from(RATES),
)
def test_twice_the_rate_is_the_same_content(
    count: int, frames: int, way: dict[str, float], views: int, seed: int, rate: float
) -> None:
    """Each frame of the one encoding is there twice in the other."""
    clip = ClipSampling(frames, **way)  # type: ignore[arg-type]
    once, twice = np.arange(count) / rate, np.arange(2 * count) / (2 * rate)
    options = {"end_seconds": count / rate}
    assert (clip.test_indices(twice, views, **options) // 2).tolist() == clip.test_indices(
        once, views, **options
    ).tolist()
    drawn = [clip.train_indices(times, np.random.default_rng(seed), **options) for times in (once, twice)]
    assert (drawn[1] // 2).tolist() == drawn[0].tolist()


@pytest.mark.case("D8")
def test_a_clip_of_a_varying_rate_has_equal_gaps_in_time(tmp_path: Path) -> None:
    """A second at 25 frames a second, then 25 frames that are shown five times as long; frame i is a grey of 5 i."""
    ticks = [*range(25), *range(25, 150, 5)]
    path = encode(tmp_path / "slow.mkv", "ffv1", greys(range(0, 250, 5)), ticks=ticks, pix_fmt="bgr0")
    with Video(path) as video:
        times = video.info.pts_seconds
        assert np.allclose(times, np.array(ticks) / 25)
        clip = ClipSampling(26, fps=5)  # 5 of the 6 seconds
        starts = clip.test_indices(times, 2, end_seconds=6.0)
        # from the first frame: each fifth of the first second, then every frame
        assert starts[0].tolist() == [0, 5, 10, 15, 20, *range(25, 46)]
        assert np.allclose(np.diff(times[starts[0]]), 0.2)
        # the last start: the whole second half and what a player shows in front of it
        assert starts[1].tolist() == [24, *range(25, 50)]
        assert video.frames(starts[0])[:, 0, 0, 0].tolist() == [5 * i for i in starts[0]]
        by_number = ClipSampling(26).test_indices(times, 1)[0]
        assert np.ptp(np.diff(times[by_number])) > 0.1  # by number they are not


def test_times_that_a_container_rounds_give_even_gaps() -> None:
    """The example of docs/data/sampling.md: 2/30 s is kept as 0.067 s, after the moment 1/15 s."""
    times = ticked(np.arange(10) / 30, 1000)
    assert ClipSampling(5, fps=15).test_indices(times, 1, end_seconds=10 / 30).tolist() == [[0, 2, 4, 6, 8]]


def test_thirty_and_sixty_frames_a_second_show_the_same(tmp_path: Path) -> None:
    once = encode(tmp_path / "30.mkv", "ffv1", greys(range(0, 240, 4)), rate=30, pix_fmt="bgr0")
    twice = encode(tmp_path / "60.mkv", "ffv1", greys(np.repeat(range(0, 240, 4), 2)), rate=60, pix_fmt="bgr0")
    for clip in (
        ClipSampling(8, fps=7.5),
        ClipSampling(8, fps=5),
        ClipSampling(5, clip_seconds=1.0),
        ClipSampling(4, fps=90),
    ):
        shown = []
        for path in (once, twice):
            with Video(path) as video:
                info = video.info
                indices = clip.test_indices(info.pts_seconds, 3, end_seconds=info.duration_seconds)
                shown.append(video.frames(indices.flatten())[:, 0, 0, 0].tolist())
        assert shown[0] == shown[1]


@pytest.mark.case("D15")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17])
@pytest.mark.parametrize(
    ("way", "gap"),
    [({"fps": 25.0}, 1), ({"fps": 25 / 16}, 16), ({"clip_seconds": 7 / 25}, 1), ({"clip_seconds": 112 / 25}, 16)],
)
def test_short_videos_repeat_their_last_frame(count: int, way: dict[str, float], gap: int) -> None:
    clip = ClipSampling(8, **way)  # type: ignore[arg-type]
    room = max(count - (7 * gap + 1), 0)
    expected = [min(room // 2 + k * gap, count - 1) for k in range(8)]
    times = np.arange(count) / 25
    assert clip.test_indices(times, 1).tolist() == [expected]
    drawn = clip.train_indices(times, np.random.default_rng(1)).tolist()
    assert drawn == [min(drawn[0] + k * gap, count - 1) for k in range(8)]


def test_a_rate_above_the_videos_own_repeats_frames() -> None:
    times = np.arange(4) / 25
    assert ClipSampling(8, fps=50).test_indices(times, 1).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert ClipSampling(8, fps=1000).test_indices(np.zeros(1), 3).tolist() == [[0] * 8] * 3


def test_a_clip_of_one_frame() -> None:
    times = np.arange(50) / 25
    for clip in (ClipSampling(1, fps=2), ClipSampling(1, clip_seconds=9)):
        assert clip.test_indices(times, 1).tolist() == [[24]]  # just before one second of two
        assert clip.test_indices(times, 3).tolist() == [[0], [24], [49]]
        assert {int(clip.train_indices(times, np.random.default_rng(seed))[0]) for seed in range(600)} == set(range(50))


def test_more_views_than_frames() -> None:
    assert ClipSampling(2, fps=25).test_indices(np.arange(3) / 25, 6).tolist() == [[0, 1]] * 3 + [[1, 2]] * 3
    assert ClipSampling(1).test_indices(np.arange(2) / 25, 5).shape == (5, 1)


def test_training_starts_at_any_moment_alike() -> None:
    times = np.arange(20) / 10
    clip = ClipSampling(4, fps=2)  # spans 15 frames of 20: starts 0 to 4
    rng = np.random.default_rng(0)
    starts = np.array([clip.train_indices(times, rng)[0] for _ in range(3000)])
    assert (np.bincount(starts, minlength=5)[:5] > 500).all()
    assert starts.max() == 4


def test_of_frames_with_one_time_the_last_is_shown() -> None:
    times = np.array([0.0, 0.0, 0.5, 0.5, 0.5, 1.0])
    assert ClipSampling(3, fps=2).test_indices(times, 1, end_seconds=1.1).tolist() == [[1, 4, 5]]


def test_the_last_frame_lasts_until_the_end_that_is_given() -> None:
    times = np.array([0.0, 1.0])
    assert ClipSampling(3, fps=1).test_indices(times, 2, end_seconds=10.0).tolist() == [[0, 1, 1], [1, 1, 1]]
    assert ClipSampling(3, fps=1).test_indices(times, 2).tolist() == [[0, 1, 1]] * 2


def test_a_file_without_usable_times_counts_by_its_rate(tmp_path: Path) -> None:
    """Packed B-frames: the times in the file run backwards, so frames are shown at the declared rate."""
    with Video(packed_avi(tmp_path, 40)) as video:
        info = video.info
        assert np.allclose(np.diff(info.pts_seconds), 1 / info.fps)
        clip = ClipSampling(5, fps=info.fps / 3)
        indices = clip.test_indices(info.pts_seconds, 1, end_seconds=info.duration_seconds)
        expected = sampling.test_indices(info.frame_count, frames=5, stride_frames=3)
        assert indices.tolist() == expected.tolist()


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "odd/20bn_smth-smth-1.webm",
        "odd/moviepy_big_buck_bunny_432_433.webm",
        "kinetics_like_samples/flipping_pancake/decord_flipping_a_pancake.mkv",
        "ucf101_samples/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",  # its times run backwards
    ],
)
def test_half_the_rate_of_a_real_video_takes_every_second_frame(shared: Path, name: str) -> None:
    with Video(shared / "data" / "videos" / name) as video:
        info = video.info
    clip = ClipSampling(8, fps=info.fps / 2)
    views = clip.test_indices(info.pts_seconds, 3, end_seconds=info.duration_seconds)
    assert (np.diff(views, axis=1) == 2).all()


@pytest.mark.parametrize("times", [[0.0, 0.5, 0.4], [0.0, np.nan], [0.0, np.inf]])
def test_times_that_are_none(times: list[float]) -> None:
    clip = ClipSampling(2, fps=2)
    with pytest.raises(VideoError, match="the times of its frames are no numbers, or decrease"):
        clip.test_indices(np.array(times), 1)
    with pytest.raises(VideoError, match="sample such a video by stride_frames"):
        clip.train_indices(np.array(times), np.random.default_rng(0))
    assert ClipSampling(2).test_indices(np.array(times), 1).shape == (1, 2)  # counted, times do not matter


def test_what_no_clip_can_be() -> None:
    for arguments, message in (
        ({"frames": 0}, "frames must be 1 or more, not 0"),
        ({"frames": 2.5}, "frames must be a whole number, not 2.5"),
        ({"frames": "8"}, "frames must be a whole number, not '8'"),
        ({"stride_frames": 1.5}, "stride_frames must be a whole number, not 1.5"),
        ({"fps": "4"}, "fps must be a number, not '4'"),
        ({"clip_seconds": [2]}, r"clip_seconds must be a number, not \[2\]"),
        ({"stride_frames": -1}, r"stride_frames must be 0 \(uniform segments\) or more, not -1"),
        ({"fps": 0.0}, "fps must be a number from 0.000001 to 1000000, not 0"),
        ({"fps": -2.0}, "fps must be a number from .*, not -2"),
        ({"fps": float("nan")}, "fps must be a number from .*, not nan"),
        ({"clip_seconds": float("inf")}, "clip_seconds must be a number from .*, not inf"),
        (
            {"stride_frames": 4, "fps": 2.0},
            "stride_frames is 4 and fps is 2, but only one of stride_frames, fps and clip_seconds",
        ),
        ({"fps": 2.0, "clip_seconds": 3.0}, "fps is 2 and clip_seconds is 3, but only one"),
    ):
        with pytest.raises(ConfigError, match=message):
            ClipSampling(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="views must be 1 or more, not 0"):
        ClipSampling(2, fps=2).test_indices(np.zeros(2), 0)
    with pytest.raises(ConfigError, match="cannot sample from 0 frames"):
        ClipSampling(2, fps=2).test_indices(np.zeros(0), 1)

"""Frame indices and crop corners: equal to the reference at test time, valid for every length, with the asked-for gaps."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data import sampling
from m2clip.data.sampling import ClipSampling
from m2clip.errors import ConfigError

GOLDEN = json.loads(Path(__file__).with_name("sampling_golden.json").read_text())
COUNTS = [1, 2, 7, 8, 9, 15, 16, 17, 100]

UNTIMED = settings(deadline=None)  # a busy machine is no failure

lengths = st.one_of(st.sampled_from(COUNTS), st.integers(1, 3000))
clips = st.fixed_dictionaries({"frames": st.integers(1, 33), "stride_frames": st.integers(0, 33)})


def test_test_time_indices_equal_the_reference() -> None:
    for frame_count, frames, stride_frames, views, indices in GOLDEN["temporal"]:
        found = sampling.test_indices(frame_count, frames=frames, stride_frames=stride_frames, views=views)
        assert found.tolist() == indices, (frame_count, frames, stride_frames, views)
        assert found.dtype == np.int64


def test_crop_corners_equal_the_reference() -> None:
    for height, width, size, crops, corners in GOLDEN["spatial"]:
        assert sampling.spatial_corners(height, width, size=size, crops=crops) == [tuple(corner) for corner in corners]


@pytest.mark.shared
@pytest.mark.parity
def test_all_of_the_reference(shared: Path) -> None:
    reference = json.loads((shared / "parity/sampling.json").read_text())
    for case in reference["temporal"]:
        settings = {"frames": case["num_frames"], "stride_frames": case["stride"], "views": case["views"]}
        assert sampling.test_indices(case["total_frames"], **settings).tolist() == case["indices"], case
    for case in reference["spatial"]:
        corners = sampling.spatial_corners(case["height"], case["width"], size=224, crops=case["views"])
        assert [list(corner) for corner in corners] == case["top_left"], case


@UNTIMED
@given(count=lengths, clip=clips, views=st.integers(1, 6))
def test_test_indices_are_valid_and_in_order(count: int, clip: dict[str, int], views: int) -> None:
    indices = sampling.test_indices(count, **clip, views=views)
    assert indices.shape == (views, clip["frames"])
    assert indices.min() >= 0
    assert indices.max() < count
    assert (np.diff(indices, axis=1) >= 0).all()
    assert (np.diff(indices, axis=0) >= 0).all()  # views go from the start of the video to its end


@UNTIMED
@given(count=lengths, clip=clips, seed=st.integers(0, 99))
def test_train_indices_are_valid_and_in_order(count: int, clip: dict[str, int], seed: int) -> None:
    indices = sampling.train_indices(count, **clip, rng=np.random.default_rng(seed))
    assert indices.shape == (clip["frames"],)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < count
    assert (np.diff(indices) >= 0).all()


@pytest.mark.case("D15")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17])
@pytest.mark.parametrize("stride", [0, 1, 16])
def test_short_videos_give_eight_valid_frames_and_repeat_the_last(count: int, stride: int) -> None:
    (test,) = sampling.test_indices(count, frames=8, stride_frames=stride).tolist()
    train = sampling.train_indices(count, frames=8, stride_frames=stride, rng=np.random.default_rng(0)).tolist()
    if stride == 1:
        first = max(count - 8, 0) // 2
        assert test == [min(first + k, count - 1) for k in range(8)]
        assert train == [min(train[0] + k, count - 1) for k in range(8)]
    if stride == 16:  # a window of 113 frames is longer than any of them
        assert test == train == [0, *[min(16 * k, count - 1) for k in range(1, 8)]]
    for indices in (test, train):
        assert len(indices) == 8
        assert indices == sorted(indices)
        assert set(indices) <= set(range(count))
    if stride == 0 and count <= 8:
        assert set(sampling.test_indices(count, frames=8, views=3).flatten().tolist()) == set(range(count))


@pytest.mark.case("S1")
@UNTIMED
@given(
    count=lengths, frames=st.integers(1, 33), stride=st.integers(1, 33), views=st.integers(1, 5), seed=st.integers(0, 9)
)
def test_dense_gaps_are_the_stride_until_the_video_ends(
    count: int, frames: int, stride: int, views: int, seed: int
) -> None:
    train = sampling.train_indices(count, frames=frames, stride_frames=stride, rng=np.random.default_rng(seed))
    test = sampling.test_indices(count, frames=frames, stride_frames=stride, views=views)
    for indices in (train, *test):
        unpadded = indices[0] + np.arange(frames) * stride
        np.testing.assert_array_equal(indices, np.minimum(unpadded, count - 1))  # one rule: the last frame, repeated
        if count >= (frames - 1) * stride + 1:
            assert (np.diff(indices) == stride).all()
        else:
            assert indices[0] == 0


def test_a_window_of_exactly_the_videos_length() -> None:
    assert sampling.test_indices(61, frames=16, stride_frames=4).tolist() == [list(range(0, 61, 4))]
    assert sampling.test_indices(61, frames=16, stride_frames=4, views=3).tolist() == [list(range(0, 61, 4))] * 3


@UNTIMED
@given(segment=st.integers(1, 40), frames=st.integers(1, 16), views=st.integers(1, 8))
def test_uniform_views_differ_where_segments_have_the_room(segment: int, frames: int, views: int) -> None:
    indices = sampling.test_indices(segment * frames + 1, frames=frames, views=views)
    assert len({tuple(view) for view in indices.tolist()}) == min(views, segment + 1)


def test_uniform_views_are_evenly_spaced_around_the_middle() -> None:
    indices = sampling.test_indices(81, frames=8, views=5)  # segments of 10 frames
    assert (indices - np.arange(0, 80, 10)).tolist() == [[1] * 8, [3] * 8, [5] * 8, [7] * 8, [9] * 8]
    assert indices[2].tolist() == sampling.test_indices(81, frames=8)[0].tolist()


@pytest.mark.parametrize("count", [8, 9, 17, 100])
def test_uniform_training_draws_one_frame_of_each_segment(count: int) -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([sampling.train_indices(count, frames=8, rng=rng) for _ in range(600)])
    borders = np.rint(np.arange(9) * (count - 1) / 8)
    assert (drawn >= borders[:-1]).all()
    assert (drawn <= borders[1:]).all()
    assert set(drawn.ravel()) == set(range(count))  # every frame can be drawn
    if count > 8:
        assert (np.diff(drawn, axis=1) > 0).all()  # and none twice where there are enough


def test_training_draws_every_start() -> None:
    rng = np.random.default_rng(0)
    starts = {int(sampling.train_indices(20, frames=4, stride_frames=5, rng=rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3, 4}


def test_the_generator_alone_decides() -> None:
    draws = [sampling.train_indices(100, frames=8, rng=np.random.default_rng(3)).tolist() for _ in range(2)]
    assert draws[0] == draws[1]


@UNTIMED
@given(height=st.integers(8, 60), width=st.integers(8, 60), crops=st.integers(1, 6))
def test_crops_lie_evenly_along_the_longer_side(height: int, width: int, crops: int) -> None:
    corners = sampling.spatial_corners(height, width, size=8, crops=crops)
    assert len(corners) == crops
    long = [corner[1 if width >= height else 0] for corner in corners]
    short = [corner[0 if width >= height else 1] for corner in corners]
    slack = max(height, width) - 8
    assert set(short) == {(min(height, width) - 8) // 2}
    if crops > 1:
        assert (long[0], long[-1]) == (0, slack)
        assert np.ptp(np.diff(long)) <= 1
    else:
        assert long == [slack // 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_count": 0, "frames": 8}, "cannot sample from 0 frames"),
        ({"frame_count": 9, "frames": 0}, "frames must be 1 or more, not 0"),
        ({"frame_count": 9, "frames": 8, "stride_frames": -1}, r"stride_frames must be 0 \(uniform segments\) or more"),
        ({"frame_count": 9, "frames": 8, "views": 0}, "views must be 1 or more, not 0"),
    ],
)
def test_settings_that_make_no_sense(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampling.test_indices(**arguments)


def test_a_crop_that_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="a crop of 8 does not fit into 7x9"):
        sampling.spatial_corners(7, 9, size=8, crops=1)
    with pytest.raises(ConfigError, match="crops must be 1 or more"):
        sampling.spatial_corners(9, 9, size=8, crops=0)


def test_one_way_takes_the_place_of_another() -> None:
    trained = ClipSampling(8, stride_frames=16)
    assert trained.changed() == trained
    assert trained.changed(frames=16) == ClipSampling(16, stride_frames=16)
    assert trained.changed(fps=4) == ClipSampling(8, fps=4)
    assert trained.changed(stride_frames=0) == ClipSampling(8)
    assert ClipSampling(8, fps=4).changed(frames=2, clip_seconds=3) == ClipSampling(2, clip_seconds=3)
    with pytest.raises(ConfigError, match="only one of"):
        trained.changed(stride_frames=2, fps=4)


def test_what_differs_from_training_is_told() -> None:
    uniform, timed = ClipSampling(8), ClipSampling(16, fps=7.5)
    assert uniform.departures(uniform) == []
    assert timed.departures(uniform) == [
        "16 frames a clip are used, the model was trained with 8",
        "frames are taken at 7.5 a second, in training they were taken in uniform segments",
    ]
    assert ClipSampling(8, clip_seconds=2).departures(ClipSampling(8, stride_frames=4)) == [
        "frames are taken over 2 seconds, in training they were taken at a stride of 4"
    ]
    assert timed.document() == {"frames": 16, "stride_frames": 0, "fps": 7.5, "clip_seconds": None}

import csv
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from m2clip.builtin.scenes import COLOURS, ONE_WAY_UP, SHAPES
from m2clip.builtin.shapes import (
    BASE,
    MOTIONS,
    NOVEL,
    NOVEL_VALIDATION,
    PAIRS,
    class_names,
    make_shapes,
    render_motion,
    trajectory,
    write_video,
)
from m2clip.errors import M2CLIPError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shapes")
    return make_shapes(out, train_per_class=1, val_per_class=1, test_per_class=1, frames=8, size=32)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def paths(pair: str, seed: int, thing: str = "red arrow", frames: int = 8):
    """The thing's path through 8 frames: centre [T, 2], radius, angle and opacity [T]."""
    objects = trajectory(thing, pair, frames, torch.Generator().manual_seed(seed))
    return objects.centre[:, 2], objects.radius[:, 2], objects.angle[:, 2], objects.opacity[:, 2]


@pytest.mark.parametrize("pair", PAIRS)
def test_partner_is_the_same_video_played_backwards(pair):
    forward, backward = PAIRS[pair]
    for seed in range(3):
        one = render_motion("green arrow", forward, seed=seed, frames=12, size=48)
        other = render_motion("green arrow", backward, seed=seed, frames=12, size=48)
        assert np.array_equal(one, other[::-1])
        assert not np.array_equal(one, other)


def test_motions_are_what_they_are_called():
    for seed in range(30):
        centre, _, _, _ = paths("across", seed)
        assert centre[-1, 0] - centre[0, 0] > 0.45
        assert abs(centre[-1, 1] - centre[0, 1]) < 0.1
        centre, _, _, _ = paths("vertical", seed)
        assert centre[0, 1] - centre[-1, 1] > 0.45  # up: y runs down
        _, radius, _, _ = paths("size", seed)
        assert radius[-1] > 1.9 * radius[0]
        _, _, _, opacity = paths("fade", seed)
        assert opacity[-1] > opacity[0] + 0.8
        centre, _, _, _ = paths("bounce", seed, frames=48)
        height = centre[0:, 1].max() - centre[:, 1]
        assert height[32:].max() > 1.5 * height[:16].max()


@pytest.mark.parametrize("frames", [8, 24])
def test_turning_is_clockwise_and_never_aliases_in_eight_samples(frames):
    for seed in range(50):
        _, _, angle, _ = paths("spin", seed, frames=frames)
        samples = angle[torch.linspace(0, frames - 1, 8).round().long()]
        assert (samples.diff() >= 0).all()
        assert samples.diff().max() < 2 * math.pi * 0.2
        centre, _, _, _ = paths("circle", seed, frames=frames)
        samples = centre[torch.linspace(0, frames - 1, 8).round().long()]
        steps = samples.diff(dim=0)
        # Clockwise on the screen, y down: each step turns to the right of the one before.
        cross = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
        assert (cross >= -1e-6).all()
        assert cross.max() > 0


def test_the_thing_stays_in_view():
    for pair in PAIRS:
        for seed in range(30):
            centre, _, _, _ = paths(pair, seed)
            assert centre.min() > 0.05
            assert centre.max() < 0.95


def test_classes_pair_objects_with_motions_and_novel_objects_are_new():
    assert len(MOTIONS) >= 12
    assert len(class_names("base")) == 56
    assert len(class_names("novel")) == 24
    assert "an orange square moving left to right" in class_names("base")
    for subset, things in (("base", BASE), ("novel", NOVEL), ("novel-val", NOVEL_VALIDATION)):
        names = class_names(subset)
        assert len(set(names)) == len(names)
        for thing, pairs in things.items():
            colour, shape = thing.split()
            assert colour in COLOURS
            assert shape in SHAPES
            assert len(pairs) >= 2
            assert "spin" not in pairs or shape in ONE_WAY_UP
        assert {pair for pairs in things.values() for pair in pairs} == set(PAIRS)
    for k in range(0, 56, 2):
        thing = class_names("base")[k].split(" ", 3)[:3]
        motions = tuple(name.split(" ", 3)[3] for name in class_names("base")[k : k + 2])
        assert class_names("base")[k + 1].split(" ", 3)[:3] == thing
        assert motions in PAIRS.values()
    assert not set(BASE) & set(NOVEL)
    assert not set(NOVEL_VALIDATION) & (set(BASE) | set(NOVEL))
    base_shapes = {thing.split()[1] for thing in BASE}
    assert sum(thing.split()[1] not in base_shapes for thing in NOVEL) >= len(NOVEL) - 1


def test_lists_classes_and_videos_agree(data):
    for subset, splits in (("base", ("train", "val", "test")), ("novel", ("test",)), ("novel-val", ("val",))):
        classes = rows(data / subset / "classes.csv")
        assert [row["id"] for row in classes] == [str(k) for k in range(len(classes))]
        assert tuple(row["name"] for row in classes) == class_names(subset)
        for split in splits:
            listed = rows(data / subset / f"{split}.csv")
            assert [int(row["label"]) for row in listed] == list(range(len(classes)))
            assert {data / subset / row["path"] for row in listed} == set((data / subset / split).iterdir())
    assert not (data / "novel" / "train.csv").exists()


def test_few_shot_lists_hold_the_first_videos_of_each_class(tmp_path):
    out = make_shapes(tmp_path / "shapes", train_per_class=5, val_per_class=0, test_per_class=0, frames=8, size=32)
    everything = rows(out / "base" / "train.csv")
    for shots in (2, 4):
        few = rows(out / "base" / f"train_{shots}.csv")
        assert few == [row for row in everything if int(row["path"][-7:-4]) < shots]
        assert [int(row["label"]) for row in few] == [label for label in range(56) for _ in range(shots)]
    assert not (out / "base" / "train_8.csv").exists()


def test_videos_decode_to_what_was_asked_and_no_two_are_alike(data):
    first_frames = set()
    videos = sorted(data.rglob("*.mp4"))
    for path in videos:
        video = decoded(path)
        assert video.shape == (8, 32, 32, 3)
        first_frames.add(video.tobytes())
    assert len(first_frames) == len(videos) == 3 * 56 + 24 + 16


def test_encoding_keeps_the_picture(tmp_path):
    from m2clip.builtin.shapes import write_video

    video = render_motion("red star", "moving up", seed=1, frames=8, size=64)
    write_video(tmp_path / "a.mp4", video)
    assert np.abs(decoded(tmp_path / "a.mp4").astype(int) - video).mean() < 6


def test_same_seed_gives_the_same_frames_whatever_the_workers_and_counts(data, tmp_path):
    few = {"val_per_class": 0, "test_per_class": 0, "train_per_class": 1, "frames": 8, "size": 32}
    again = make_shapes(tmp_path / "again", **few, workers=1)
    other = make_shapes(tmp_path / "other", **few, seed=1)
    equal = 0
    for path in sorted((again / "base" / "train").iterdir())[::7]:
        assert np.array_equal(decoded(path), decoded(data / "base" / "train" / path.name))
        equal += np.array_equal(decoded(path), decoded(other / "base" / "train" / path.name))
    assert equal == 0
    assert rows(again / "novel" / "test.csv") == []


def test_finished_folder_is_left_alone_and_other_data_refused(data):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    make_shapes(data, train_per_class=1, val_per_class=1, test_per_class=1, frames=8, size=32)
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    with pytest.raises(M2CLIPError, match="already holds other or unfinished data"):
        make_shapes(data, seed=5, train_per_class=1, val_per_class=1, test_per_class=1, frames=8, size=32)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"frames": 4}, "frames is 4, but must be at least 8"),
        ({"size": 33}, "take 34"),
        ({"workers": 0}, "workers is 0"),
        ({"train_per_class": -1}, "train_per_class is -1"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, argument, message):
    with pytest.raises(M2CLIPError, match=message):
        make_shapes(tmp_path, **argument)


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(M2CLIPError, match=r"file/shapes cannot be written \(Not a directory\); free space"):
        make_shapes(tmp_path / "file" / "shapes")


def test_progress_counts_every_video(tmp_path):
    seen = []
    make_shapes(
        tmp_path / "p", train_per_class=0, val_per_class=0, test_per_class=1, frames=8, size=32,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(k, 80) for k in range(1, 81)]


def test_encoding_several_at_a_time_gives_the_same_bytes(tmp_path):
    """With x264's assembly about one file in fifty differed; 224 files leave such a fault no room."""
    videos = {}
    for k, name in enumerate(class_names("base")):
        _, colour, shape, motion = name.split(" ", 3)
        videos[f"{k}.mp4"] = render_motion(f"{colour} {shape}", motion, seed=k, frames=24, size=80)
    (tmp_path / "alone").mkdir()
    for name, frames in videos.items():
        write_video(tmp_path / "alone" / name, frames)
    with ThreadPoolExecutor(2) as pool:
        for again in range(4):
            folder = tmp_path / str(again)
            folder.mkdir()
            list(pool.map(lambda item, folder=folder: write_video(folder / item[0], item[1]), videos.items()))
            for name in videos:
                assert (folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name

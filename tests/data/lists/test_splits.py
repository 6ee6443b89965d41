"""What two lists share, and what one has twice."""

import os
from pathlib import Path

import numpy as np
import pytest

from m2clip.data.classes import ClassTable
from m2clip.data.lists.splits import _real_places, check_repeats, check_splits
from m2clip.data.manifest import Manifest, Sample, read_manifest
from m2clip.data.places import WebAddress
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import CLASSES, touch, write


def test_good_splits_have_no_warning(tmp_path):
    train = read_manifest(write(tmp_path, "a.mp4 0\nb.mp4 1\nc.mp4 2\n", "train.txt"), classes=CLASSES)
    val = read_manifest(write(tmp_path, "d.mp4 0\n", "val.txt"), classes=CLASSES)
    assert check_splits(train, val) == []


def test_overlap_is_found_through_links_and_dots(tmp_path):
    touch(tmp_path, "videos/a.mp4", "videos/b.mp4", "videos/c.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "videos")
    (tmp_path / "b_link.mp4").symlink_to(tmp_path / "videos/b.mp4")
    train = read_manifest(
        write(tmp_path, "videos/a.mp4 0\nvideos/b.mp4 1\nvideos/c.mp4 2\n", "train.txt"), classes=CLASSES
    )
    val = read_manifest(write(tmp_path, "link/../videos/a.mp4 0\nb_link.mp4 1\nd.mp4 0\n", "val.txt"), classes=CLASSES)
    (warning,) = check_splits(train, val)
    assert "2 of 3 samples" in warning
    assert f"{tmp_path / 'val.txt'}:1, {tmp_path / 'train.txt'}:1" in warning


def test_parts_of_one_file_overlap_only_in_time(tmp_path):
    head = "path,label,start_seconds,end_seconds\n"
    train = read_manifest(write(tmp_path, head + "a.mp4,0,0,5\na.mp4,1,5,9\nb.mp4,2,,\n", "train.csv"), classes=CLASSES)
    apart = read_manifest(write(tmp_path, head + "a.mp4,0,9,\na.mp4,0,20,30\n", "apart.csv"), classes=CLASSES)
    inside = read_manifest(write(tmp_path, head + "a.mp4,0,4,6\nb.mp4,0,1,2\n", "inside.csv"), classes=CLASSES)
    assert check_splits(train, apart) == []
    assert "2 of 2 samples" in check_splits(train, inside)[0]


def test_classes_without_training_samples_are_named(tmp_path):
    train = read_manifest(write(tmp_path, "a.mp4 1\n", "train.txt"), classes=CLASSES)
    val = read_manifest(write(tmp_path, "b.mp4 0\n", "val.txt"), classes=CLASSES)
    warning, single = check_splits(train, val)
    assert "2 of 3 classes have no sample" in warning
    assert "'jump', 'None'" in warning
    assert "are of one class" in single


def test_splits_that_number_classes_differently_are_refused(tmp_path):
    train = read_manifest(write(tmp_path, "path,label\na.mp4,run\nb.mp4,jump\n", "train.csv"))
    val = read_manifest(write(tmp_path, "path,label\nc.mp4,run\n", "val.csv"))
    with pytest.raises(ManifestError, match="number their classes differently"):
        check_splits(train, val)
    assert check_splits(train, read_manifest(tmp_path / "val.csv", classes=ClassTable(train.class_names))) == []


def manifest_of(*samples: Sample) -> Manifest:
    return Manifest(samples, CLASSES.names, (), "list", "")


def test_the_first_pair_is_named_and_each_sample_counts_once(tmp_path: Path) -> None:
    part = tmp_path / "v.mp4"
    train = manifest_of(*(Sample(part, 0, start, start + 2.0, f"t:{start}") for start in (0.0, 4.0, 1.0)))
    val = manifest_of(
        Sample(part, 0, 2.0, 4.0, "v:1"),  # touches parts, and overlaps the last one
        Sample(part, 0, 3.0, 4.0, "v:2"),
        Sample(part, 0, 0.0, None, "v:3"),  # overlaps all
    )
    (warning, *_) = check_splits(train, val)
    assert warning.startswith("2 of 3 samples of list")
    assert warning.endswith("v.mp4 (v:1, t:1.0)")


def test_other_places_than_files_are_compared_by_their_text(tmp_path: Path) -> None:
    train = manifest_of(*(Sample(WebAddress(f"https://example.org/{n}.mp4"), n) for n in range(3)))
    val = manifest_of(Sample(WebAddress("https://example.org/2.mp4"), 2), Sample(tmp_path / "2.mp4", 2))
    assert check_splits(train, val)[0].startswith("1 of 2 samples")


def test_lists_with_class_folders_and_odd_names_overlap_too(tmp_path: Path) -> None:
    table = ClassTable(("jump", "run"), folders=("Jump", "Run"))
    touch(tmp_path, "Jump/a.mp4", "Run/b \u00e9.mp4", "c/d.mp4")
    train = read_manifest(write(tmp_path, "a.mp4 0\nRun/b \u00e9.mp4 1\nc\\d.mp4 1\n", "train.txt"), classes=table)
    val = read_manifest(write(tmp_path, "Jump/a.mp4 0\nb e\u0301.mp4 1\nc/d.mp4 1\n", "val.txt"), classes=table)
    assert check_splits(train, val)[0].startswith("3 of 3 samples")


def test_a_video_that_is_listed_twice(tmp_path: Path) -> None:
    touch(tmp_path, "v/a.mp4", "v/b.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "v/b.mp4")
    lines = ["v/a.mp4 0", "v/b.mp4 1", "v/../v/a.mp4 0", "link.mp4 2", "v/a.mp4 0", "gone.mp4 1", "gone.mp4 0"]
    manifest = read_manifest(write(tmp_path, "\n".join(lines), "list.txt"), classes=CLASSES)
    differ, same = check_repeats(manifest)
    assert differ.startswith(f"2 samples of {tmp_path}/list.txt repeat another under a different label")
    assert differ.endswith(f"first {tmp_path}/v/b.mp4 ({tmp_path}/list.txt:2, {tmp_path}/list.txt:4)")
    assert same.startswith("2 samples of")
    assert "counts double" in same
    assert f"({tmp_path}/list.txt:1, {tmp_path}/list.txt:3)" in same


def test_parts_of_a_video_are_no_repeats(tmp_path: Path) -> None:
    head = "path,label,start_seconds,end_seconds\n"
    apart = read_manifest(write(tmp_path, head + "a.mp4,0,0,5\na.mp4,1,5,9\na.mp4,1,,\n", "a.csv"), classes=CLASSES)
    assert check_repeats(apart) == []
    again = read_manifest(write(tmp_path, head + "a.mp4,0,0,5\na.mp4,0,5,9\na.mp4,0,,5\n", "b.csv"), classes=CLASSES)
    (warning,) = check_repeats(again)
    assert "b.csv:2" in warning
    assert "b.csv:4" in warning


@pytest.mark.parametrize(
    "texts",
    [
        ["a/b.mp4", "a/c d.mp4", "./a/b.mp4", "a//b.mp4", "a/../a/b.mp4", "/x/y.mp4", "//x/y.mp4"],
        ["a/b.mp4", "link/b.mp4", "a/linked.mp4"],
        ["a.mp4", "a/b.mp4"],
        ["/a.mp4"],
        ["a/..", "a/.", "a/"],
        ["a/é.mp4", "a\\b.mp4", "https://example.org/a.mp4"],
    ],
)
def test_places_of_a_list_are_real_places(tmp_path: Path, texts: list[str]) -> None:
    touch(tmp_path, "a/b.mp4", "a/c d.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    if "a/linked.mp4" in texts:
        (tmp_path / "a/linked.mp4").symlink_to(tmp_path / "a/b.mp4")
    path = write(tmp_path, "path,label\n" + "".join(f"{text},0\n" for text in texts), "list.csv")
    samples = read_manifest(path, classes=CLASSES).samples
    (found,) = _real_places(samples)
    assert found.to_pylist() == [os.path.realpath(s.path) if isinstance(s.path, Path) else str(s.path) for s in samples]


def test_overlaps_are_those_of_looking_at_every_pair(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def some(count: int, name: str) -> Manifest:
        spans = np.sort(rng.integers(0, 9, (count, 2)), axis=1) + np.array([0, 1])
        videos = rng.integers(0, 6, count)
        return manifest_of(
            *(
                Sample(tmp_path / f"{v}.mp4", 0, float(a), None if b == 9 else float(b), f"{name}:{n}")
                for n, (v, (a, b)) in enumerate(zip(videos, spans.tolist(), strict=True))
            )
        )

    for _ in range(50):
        train, val = some(8, "train"), some(8, "val")
        pairs = [
            (one.where, other.where)
            for other in val.samples
            for one in train.samples
            if one.path == other.path
            and one.start_seconds < (other.end_seconds or np.inf)
            and other.start_seconds < (one.end_seconds or np.inf)
        ]
        overlap = [sentence for sentence in check_splits(train, val) if "are also in" in sentence]
        if not pairs:
            assert overlap == []
            continue
        assert overlap[0].startswith(f"{len({other for _, other in pairs})} of 8 samples")
        assert overlap[0].endswith(f"({pairs[0][1]}, {pairs[0][0]})")

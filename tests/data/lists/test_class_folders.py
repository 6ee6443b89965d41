"""Folders of classes."""

import os
from pathlib import Path

import pytest

from m2clip.data.manifest import read_manifest
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import touch


def found(folder: Path) -> list[tuple[str, str]]:
    manifest = read_manifest(folder)
    return [(s.path.relative_to(folder).as_posix(), manifest.class_names[s.label]) for s in manifest.samples]


def test_folders_of_images_are_videos(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"run/v1/frame_{n:05d}.jpg" for n in range(3)),
        *(f"run/deep/v2/{n}.PNG" for n in range(2)),
        "run/v3.mp4",
        "run/v3.jpg",  # a thumbnail beside a video
        "jump/v4/img_1.jpeg",
        "jump/v4/.DS_Store",
        "jump/v5/a.mp4",
        "jump/v5/a.jpg",
    )
    assert found(tmp_path) == [
        ("jump/v4", "jump"),
        ("jump/v5/a.mp4", "jump"),
        ("run/v3.mp4", "run"),
        ("run/deep/v2", "run"),
        ("run/v1", "run"),
    ]


def test_images_that_lie_in_the_folder_of_a_class_itself(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.jpg", "run/b.jpg", "jump/v.mp4")
    with pytest.raises(ManifestError, match=r"run holds images itself: make a folder of images for each video"):
        read_manifest(tmp_path)


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "store/x/a.mp4", "data/run/b.mp4")
    (tmp_path / "data/jump").symlink_to(tmp_path / "store")
    (tmp_path / "store/around").symlink_to(tmp_path / "store")
    (tmp_path / "data/run/more").symlink_to(tmp_path / "store/x")
    (tmp_path / "data/run/self").symlink_to(tmp_path / "data/run")
    (tmp_path / "data/run/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "data/run/nowhere").symlink_to(tmp_path / "no folder")
    assert found(tmp_path / "data") == [
        ("jump/x/a.mp4", "jump"),
        ("run/b.mp4", "run"),
        ("run/gone.mp4", "run"),
        ("run/more/a.mp4", "run"),
    ]
    assert [s.path.name for s in read_manifest(tmp_path / "data").missing()] == ["gone.mp4"]


def test_a_folder_of_splits_is_no_folder_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "val/run/b.mp4")
    with pytest.raises(ManifestError, match=r"holds the splits train and val, not classes: give .*train"):
        read_manifest(tmp_path)
    assert found(tmp_path / "train") == [("run/a.mp4", "run")]


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")
def test_a_line_break_in_a_name_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "run/a\nb.mp4")
    with pytest.raises(ManifestError, match=r"line break in its name: rename it") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.case("L1")
def test_names_of_folders_and_files_are_taken_as_they_are(tmp_path: Path) -> None:
    names = ["None", "007", "a, b", "nan", "it's (2) [x]", "über 🙂", "1e5"]
    touch(tmp_path, *(f"{name}/v {name}.MP4" for name in names))
    assert sorted(found(tmp_path)) == sorted((f"{name}/v {name}.MP4", name) for name in names)

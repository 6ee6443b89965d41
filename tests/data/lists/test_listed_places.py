"""Where listed videos lie."""

import unicodedata
from pathlib import Path

from m2clip.data.manifest import read_manifest
from m2clip.data.places import WebAddress
from tests.data.lists.small_lists import CLASSES, pairs, touch, write


def test_lists_of_windows(tmp_path: Path) -> None:
    touch(tmp_path, "jump/a b.mp4", "odd\\name.mp4")
    (there, gone, odd) = read_manifest(
        write(tmp_path, "jump\\a b.mp4 0\r\nD:\\videos\\b.mp4 0\r\nodd\\name.mp4 0\r\n"), classes=CLASSES
    ).samples
    assert there.path == tmp_path / "jump/a b.mp4"
    assert gone.path == tmp_path / "D:\\videos\\b.mp4"
    assert odd.path == tmp_path / "odd\\name.mp4"
    by_folder = read_manifest(write(tmp_path, "jump\\a b.mp4\n", "test.txt"), classes=CLASSES)
    assert (by_folder.samples[0].path, by_folder.samples.labels.tolist()) == (tmp_path / "jump/a b.mp4", [0])
    assert [s.path for s in read_manifest(tmp_path / "list.txt", classes=CLASSES).missing()] == [gone.path]


def test_the_two_forms_of_unicode(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café.mp4") for form in ("NFC", "NFD"))
    touch(tmp_path, apart)
    manifest = read_manifest(write(tmp_path, f"{composed} 0\nö.mp4 0\n"), classes=CLASSES)
    assert manifest.samples[0].path == tmp_path / apart
    assert [s.path.name for s in manifest.missing()] == ["ö.mp4"]


def test_web_addresses(tmp_path: Path) -> None:
    text = "https://example.org/a%20b.mp4?x=1 0\nHTTP://example.org/c.mp4 2\n"
    manifest = read_manifest(write(tmp_path, text), classes=CLASSES, root=tmp_path / "videos")
    assert [s.path for s in manifest.samples] == [
        WebAddress("https://example.org/a%20b.mp4?x=1"),
        WebAddress("HTTP://example.org/c.mp4"),
    ]
    assert manifest.missing() == ()


def test_names_that_no_system_takes_are_missing(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, f"{'a' * 5000}.mp4 0\n"), classes=CLASSES)
    assert len(manifest.missing()) == 1


# --- folders of images


def test_folders_of_images_with_their_number(tmp_path: Path) -> None:
    """`folder frames label`, as lists of frames for TSN, mmaction2 and Something-Something have it."""
    touch(tmp_path, "v 1/img_00001.jpg", "v2/img_00001.jpg")
    manifest = read_manifest(write(tmp_path, "gone 44 1\nv 1 120 0\nv2 37 2\n"), classes=CLASSES)
    assert pairs(manifest) == [("gone", 1), ("v 1", 0), ("v2", 2)]


def test_folders_of_images_without_it(tmp_path: Path) -> None:
    touch(tmp_path, "v 1/img_00001.jpg", "v 2/img_00001.jpg", "v/x")
    text = "v 1 0\nv 2 2\n"
    assert pairs(read_manifest(write(tmp_path, text), classes=CLASSES)) == [("v 1", 0), ("v 2", 2)]
    assert pairs(read_manifest(write(tmp_path, "w 1 0\nw 2 2\n"), classes=CLASSES)) == [("w 1", 0), ("w 2", 2)]
    mixed = "v 1 0\nv 2 2\na.mp4 1\n"
    assert pairs(read_manifest(write(tmp_path, mixed), classes=CLASSES)) == [("v 1", 0), ("v 2", 2), ("a.mp4", 1)]

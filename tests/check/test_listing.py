"""What is checked: lists as training reads them, or a folder of videos without classes."""

import os
from pathlib import Path

import pytest

from m2clip.check.listing import read_listings, unique_files
from m2clip.errors import ManifestError


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def only(root: Path, **others: Path | None) -> tuple[tuple[str, ...], list[str]]:
    """Class names, and the relative paths of the one listing."""
    [listing] = read_listings(root, **others)
    return listing.class_names, [str(sample.path.relative_to(root)) for sample in listing.samples]  # type: ignore[union-attr]


def test_a_folder_a_class_is_read_as_training_reads_it(tmp_path: Path) -> None:
    files(tmp_path, "run/a.mp4", "run/more/b.mp4", "walk/c.avi", "walk/notes.txt", ".hidden/d.mp4")
    (tmp_path / "empty").mkdir()
    assert only(tmp_path) == (("empty", "run", "walk"), ["run/a.mp4", "run/more/b.mp4", "walk/c.avi"])


@pytest.mark.parametrize("extra", ["loose.mp4", "set/walk/d.mp4"])
def test_videos_that_lie_otherwise_have_no_classes(tmp_path: Path, extra: str) -> None:
    files(tmp_path, "run/a.mp4", "run/b.GIF", ".hidden/d.mp4", "run/.e.mp4", extra)
    assert only(tmp_path) == ((), sorted(["run/a.mp4", "run/b.GIF", extra]))


def test_a_class_table_says_that_folders_are_classes(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("run\nwalk\n")
    data = files(tmp_path / "data", "run/deep/a.mp4", "walk/deep/b.mp4")
    assert only(data)[0] == ()
    assert only(data, classes=tmp_path / "names.txt")[0] == ("run", "walk")


def test_lists_to_test_on_take_the_classes_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.mp4,run\nb.mp4,walk\n")
    (tmp_path / "val.csv").write_text("path,label\nc.mp4,walk\n")
    listings = read_listings(tmp_path / "train.csv", root=tmp_path / "videos", val=tmp_path / "val.csv")
    assert [(one.name, one.class_names) for one in listings] == [("data", ("run", "walk")), ("val", ("run", "walk"))]
    assert [sample.label for sample in listings[1].samples] == [1]
    (tmp_path / "val.csv").write_text("path,label\nc.mp4,swim\n")
    with pytest.raises(ManifestError, match=r"val\.csv:2: unknown class 'swim'"):
        read_listings(tmp_path / "train.csv", val=tmp_path / "val.csv")


def test_nothing_to_check_is_an_error(tmp_path: Path) -> None:
    for root, sentence in ((None, "holds no video"), (tmp_path, "leave out root")):
        with pytest.raises(ManifestError, match=sentence):
            read_listings(tmp_path, root=root)
    with pytest.raises(ManifestError, match="does not exist"):
        read_listings(tmp_path / "gone.csv")


def test_one_file_by_several_ways_is_one_video(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    rows = ["link.mp4", "b.mp4", "./a.mp4", "hard.mp4", "gone.mp4", "./gone.mp4", "http://x/a.mp4", "http://x/a.mp4"]
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{row},one\n" for row in rows))
    listings = read_listings(tmp_path / "list.csv")
    places, columns = unique_files(listings)
    assert columns[0].tolist() == [0, 1, 0, 0, 2, 2, 3, 3]
    assert len(places) == 4

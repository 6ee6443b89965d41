"""Where a video lies, as text, and whether it can be there."""

from pathlib import Path

import pytest

from m2clip.data.places import ShardMember, WebAddress, absence, is_absent


def test_places_read_as_people_write_them() -> None:
    assert str(WebAddress("https://host/a.mp4?x=1")) == "https://host/a.mp4?x=1"
    assert str(WebAddress("http://anna:secret@host:80/a@b.mp4?x=@")) == "http://host:80/a@b.mp4?x=@"
    assert str(ShardMember("https://host/a.tar", "x/1.mp4", 512, 9)) == "https://host/a.tar/x/1.mp4"


@pytest.mark.parametrize("name", ["a.mp4", "frames", "läufer ☃"])
def test_files_and_folders_that_are_there(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    assert is_absent(place)
    place.mkdir() if name == "frames" else place.touch()
    assert not is_absent(place)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "gone/../a.mp4", "a.mp4/b.mp4"])
def test_names_that_no_system_allows(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.mp4").touch()
    assert is_absent(tmp_path / name)


def test_what_lies_elsewhere_is_known_only_when_it_is_read() -> None:
    assert not is_absent(WebAddress("http://127.0.0.1:1/gone.mp4"))
    assert not is_absent(ShardMember("http://127.0.0.1:1/gone.tar", "a.mp4", 0, 1))


def test_a_member_is_absent_with_its_shard(tmp_path: Path) -> None:
    member = ShardMember(str(tmp_path / "a.tar"), "a.mp4", 0, 1)
    assert is_absent(member)
    (tmp_path / "a.tar").touch()
    assert not is_absent(member)


def test_a_path_from_windows_is_told_apart() -> None:
    assert absence(Path("d/jump/a.mp4")) == "there is no such file; check the path"
    assert absence(Path("d\\jump\\a.mp4")).startswith("there is no such file, and folders are separated by / here; ")

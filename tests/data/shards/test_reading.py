"""Sets of shards: found by folder, pattern or index, with the labels that a list would give them."""

import os
from pathlib import Path

import pytest

from m2clip.data.classes import ClassTable
from m2clip.data.shards.members import member_bytes
from m2clip.data.shards.reading import names_shards, read_shards
from m2clip.errors import ManifestError
from tests.data.shards.small_shards import write_tar


def two_shards(folder: Path, *, first: str = "run", second: str = "jump") -> Path:
    """Two tar files that use the same keys, as many programs write them."""
    for number, label in enumerate((first, second)):
        members = []
        for key in ("0", "1"):
            members += [(f"{key}.mp4", f"{number}{key}".encode()), (f"{key}.cls", label.encode())]
        write_tar(folder / f"s-{number:03d}.tar", members)
    return folder


@pytest.mark.parametrize(
    "source", ["", "s-{000..001}.tar", "s-*.tar", "s-00{0,1}.tar", "s-00[01].tar", "{s-000,s-001}.tar"]
)
def test_the_ways_to_name_a_set(tmp_path: Path, source: str) -> None:
    found = read_shards(str(two_shards(tmp_path) / source))
    assert found.classes.names == ("jump", "run")
    assert found.samples.labels.tolist() == [1, 1, 0, 0]
    places = [sample.path for sample in found.samples]
    assert [member_bytes(place) for place in places] == [b"00", b"01", b"10", b"11"]  # type: ignore[arg-type]
    assert found.samples[3].where == f"{tmp_path}/s-001.tar/1.mp4"
    assert found.sha256 == read_shards(tmp_path).sha256 != read_shards(tmp_path / "s-001.tar").sha256


def test_a_file_may_have_a_name_like_a_pattern(tmp_path: Path) -> None:
    two_shards(tmp_path)
    os.rename(tmp_path / "s-000.tar", tmp_path / "{a,b}*[0].tar")
    assert read_shards(tmp_path / "{a,b}*[0].tar").samples.labels.tolist() == [0, 0]


def test_what_names_shards(tmp_path: Path) -> None:
    for name in (
        "a.tar",
        "s-{0..3}.tar",
        "https://host.example/a.tar?key=.csv",
        "x/shards.parquet",
        "a.tgz",
        "HTTP://host/shards.parquet",
    ):
        assert names_shards(name), name
    assert names_shards(Path("https://host.example/a.tar"))  # such as the command line makes of it
    for name in ("list.csv", "a.parquet", "https://host.example/list.csv?a.tar", "a.tar.csv", "a.mp4"):
        assert not names_shards(name), name
    assert not names_shards(tmp_path)
    two_shards(tmp_path)
    assert names_shards(tmp_path)
    (tmp_path / ".hidden").mkdir()
    assert names_shards(tmp_path)
    (tmp_path / "run").mkdir()  # folders of classes, beside the tar file that they came in
    assert not names_shards(tmp_path)
    (tmp_path / "shards.parquet").touch()
    assert names_shards(tmp_path)


def test_labels_mean_what_they_mean_in_a_list(tmp_path: Path) -> None:
    two_shards(tmp_path, first="0", second="2")
    with pytest.raises(
        ManifestError, match=r"s-000\.tar/0\.mp4: the labels are ids \(0\), but nothing names the classes"
    ):
        read_shards(tmp_path)
    assert read_shards(tmp_path, classes=ClassTable(("a", "b", "c"))).samples.labels.tolist() == [0, 0, 2, 2]
    with pytest.raises(ManifestError, match=r"s-001\.tar/0\.mp4: label 2 is out of range 0\.\.1"):
        read_shards(tmp_path, classes=ClassTable(("a", "b")))
    two_shards(tmp_path, first="B", second="a_c")
    os.utime(tmp_path / "s-000.tar", (1, 1))
    os.utime(tmp_path / "s-001.tar", (1, 1))
    assert read_shards(tmp_path, classes=ClassTable(("a c", "b"))).samples.labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("s-{000..002}.tar", r"s-002\.tar does not exist: check the path"),
        ("t-*.tar", r"t-\*\.tar fits no file: check the pattern"),
        ("{0..99999999}.tar", "names more than 1000000 shards"),
        ("a.tar.gz", "is compressed, so no video in it can be read by itself: unpack it to a .tar"),
        ("s-00?.tgz", "is compressed"),
        ("shards.parquet", "does not exist: check the path"),
    ],
)
def test_sets_that_are_refused(tmp_path: Path, source: str, sentence: str) -> None:
    two_shards(tmp_path)
    with pytest.raises(ManifestError, match=sentence) as caught:
        read_shards(str(tmp_path / source))
    assert "\n" not in str(caught.value)


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    two_shards(tmp_path)
    path = tmp_path / "s-001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ManifestError, match=r"s-001\.tar is no whole tar file \(unexpected end of data\)"):
        read_shards(tmp_path)

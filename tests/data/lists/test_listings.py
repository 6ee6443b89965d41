"""A list that is read block by block."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.data.lists import listings, text_blocks
from m2clip.data.lists.listings import ListText, joined
from m2clip.data.manifest import read_manifest
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import CLASSES


def outcome(path: Path) -> object:
    """All that reading a list gives: its samples, or the sentence."""
    try:
        manifest = read_manifest(path, classes=CLASSES)
    except ManifestError as error:
        return str(error)
    return list(manifest.samples), manifest.sha256


LINE = st.one_of(
    st.sampled_from(
        ["a.mp4,0", "b c.mp4,2", '"d, e.mp4",1', '"f ""g"".mp4",None', "h.mp4,jump", "", ",", "i.mp4,3", "j.mp4"]
    ),
    st.sampled_from(
        ["a.mp4 0", "b c.mp4 1", "d.mp4\t2", "# a note", "é.mp4 0", '"k.mp4 ,0', 'l",1', '"m\nn.mp4",0', "o.mp4,,5,1"]
    ),
)


@given(
    st.sampled_from(["path,label\n", "path,label,start_seconds,end_seconds\n", "", "\ufeff"]),
    st.lists(LINE, max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(3, 40),
)
def test_blocks_and_columns_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, header: str, lines: list[str], ending: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "list.csv"
    path.write_bytes((header + "\n".join(lines)).replace("\n", ending).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listings, "arrow_rows", lambda part, form: None)
        plain = outcome(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_blocks, "BLOCK", size)
        patch.setattr(text_blocks, "LONGEST_LINE", 1 << 20)
        assert outcome(path) == plain
    assert outcome(path) == plain


def test_labels_are_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "BLOCK", 16)
    path = tmp_path / "list.csv"
    path.write_text("path,label,end_seconds\na.mp4,run,\nb.mp4,jump,2\n\nc.mp4,run,\nd.mp4,hop,\n")
    listing = joined(ListText(path).rows())
    assert (listing.labels, listing.first_rows) == (("run", "jump", "hop"), (0, 1, 3))
    assert listing.codes.tolist() == [0, 1, 0, 2]
    assert listing.lines.tolist() == [2, 3, 5, 6]
    assert listing.start_seconds is None
    assert listing.end_seconds is not None
    assert np.array_equal(listing.end_seconds, [np.nan, 2, np.nan, np.nan], equal_nan=True)


def test_a_list_has_no_more_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "LARGEST", 1 << 20)
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n" * (2 << 20))
    with pytest.raises(ManifestError, match=r"list\.txt holds over 1 MiB of text: split the list"):
        read_manifest(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = []
    monkeypatch.setattr(text_blocks, "BLOCK", 1 << 16)
    monkeypatch.setattr(text_blocks, "LARGEST_UNPACKED", 1 << 20)
    read = gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int = -1) -> bytes:
        unpacked.append(size)
        return read(file, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"a.mp4 0\n" * (4 << 20)))
    with pytest.raises(ManifestError, match=r"bomb\.txt\.gz holds over 1 MiB of text: unpack it, or split the list"):
        read_manifest(path, classes=CLASSES)
    assert 0 < max(unpacked) <= 1 << 16
    assert sum(unpacked) <= (1 << 20) + (1 << 17)


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.txt.gz", "bomb.json.gz"])
def test_lists_of_classes_are_no_bombs_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """20 kB that unpack to 20 MB: a thousand times, and no text of names repeats itself so."""
    monkeypatch.setattr(text_blocks, "SMALL_UNPACKED", 1 << 20)
    path, listed = tmp_path / name, tmp_path / "list.txt"
    path.write_bytes(gzip.compress(b"name\n" + b" " * (20 << 20)))
    assert path.stat().st_size < 30_000
    listed.write_text("a.mp4 0\n")
    with pytest.raises(ManifestError, match=r"bomb\.\w+\.gz holds over [12] MiB of text: unpack it, or split the list"):
        read_manifest(listed, classes=path)


def test_a_packed_list_of_the_usual_kind_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "SMALL_UNPACKED", 0)
    path = tmp_path / "list.csv.gz"
    rows = "".join(f"videos/{n:08d}.mp4,{n % 400}\n" for n in range(20_000))
    path.write_bytes(gzip.compress(b"path,label\n" + rows.encode()))
    classes = tmp_path / "classes.txt"
    classes.write_text("".join(f"class {n}\n" for n in range(400)))
    assert len(read_manifest(path, classes=classes).samples) == 20_000


def test_one_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "BLOCK", 1 << 16)
    monkeypatch.setattr(text_blocks, "LONGEST_LINE", 1 << 17)
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.mp4 0\n" + b"x" * (1 << 18))
    with pytest.raises(ManifestError, match=r"list\.txt:2: a line of over 0 MiB"):
        read_manifest(path, classes=CLASSES)

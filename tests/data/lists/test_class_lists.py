"""One list a class with codes, as HMDB51's official splits."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.data.lists.class_lists import read_class_lists
from m2clip.data.manifest import ClassTable
from m2clip.errors import ManifestError

TABLE = ClassTable(("kick", "brush hair"), folders=("kick", "brush_hair"))


def lists(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}_test_split1.txt").write_text(text)
    return folder / "*_test_split1.txt"


def test_the_code_chooses_the_lines_and_the_file_names_the_class(tmp_path: Path) -> None:
    pattern = lists(
        tmp_path / "splits", {"brush_hair": "a.avi 1 \nb (2).avi 2 \n\n", "kick": "c d.avi 2\ne.avi 0\nf.avi 2\n"}
    )
    (tmp_path / "splits" / "kick_test_split2.txt").write_text("other.avi 2\n")  # another split in the same folder
    manifest = read_class_lists(pattern, code=2, classes=TABLE, root=tmp_path / "videos")
    assert [(str(one.path.relative_to(tmp_path / "videos")), one.label) for one in manifest.samples] == [
        ("brush_hair/b (2).avi", 1), ("kick/c d.avi", 0), ("kick/f.avi", 0),
    ]  # fmt: skip
    assert manifest.samples[0].where == f"{tmp_path}/splits/brush_hair_test_split1.txt:2"
    assert manifest.class_names == ("kick", "brush hair")
    training = read_class_lists(pattern, code=1, classes=TABLE, root=tmp_path / "videos")
    assert [one.path.name for one in training.samples] == ["a.avi"]


def test_without_a_table_the_files_name_the_classes_and_without_a_root_the_videos_lie_beside_them(
    tmp_path: Path,
) -> None:
    pattern = lists(tmp_path, {"b": "x.avi 2\n", "a": "y.avi 2\n"})
    manifest = read_class_lists(pattern, code=2)
    assert manifest.class_names == ("a", "b")
    assert [one.path for one in manifest.samples] == [tmp_path / "a" / "y.avi", tmp_path / "b" / "x.avi"]


def test_the_hash_follows_names_and_contents(tmp_path: Path) -> None:
    first = read_class_lists(lists(tmp_path / "1", {"kick": "a.avi 2\n"}), code=2).sha256
    same = read_class_lists(lists(tmp_path / "2", {"kick": "a.avi 2\n"}), code=2).sha256
    other_text = read_class_lists(lists(tmp_path / "3", {"kick": "b.avi 2\n"}), code=2).sha256
    other_name = read_class_lists(lists(tmp_path / "4", {"hit": "a.avi 2\n"}), code=2).sha256
    assert first == same
    assert len({first, other_text, other_name}) == 3


@pytest.mark.parametrize(
    ("files", "code", "sentence"),
    [
        ({"kick": "a.avi 2\nb.avi\n"}, 2, "kick_test_split1.txt:2: 'b.avi' has no code: write `video code`"),
        ({"kick": "a.avi two\n"}, 2, "kick_test_split1.txt:1: 'a.avi two' has no code"),
        ({"kick": "a.avi 1\n"}, 2, "none of the 1 lists has a video with the code 2: check the code"),
        ({"kik": "a.avi 2\n"}, 2, "kik_test_split1.txt: unknown class 'kik': did you mean 'kick'?"),
        ({}, 2, "fits no file: unpack the lists into"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(
    tmp_path: Path, files: dict[str, str], code: int, sentence: str
) -> None:
    with pytest.raises(ManifestError) as told:
        read_class_lists(lists(tmp_path, files), code=code, classes=TABLE)
    assert sentence in str(told.value)


@pytest.mark.parametrize("pattern", ["list.txt", "*_*.txt", "*/split.txt"])
def test_a_pattern_has_one_star_in_the_file_name(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ManifestError, match="needs one \\* in the file name"):
        read_class_lists(tmp_path / pattern, code=2)


@given(
    st.dictionaries(
        st.sampled_from(["kick", "brush_hair", "a b"]),
        st.lists(
            st.tuples(st.from_regex(r"[a-z#()&!_0-9]([a-z .()_-]{0,8}[a-z])?\.avi", fullmatch=True), st.integers(0, 2)),
            min_size=1,
        ),
        min_size=1,
    )
)
def test_every_line_with_the_code_is_one_sample(files: dict[str, list[tuple[str, int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pattern = lists(Path(folder), {n: "".join(f"{v} {c}\n" for v, c in rows) for n, rows in files.items()})
        wanted = [f"{name}/{video}" for name in sorted(files) for video, code in files[name] if code == 2]
        if not wanted:
            with pytest.raises(ManifestError, match="the code 2"):
                read_class_lists(pattern, code=2)
        else:
            found = read_class_lists(pattern, code=2)
            assert sorted(str(one.path.relative_to(folder)) for one in found.samples) == sorted(wanted)

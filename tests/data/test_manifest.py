"""Folders, CSV files and lists of videos -> samples."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.lists.splits import check_splits
from m2clip.data.manifest import ClassTable, Manifest, Sample, read_manifest
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import CLASSES, pairs, refused, touch, write

# --- lists


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_list_splits_at_the_last_space(tmp_path, ending, mark):
    lines = ["", "drinking (31).mp4 1", "  sub dir/[a] b.avi   0 ", "c.mp4\t2", "", "x, y.mp4 2", ""]
    manifest = read_manifest(write(tmp_path, mark + ending.join(lines).encode()), classes=CLASSES)
    assert pairs(manifest) == [("drinking (31).mp4", 1), ("sub dir/[a] b.avi", 0), ("c.mp4", 2), ("x, y.mp4", 2)]
    assert manifest.samples[1].where == f"{tmp_path / 'list.txt'}:3"
    assert manifest.class_names == CLASSES.names
    assert manifest.source == str(tmp_path / "list.txt")


def test_a_list_without_labels_takes_the_folders_names(tmp_path):
    path = write(tmp_path, "jump/v 1.avi\ndeep/None/v2.mp4\n")
    assert pairs(read_manifest(path, classes=CLASSES)) == [("jump/v 1.avi", 0), ("deep/None/v2.mp4", 2)]
    assert read_manifest(path).class_names == ("None", "jump")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mp4 0\nb.mp4\n", ["list.txt:2", "lacks a label", "`path label`"]),
        ("jump/a.mp4\njump/b.mp4 0\n", ["list.txt:2", "has a label"]),
        ("a.mp4\n", ["list.txt:1", "neither a label nor a folder"]),
        ("a.mp4,0\n", ["list.txt:1", "header path,label"]),
        ("video\n", ["list.txt:1", "lacks a label"]),
        ("a.mp4 0\nb.mp4 3\n", ["list.txt:2", "label 3 is out of range 0..2"]),
        ("a.mp4 1\nb.mp4 2\nc.mp4 3\n", ["list.txt:3", "do labels start at 1?"]),
        ("a.mp4 jumb\n", ["list.txt:1", "did you mean 'jump'?"]),
        ("", ["lists no video"]),
        ("\n \n", ["lists no video"]),
        (b"a.mp4 0\n\nb\xff.mp4 0\n", ["list.txt:3", "0xff", "UTF-8"]),
    ],
)
def test_bad_lists_name_the_line_and_the_remedy(tmp_path, text, words):
    message = refused(write(tmp_path, text), classes=CLASSES)
    for word in words:
        assert word in message


# --- CSV


def test_csv_with_quotes_parts_and_other_columns(tmp_path):
    text = (
        'label,Path,start_seconds,end_seconds,split\n"a, b","my ""best"", take.mp4",,,x\n\n'
        'None,b.mp4,1.5,2\njump, c.mp4 ,3,,y\n,,,,\n"A,_B",d.mp4,0,0.1,\n'
    )
    manifest = read_manifest(write(tmp_path, text, "data.csv"), classes=CLASSES)
    got = [
        (one.path.name, one.label, one.start_seconds, one.end_seconds, one.where.rsplit(":")[-1])
        for one in manifest.samples
    ]
    assert got == [
        ('my "best", take.mp4', 1, None, None, "2"),
        ("b.mp4", 2, 1.5, 2.0, "4"),
        ("c.mp4", 0, 3.0, None, "5"),
        ("d.mp4", 1, 0.0, 0.1, "7"),
    ]


def test_csv_is_known_by_its_header_and_lists_too(tmp_path):
    for name, text in (
        ("x.txt", "path,label\na.mp4,2\n"),
        ("x.csv", "a.mp4 2\n"),
        ("x.list", "\n\npath,label\na.mp4,2\n"),
    ):
        assert pairs(read_manifest(write(tmp_path, text, name), classes=CLASSES)) == [("a.mp4", 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mp4,0\n", ["data.csv:1", "lacks path and label", "start the file with path,label"]),
        ("path,class\na.mp4,0\n", ["data.csv:1", "lacks label"]),
        ("path,label\n", ["lists no video"]),
        ("path,label\n,0\n", ["data.csv:2", "the path is empty"]),
        ("path,label\na.mp4,\n", ["data.csv:2", "the label is empty"]),
        ("path,label\na.mp4\n", ["data.csv:2", "the label is empty"]),
        ("path,label\na,b.mp4,0\n", ["data.csv:2", "3 cells", "double quotes"]),
        ('path,label\n"a.mp4,0\nb.mp4,0\n', ["data.csv:2", "double quotes"]),
        ("path,label,start\na.mp4,0,1\n", ["data.csv:1", "'start'", "'start_seconds'"]),
        ("path,label,end_second\na.mp4,0,1\n", ["data.csv:1", "'end_seconds'"]),
        ("path,label,start_seconds\na.mp4,0,soon\n", ["data.csv:2", "'soon'", "seconds from 0 on"]),
        ("path,label,start_seconds\na.mp4,0,-1\n", ["data.csv:2", "'-1'"]),
        ("path,label,end_seconds\na.mp4,0,nan\n", ["data.csv:2", "'nan'"]),
        ("path,label,end_seconds\na.mp4,0,inf\n", ["data.csv:2", "'inf'"]),
        ("path,label,end_seconds\na.mp4,0,0\n", ["data.csv:2", "end later"]),
        ("path,label,start_seconds,end_seconds\na.mp4,0,2,2\n", ["data.csv:2", "end later"]),
        ("path,label\na.mp4,0\nb.mp4,7\n", ["data.csv:3", "label 7 is out of range 0..2"]),
        ("path,label\na.mp4,jump\nb.mp4,jumping\n", ["data.csv:3", "unknown class 'jumping'", "did you mean 'jump'?"]),
        ("path,label\na.mp4,jump\nb.mp4,0\n", ["data.csv:3", "names or ids throughout"]),
        ("path,label\n" + "a" * 200_000 + ",0\n", ["data.csv:2", "not valid CSV"]),
        ("a" * 200_000, ["data.csv:1", "lacks a label"]),
        ("path,label\na\0.mp4,0\n", ["data.csv:2", "zero byte"]),
    ],
)
def test_bad_csv_names_the_line_and_the_remedy(tmp_path, text, words):
    message = refused(write(tmp_path, text, "data.csv"), classes=CLASSES)
    for word in words:
        assert word in message


# --- classes


def test_names_are_collected_and_sorted_where_no_table_is_given(tmp_path):
    manifest = read_manifest(
        write(tmp_path, 'path,label\na.mp4,run\nb.mp4,None\nc.mp4,007\nd.mp4,"a, b"\n', "data.csv")
    )
    assert manifest.class_names == ("007", "None", "a, b", "run")
    assert [sample.label for sample in manifest.samples] == [3, 1, 0, 2]
    assert manifest.further_texts == ()


def test_ids_need_names(tmp_path):
    assert "nothing names the classes" in refused(write(tmp_path, "a.mp4 0\nb.mp4 1\n"), None)


def test_classes_may_be_a_file_and_carry_texts(tmp_path):
    classes = write(tmp_path, "id,name,text_1\n1,run,someone runs\n0,jump,\n", "classes.csv")
    path = write(tmp_path, "a.mp4 1\n")
    for given_as in (classes, str(classes)):
        manifest = read_manifest(str(path), classes=given_as)
        assert manifest.class_names == ("jump", "run")
        assert manifest.further_texts == ((), ("someone runs",))
    assert manifest.samples[0].label == 1


def test_a_class_file_that_counts_from_one_counts_for_the_list_too(tmp_path):
    classes = write(tmp_path, "1 Archery\n2 Biking\n", "classInd.txt")
    train = read_manifest(write(tmp_path, "Archery/a.avi 1\nBiking/b.avi 2\n", "train.txt"), classes=classes)
    test = read_manifest(write(tmp_path, "Biking/c.avi\n", "test.txt"), classes=classes)
    assert pairs(train) == [("Archery/a.avi", 0), ("Biking/b.avi", 1)]
    assert pairs(test) == [("Biking/c.avi", 1)]


# --- folders


def test_a_folder_per_class(tmp_path):
    touch(
        tmp_path,
        "run/b.mp4",
        "run/a.AVI",
        "run/deep/c d.webm",
        "None/x.mkv",
        "run/notes.txt",
        "run/.hidden.mp4",
        ".git/y.mp4",
        "labels.csv",
    )
    (tmp_path / "empty").mkdir()
    manifest = read_manifest(tmp_path)
    assert manifest.class_names == ("None", "empty", "run")
    assert pairs(manifest) == [("None/x.mkv", 0), ("run/a.AVI", 2), ("run/b.mp4", 2), ("run/deep/c d.webm", 2)]
    assert manifest.samples[0].where == str(tmp_path / "None/x.mkv")
    assert manifest.missing() == ()
    listing = "None/x.mkv\nrun/a.AVI\nrun/b.mp4\nrun/deep/c d.webm\n"
    assert manifest.sha256 == hashlib.sha256(listing.encode()).hexdigest()


def test_folders_with_a_class_table(tmp_path):
    touch(tmp_path, "hand_shaking/a.mp4", "pjump/b.mp4")
    table = ClassTable(("jumping in place", "hand shaking", "run"), folders=("pjump", "", ""))
    assert pairs(read_manifest(tmp_path, classes=table)) == [("hand_shaking/a.mp4", 1), ("pjump/b.mp4", 0)]
    touch(tmp_path, "rnu/c.mp4")
    with pytest.raises(ManifestError, match=r"rnu.c\.mp4: unknown class 'rnu'"):
        read_manifest(tmp_path, classes=table)


def test_folders_with_numbers_for_names(tmp_path):
    touch(tmp_path, "1/a.mp4", "0/b.mp4", "01/c.mp4")
    assert read_manifest(tmp_path).class_names == ("0", "01", "1")
    assert pairs(read_manifest(tmp_path)) == [("0/b.mp4", 0), ("01/c.mp4", 1), ("1/a.mp4", 2)]


def test_bad_folders(tmp_path):
    assert "holds no video" in refused(tmp_path)
    (tmp_path / "run").mkdir()
    assert "holds no video" in refused(tmp_path)
    touch(tmp_path, "run/a.mp4")
    assert "leave out root" in refused(tmp_path, root=tmp_path)
    touch(tmp_path, "stray.mp4")
    with pytest.raises(ManifestError, match=r"stray\.mp4 lies beside the class folders"):
        read_manifest(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names of raw bytes exist on POSIX only")
def test_names_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "run") + b"/\xff.mp4")).touch()
    except OSError:
        pytest.skip("this file system refuses such names itself")
    with pytest.raises(ManifestError, match=r"not UTF-8: rename it"):
        read_manifest(tmp_path)


# --- paths, hashes


def test_paths_are_relative_to_the_list_or_to_root(tmp_path):
    absolute = tmp_path / "elsewhere/c.mp4"
    path = write(tmp_path, f"a.mp4 0\nsub/b.mp4 0\n{absolute} 0\n", "lists/list.txt")
    touch(tmp_path, "lists/a.mp4", "videos/a.mp4", "videos/sub/b.mp4", "elsewhere/c.mp4")
    (beside, missing, same) = read_manifest(path, classes=CLASSES).samples
    assert (beside.path, same.path) == (tmp_path / "lists/a.mp4", absolute)
    assert read_manifest(path, classes=CLASSES).missing() == (missing,)
    assert missing.where.endswith("list.txt:2")
    rooted = read_manifest(path, classes=CLASSES, root=tmp_path / "videos")
    assert rooted.samples[0].path == tmp_path / "videos/a.mp4"
    assert rooted.missing() == ()


def test_the_hash_is_that_of_the_list(tmp_path):
    text = b"a.mp4 0\nb.mp4 1\n"
    plain = read_manifest(write(tmp_path, text), classes=CLASSES)
    packed = read_manifest(write(tmp_path, gzip.compress(text), "list.txt.gz"), classes=CLASSES)
    assert plain.sha256 == packed.sha256 == hashlib.sha256(text).hexdigest()
    assert pairs(plain) == pairs(packed)


def test_sources_that_are_no_list(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.csv")
    assert "is a video: give a list" in refused(tmp_path / "a.MP4")
    assert "'.yaml'" in refused(write(tmp_path, "[]", "x.yaml"))
    assert "''" in refused(tmp_path / "no_such_folder")


def test_a_manifest_checks_itself():
    with pytest.raises(ManifestError, match=r"l:1: label 1 is out of range 0\.\.0"):
        Manifest((Sample(Path("a"), 1, where="l:1"),), ("a",), (), "x", "")


# --- any text

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(NAMES, min_size=1, max_size=3).map(" ".join), st.integers(0, 2)), min_size=1, max_size=6
    )
)
def test_any_paths_come_back(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("t")
    entries = [(path + ".mp4", label) for path, label in entries]
    quoted = "".join('"' + path.replace('"', '""') + f'",{label}\n' for path, label in entries)
    by_csv = read_manifest(write(folder, "path,label\n" + quoted, "a.csv"), classes=CLASSES, root="root")
    by_list = read_manifest(
        write(folder, "".join(f"{path} {label}\n" for path, label in entries)), classes=CLASSES, root="root"
    )
    for manifest in (by_csv, by_list):
        assert [(sample.path, sample.label) for sample in manifest.samples] == [
            (Path("root", path), label) for path, label in entries
        ]


# --- lists of the field


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count", "sizes"), [("weizmann", 10, (60, 30, 90)), ("ut_interaction", 6, (83, 37, 120))]
)
def test_suggested_splits_and_folders_of_real_videos(shared: Path, name, count, sizes):
    classes, root = shared / f"data/labels/{name}_{count}.csv", shared / "data/videos" / name
    lists = shared / "data/splits" / f"{name}_suggested"
    train, test = (read_manifest(lists / f"{split}.txt", classes=classes, root=root) for split in ("train", "test"))
    whole = read_manifest(root, classes=classes)
    assert (len(train.samples), len(test.samples), len(whole.samples)) == sizes
    assert train.missing() == test.missing() == ()
    assert check_splits(train, test) == []
    labels = {sample.path: sample.label for sample in whole.samples}
    assert all(labels[sample.path] == sample.label for sample in (*train.samples, *test.samples))
    assert "unknown class" not in " ".join(check_splits(train, whole))
    assert f"{sizes[0]} of {sizes[2]} samples" in check_splits(train, whole)[0]


@pytest.mark.shared
def test_official_ucf101_lists(shared: Path):
    lists = shared / "data/splits/ucf101_official"
    for number, train_size, test_size in ((1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)):
        train = read_manifest(lists / f"trainlist0{number}.txt.gz", classes=lists / "classInd.txt")
        test = read_manifest(lists / f"testlist0{number}.txt.gz", classes=shared / "data/labels/ucf101_101.csv")
        assert (len(train.samples), len(test.samples)) == (train_size, test_size)
        assert check_splits(train, test) == []
    with pytest.raises(
        ManifestError, match=r"trainlist03.txt.gz:\d+: label 101 is out of range 0..100 .* start at 1\?"
    ):
        read_manifest(lists / "trainlist03.txt.gz", classes=shared / "data/labels/ucf101_101.csv")


@pytest.mark.shared
def test_few_shot_and_base_to_novel_lists(shared: Path):
    folder = shared / "data/splits/vificlip"
    for name, classes, size, count in (
        ("base2novel_splits/k400_splits/fs_base_s1_train.txt.gz", "k400_base", 3200, 200),
        ("base2novel_splits/ssv2_splits/novel_val.txt.gz", "ssv2_novel", 7215, 87),
        ("k600_splits/ZS_split2_K600_eval.txt.gz", "k600_zs160_split2", 13978, 160),
        ("hmdb_splits/train1_few_shot_16.txt", "hmdb51_51", 816, 51),
        ("ucf_splits/val3.txt.gz", "ucf101_101", 3696, 101),
    ):
        manifest = read_manifest(folder / name, classes=shared / f"data/labels/{classes}.csv")
        assert (len(manifest.samples), len({sample.label for sample in manifest.samples})) == (size, count)


def test_a_packed_list_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2clip.data.lists.text_blocks.LARGEST_UNPACKED", 1 << 20)
    path = tmp_path / "long.txt.gz"
    path.write_bytes(gzip.compress(b"\n" * (2 << 20)))
    with pytest.raises(ManifestError, match="over 1 MiB of text"):
        read_manifest(path)


def test_a_file_named_alone_is_taken_from_the_folder_of_its_class(tmp_path: Path) -> None:
    table = ClassTable(("apply lipstick", "archery"), folders=("ApplyLipstick", ""))
    touch(tmp_path / "videos", "ApplyLipstick/in_folder.avi", "flat.avi", "sub/x.avi")
    source = write(tmp_path, "in_folder.avi 0\nflat.avi 0\ngone.avi 0\nsub/x.avi 0\nsub/gone.avi 0\nnamed.avi 1\n")
    manifest = read_manifest(source, classes=table, root=tmp_path / "videos")
    assert [str(sample.path.relative_to(tmp_path / "videos")) for sample in manifest.samples] == [
        "ApplyLipstick/in_folder.avi",
        "flat.avi",  # it lies in the root itself
        "ApplyLipstick/gone.avi",  # in neither: it is missed where such files usually lie
        "sub/x.avi",
        "sub/gone.avi",  # a folder is written: nothing else is tried
        "named.avi",  # its class has no folder
    ]
    assert [sample.path.name for sample in manifest.missing()] == ["gone.avi", "gone.avi", "named.avi"]


@pytest.mark.parametrize(("one", "other"), [("Run", "run"), ("high jump", "high_jump"), ("caf\u00e9", "cafe\u0301")])
def test_two_spellings_of_a_class_are_not_two_classes(tmp_path: Path, one: str, other: str) -> None:
    listed = write(tmp_path, f"path,label\na.mp4,{one}\nb.mp4,sit\nc.mp4,{other}\n", "l.csv")
    message = refused(listed, None)
    assert f"stands as {one!r} at {tmp_path}/l.csv:2: write one of them" in message
    touch(tmp_path, f"folders/{one}/a.mp4", f"folders/{other}/b.mp4")
    assert "write one of them" in refused(tmp_path / "folders", None)


def test_a_class_file_may_have_both_spellings(tmp_path: Path) -> None:
    table = ClassTable(("Run", "run"))
    listed = write(tmp_path, "path,label\na.mp4,run\nb.mp4,Run\n", "l.csv")
    assert read_manifest(listed, classes=table).samples.labels.tolist() == [1, 0]

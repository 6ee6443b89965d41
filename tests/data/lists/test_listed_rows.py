"""Lists as people keep them: spreadsheets, other systems, other software, other people's data sets."""

from pathlib import Path

import pytest

from m2clip.data.lists.class_files import read_classes
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import CLASSES, pairs, refused, touch, write

# --- text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends(tmp_path: Path, encoding: str, ending: str) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    raw = (mark + ending.join(["path,label", "é 🙂.mp4,None", '"x, y.mp4","a, b"', ""])).encode(encoding)
    manifest = read_manifest(write(tmp_path, raw, "list.csv"), classes=CLASSES)
    assert pairs(manifest) == [("é 🙂.mp4", 2), ("x, y.mp4", 1)]
    assert manifest.samples[1].where == f"{tmp_path}/list.csv:3"


def test_marks_of_files_that_were_put_together(tmp_path: Path) -> None:
    assert pairs(read_manifest(write(tmp_path, "\ufeffa.mp4 0\n\ufeffb.mp4 1\n"), classes=CLASSES)) == [
        ("a.mp4", 0),
        ("b.mp4", 1),
    ]


def test_half_of_a_text_in_utf_16(tmp_path: Path) -> None:
    assert "is no whole UTF-16" in refused(write(tmp_path, "a.mp4 0\n".encode("utf-16")[:-1]))
    assert "is no whole UTF-16" in refused(write(tmp_path, "a.mp4 0\n".encode("utf-16")[:4] + b"\x00\xd8\x20\x00"))
    assert "zero byte" in refused(write(tmp_path, "a.mp4 0\n".encode("utf-32")))


@pytest.mark.case("L1")
def test_names_with_spaces_brackets_commas_and_quotes(tmp_path: Path) -> None:
    names = ["drinking (31).mp4", "a, b.mp4", "[x] {y} #1.mp4", "it's.mp4", 'say "hi".mp4', "50% & more;.mp4", "-v.mp4"]
    listed = write(tmp_path, "".join(f"{name} 1\n" for name in names))
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    by_csv = write(tmp_path, "path,label\n" + "".join(f"{name},1\n" for name in quoted), "list.csv")
    by_semicolon = write(tmp_path, "path;label\n" + "".join(f"{name};1\n" for name in quoted), "list2.csv")
    for path in (listed, by_csv, by_semicolon):
        assert pairs(read_manifest(path, classes=CLASSES)) == [(name, 1) for name in names]


@pytest.mark.case("L1")
def test_labels_stay_text(tmp_path: Path) -> None:
    names = ["None", "nan", "NULL", "true", "007", "1e5", "a, b", "N/A", "inf", "🙂", "x"]
    rows = "".join(f'v{n}.mp4,"{name}"\n' for n, name in enumerate(names))
    manifest = read_manifest(write(tmp_path, "path,label\n" + rows, "list.csv"))
    assert [manifest.class_names[label] for label in manifest.samples.labels] == names


@pytest.mark.case("L3")
def test_labels_that_start_at_1(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a.mp4 1\nb.mp4 2\nc.mp4 3\n"))
    assert "list.txt:3: label 3 is out of range 0..2" in message
    assert "do labels start at 1?" in message


@pytest.mark.case("L4")
@pytest.mark.parametrize("form", ["list", "csv"])
def test_a_label_that_is_the_number_of_classes(tmp_path: Path, form: str) -> None:
    table = ClassTable(tuple(f"class {index}" for index in range(51)))
    sign, head = (" ", "") if form == "list" else (",", "path,label\n")
    lines = [f"v{n}.mp4{sign}{n % 51}" for n in range(1000)]
    lines[700] = f"v700.mp4{sign}51"
    message = refused(write(tmp_path, head + "\n".join(lines), "list.csv"), table)
    assert f"list.csv:{701 + (form == 'csv')}: label 51 is out of range 0..50 (51 classes)" in message


@pytest.mark.parametrize("label", ["1.0", "+1", "1,0", "9" * 19])
def test_numbers_that_are_no_ids(tmp_path: Path, label: str) -> None:
    path = write(tmp_path, f'path,label\na.mp4,0\nb.mp4,"{label}"\n', "list.csv")
    assert "list.csv:3: unknown class" in refused(path)
    assert "write a whole number from 0 to 2" in refused(path)
    only = write(tmp_path, f'path,label\nb.mp4,"{label}"\n', "only.csv")
    assert "nothing names the classes" in refused(only, None)  # not a class called 1.0


def test_ids_and_names_in_one_list(tmp_path: Path) -> None:
    assert "list.txt:1: unknown class '0': other labels" in refused(write(tmp_path, "a.mp4 0\nb.mp4 jump\n"))
    assert "list.txt:2" in refused(write(tmp_path, "a.mp4 jump\nb.mp4 -1\n"))


# --- separators and notes


def test_tabs_and_semicolons(tmp_path: Path) -> None:
    wanted = [("my a.mp4", 0), ("b.mp4", 2)]
    for text, name in (
        ("path\tlabel\nmy a.mp4\t0\nb.mp4\t2\n", "list.tsv"),
        ("path\tlabel\nmy a.mp4\t0\nb.mp4\t2\n", "list.txt"),
        ("my a.mp4\t0\nb.mp4\t2\n", "list.tsv"),
        ("my a.mp4 \t 0\nb.mp4 2\n", "list.list"),
        ("Path;Label;split\nmy a.mp4;0;x\nb.mp4;2;y\n", "list.csv"),
        ('"path";"label"\n"my a.mp4";"0"\n"b.mp4";"2"\n', "list.csv"),
        ("path label\nmy a.mp4 0\nb.mp4 2\n", "list.txt"),
        ("video_name class_id\nmy a.mp4 0\nb.mp4 2\n", "list.txt"),
        ('"my a.mp4" 0\n"b.mp4" 2\n', "list.txt"),
    ):
        assert pairs(read_manifest(write(tmp_path, text, name), classes=CLASSES)) == wanted, text
    assert read_manifest(
        write(tmp_path, "path;label;start_seconds\na.mp4;0;1.5\n", "list.csv"), classes=CLASSES
    ).samples[0].start_seconds == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mp4;0\nb.mp4;1\n", ["list.txt:1", "lacks a label", "header path;label"]),
        ("a.mp4, 0\nb.mp4, 1\n", ["list.txt:1", "looks like CSV", "header path,label"]),
        ("a.mp4 0\nb.mp4, 1\n", ["list.txt:2", "looks like CSV"]),
        ("path;label\na.mp4;0;1\n", ["list.txt:2", "3 cells", "holds ';' in double quotes"]),
        ("path;class\na.mp4;0\n", ["list.txt:1", "lacks a label"]),
        ('path,label\na.mp4,"0\nb.mp4,1\nc.mp4,2"\n', ["list.txt:2", "goes over lines", "double quotes"]),
        ("path,label,start_seconds\na.mp4,0,1,5\n", ["list.txt:2", "4 cells"]),
        ("s3://bucket/a.mp4 0\n", ["list.txt:1", "no address of http:// or https://"]),
        ("a.mp4 0\nfile:///a.mp4 0\n", ["list.txt:2", "'file:///a.mp4'"]),
        ("x" * 3000 + "\n", ["list.txt:1", "lacks a label"]),
    ],
)
def test_what_is_doubtful_is_refused_in_few_words(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refused(write(tmp_path, text))
    for word in words:
        assert word in message
    assert len(message) < 400 + len(str(tmp_path))


def test_notes_and_names_that_begin_like_notes(tmp_path: Path) -> None:
    text = "# made by hand, take 2\n#\n\n#1 clap.avi 0\n# 2.mp4 1\n   # a note 7\n#folder 2\n"
    manifest = read_manifest(write(tmp_path, text), classes=CLASSES)
    assert pairs(manifest) == [("#1 clap.avi", 0), ("# 2.mp4", 1), ("#folder", 2)]
    assert manifest.samples[2].where.endswith(":7")
    assert "lists no video" in refused(write(tmp_path, "# nothing yet\n"))


# --- data sets


def test_the_files_of_kinetics(tmp_path: Path) -> None:
    """The layout of kinetics400/train.csv, and of its videos as they are usually kept."""
    text = "label,youtube_id,time_start,time_end,split\njavelin throw,--07WQ2iBlw,1,11,train\nflipping pancake,--33Lscn6sk,4,14,train\n"
    touch(tmp_path, "videos/javelin throw/--07WQ2iBlw_000001_000011.mp4", "flat/--33Lscn6sk_000004_000014.webm")
    source = write(tmp_path, text, "train.csv")
    manifest = read_manifest(source, root=tmp_path / "videos")
    assert manifest.class_names == ("flipping pancake", "javelin throw")
    assert manifest.samples.labels.tolist() == [1, 0]
    assert manifest.samples[0].path == tmp_path / "videos/javelin throw/--07WQ2iBlw_000001_000011.mp4"
    assert [s.path.name for s in manifest.missing()] == ["--33Lscn6sk_000004_000014.mp4"]
    flat = read_manifest(source, root=tmp_path / "flat")
    assert flat.samples[1].path == tmp_path / "flat/--33Lscn6sk_000004_000014.webm"
    underscored = tmp_path / "videos/flipping_pancake/--33Lscn6sk_000004_000014.mkv"
    touch(tmp_path, str(underscored.relative_to(tmp_path)))
    assert read_manifest(source, root=tmp_path / "videos").samples[1].path == underscored
    bad = write(tmp_path, text.replace(",4,14,", ",4.5,14,"), "bad.csv")
    assert "bad.csv:3: time_start is '4.5': give whole seconds" in refused(bad, None)


# --- slips


def test_tables_that_were_put_together_or_padded(tmp_path: Path) -> None:
    text = ",path,label,\n0,a.mp4,jump,,,\n,path,label,\n1,b.mp4,None\n"
    manifest = read_manifest(write(tmp_path, text, "list.csv"))
    assert pairs(manifest) == [("a.mp4", 1), ("b.mp4", 0)]
    assert manifest.class_names == ("None", "jump")
    again = "path,label\na.mp4,jump\nPath,Label\nb.mp4,None\n"
    assert pairs(read_manifest(write(tmp_path, again, "list.csv"))) == [("a.mp4", 1), ("b.mp4", 0)]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x1f\x8b\x08\x00", ["is packed by gzip", ".gz"]),
        (b"PK\x03\x04\x14\x00", ["is a workbook or a zip file", "save it as CSV"]),
        (b"PAR1\x15\x04", ["is Parquet", ".parquet"]),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
            ["is a pointer of Git LFS", "git lfs pull"],
        ),
        (b"\n\n<!DOCTYPE html>\n<html lang=en>", ["is a web page", "raw file"]),
        (b"<html>\n404 found\n", ["is a web page"]),
    ],
)
@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_files_that_are_something_else(tmp_path: Path, raw: bytes, words: list[str], name: str) -> None:
    for message in (refused(write(tmp_path, raw, name), None), _refused_classes(tmp_path / name)):
        for word in words:
            assert word in message


def _refused_classes(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_classes(path)
    return str(caught.value)


def test_two_numbers_behind_a_video(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "a b.mp4 120 0\nc.mp4 90 2\n"))
    assert "list.txt:1: two numbers stand behind 'a b.mp4'" in message
    assert "write `path label`" in message


def test_names_of_several_words_behind_a_space(tmp_path: Path) -> None:
    table = ClassTable(("jump", "high jump", "long jump"))
    text = 'a b.mp4 high jump\nc.AVI jump\nd.mp4 "long jump"\n"e f.mp4"  long jump\n'
    manifest = read_manifest(write(tmp_path, text), classes=table)
    assert pairs(manifest) == [("a b.mp4", 1), ("c.AVI", 0), ("d.mp4", 2), ("e f.mp4", 2)]
    assert read_manifest(write(tmp_path, text)).class_names == ("high jump", "jump", "long jump")
    odd = "my.mp4 copy.mp4 jump\nmy.mp4 frames/v1 jump\n"
    assert pairs(read_manifest(write(tmp_path, odd), classes=table)) == [
        ("my.mp4 copy.mp4", 0),
        ("my.mp4 frames/v1", 0),
    ]
    assert "unknown class 'very high jump'" in refused(write(tmp_path, "a.mp4 very high jump\n"), table)
    assert "colon behind the path" in refused(write(tmp_path, "a.mp4: jump\n"), table)


def test_lists_that_were_put_together_have_two_headers(tmp_path: Path) -> None:
    listed = write(tmp_path, "path label\na.mp4 0\npath label\nb.mp4 1\n")
    assert pairs(read_manifest(listed, classes=CLASSES)) == [("a.mp4", 0), ("b.mp4", 1)]
    labelled = write(tmp_path, "a.mp4 id\nid.mp4 label\n", "names.txt")  # names of classes, not of columns
    assert pairs(read_manifest(labelled)) == [("a.mp4", 0), ("id.mp4", 1)]

"""Lists as people keep them: spreadsheets, other systems, other software, other people's data sets."""

import json
import unicodedata
from pathlib import Path

import pytest

from m2clip.data.class_files import read_classes
from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.data.places import WebAddress
from m2clip.errors import ManifestError

CLASSES = ClassTable(("jump", "a, b", "None"))


def write(folder: Path, text: str | bytes, name: str = "list.txt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pairs(manifest: Manifest) -> list[tuple[str, int]]:
    base = Path(manifest.source).parent
    return [(s.path.relative_to(base).as_posix(), s.label) for s in manifest.samples]


def refused(source: Path, classes: ClassTable | None = CLASSES) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(source, classes=classes)
    assert source.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# --- places


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


def test_the_files_of_something_something(tmp_path: Path) -> None:
    """The layout of something-something-v2-train.json, -labels.json and of the videos (by id, as webm)."""
    names = {"Holding something next to something": "1", "Closing something": "0"}
    labels = write(tmp_path, json.dumps(names), "labels.json")
    train = [
        {
            "id": "78687",
            "label": "holding potato next to vicks vaporub bottle",
            "template": "Holding [something] next to [something]",
            "placeholders": ["potato", "vicks vaporub bottle"],
        },
        {"id": "42326", "label": "closing a box", "template": "Closing [something]", "placeholders": ["a box"]},
    ]
    source = write(tmp_path, json.dumps(train), "train.json")
    touch(tmp_path, "videos/78687.webm", "frames/42326/00001.jpg")
    table = read_classes(labels)
    manifest = read_manifest(source, classes=table, root=tmp_path / "videos")
    assert manifest.samples.labels.tolist() == [1, 0]
    assert manifest.class_names == ("Closing something", "Holding something next to something")
    assert manifest.samples[0].path == tmp_path / "videos/78687.webm"
    assert [(s.path.name, s.where) for s in manifest.missing()] == [("42326.webm", f"{source}:2")]
    assert read_manifest(source, classes=table, root=tmp_path / "frames").samples[1].path == tmp_path / "frames/42326"
    assert "test.json:1: the label is empty" in refused(write(tmp_path, '[{"id": "3"}]', "test.json"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"path": "a.mp4"}', ["is no array of samples"]),
        ('["a.mp4"]', ["list.json:1", "is no sample"]),
        ('[{"path": "a.mp4", "label": 0}, {"label": 1}]', ["list.json:2", "the path is empty"]),
        ('[{"path": "a.mp4", "label": 1.0}]', ["list.json:1", "label is '1.0'", "double quotes"]),
        ('[{"path": "a.mp4", "label": true}]', ["list.json:1", "label is 'True'"]),
        ('[{"path": "a.mp4", "label": 3}]', ["list.json:1", "label 3 is out of range 0..2"]),
        ('[{"path": "a.mp4", "label": 0, "start_seconds": "1"}]', ["list.json:1", "start_seconds is '1'"]),
        ('[{"path": "a.mp4", "label": 0, "end_seconds": NaN}]', ["list.json:1", "end_seconds is 'nan'"]),
        ('[{"path": "a.mp4", "label": 0, "end_seconds": 0}]', ["list.json:1", "end later"]),
        ('[{"path": "a\\nb.mp4", "label": 0}]', ["list.json:1", "goes over lines"]),
        ('[{"path": "a.mp4",\n"label" 0}]', ["list.json:2", "not valid JSON"]),
        ('[{"path": "a.mp4", "path": "b.mp4", "label": 0}]', ["'path' stands twice"]),
        ("[" * 100_000, ["is no list"]),
        ("[]", ["lists no video"]),
    ],
)
def test_bad_json_names_the_sample_and_the_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refused(write(tmp_path, text, "list.json"))
    for word in words:
        assert word in message


def test_json_with_the_columns_of_a_csv(tmp_path: Path) -> None:
    text = '[{"path": "a b.mp4", "label": "None", "end_seconds": 2}, {"path": "c.mp4", "label": "a, b", "start_seconds": 1.5}]'
    samples = read_manifest(write(tmp_path, text, "list.json"), classes=CLASSES).samples
    assert [(s.path.name, s.label, s.start_seconds, s.end_seconds) for s in samples] == [
        ("a b.mp4", 2, None, 2.0),
        ("c.mp4", 1, 1.5, None),
    ]


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

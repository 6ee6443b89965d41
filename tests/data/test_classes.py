"""Class tables, and what a label means."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.classes import ClassTable, read_classes
from m2clip.errors import ManifestError


def write(folder: Path, text: str | bytes, name: str = "classes.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def refused(folder: Path, text: str | bytes, name: str = "classes.csv") -> str:
    with pytest.raises(ManifestError) as caught:
        read_classes(write(folder, text, name))
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


# --- reading


def test_rows_in_any_order_give_the_same_table(tmp_path):
    lines = ["0,run", '1,"a, b"', "2,None", "3,007", '4,say ""hi""', "5,nan", "6,Überholen 🙂"]
    tables = [
        read_classes(write(tmp_path, "\n".join(["id,name", *order]) + "\n"))
        for order in (lines, lines[::-1], lines[3:] + lines[:3])
    ]
    assert tables[0] == tables[1] == tables[2]
    assert tables[0].names == ("run", "a, b", "None", "007", 'say ""hi""', "nan", "Überholen 🙂")
    assert tables[0].texts == ()


def test_further_texts_folders_and_other_columns(tmp_path):
    text = (
        "name,id,dir,text_2,text_1,count\nhand shaking,1,hand_shaking,,two hands meet,5\nhug,0,,arms around,a hug,6\n"
    )
    table = read_classes(write(tmp_path, text))
    assert table.names == ("hug", "hand shaking")
    assert table.texts == (("a hug", "arms around"), ("two hands meet",))
    assert table.folders == ("", "hand_shaking")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_line_ends_and_blank_lines(tmp_path, ending, mark):
    csv_text = ending.join(["", "ID, Name ", "", '0, "x, y"', "   ", "1,b", ",", ""])
    assert read_classes(write(tmp_path, mark + csv_text.encode())).names == ("x, y", "b")
    plain = ending.join(["", "jump ", "", "a, b", "None"])
    assert read_classes(write(tmp_path, mark + plain.encode(), "names.txt")).names == ("jump", "a, b", "None")


def test_text_files_and_packed_files(tmp_path):
    assert read_classes(write(tmp_path, "007\n1 a\n3 b", "names.list")).names == ("007", "1 a", "3 b")
    assert read_classes(write(tmp_path, "id,name\n0,x\n", "table.txt")).names == ("x",)
    assert read_classes(write(tmp_path, gzip.compress(b"x\ny\n"), "names.txt.gz")).names == ("x", "y")
    assert read_classes(str(write(tmp_path, "only\n", "one.TXT"))).names == ("only",)


@pytest.mark.parametrize("first", [0, 1])
def test_numbered_text_files_give_the_ids_that_lists_use(tmp_path, first):
    table = read_classes(write(tmp_path, f"{first} Apply Make Up\n{first + 1} Archery\n", "classInd.txt"))
    assert table == ClassTable(("Apply Make Up", "Archery"), first_id=first)
    assert table.resolve([("l:1", str(first)), ("l:2", str(first + 1)), ("l:3", str(first))]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,name\n0,a\n2,b\n", ["classes.csv:3", "id 2", "no id 1", "0..1", "without a gap"]),
        ("id,name\n1,a\n2,b\n", ["classes.csv:3", "no id 0", "count from 0"]),
        ("id,name\n0,a\n0,b\n", ["classes.csv:3", "id 0", "line 2"]),
        ("id,name\n0,a\n1,a\n", ["classes.csv:3", "'a'", "line 2"]),
        ("id,name\n0,\n", ["classes.csv:2", "no name"]),
        ("id,name\n-1,a\n", ["classes.csv:2", "'-1'"]),
        ("id,name\n0.0,a\n", ["classes.csv:2", "'0.0'"]),
        ("id,name\n,a\n", ["classes.csv:2", "''"]),
        ("id,name\n0,a\n" + "9" * 5000 + ",b\n", ["classes.csv:3", "no whole number"]),
        ("id,name\n0,a, b\n", ["classes.csv:2", "3 cells", "double quotes"]),
        ('id,name\n0,"a\n1,b\n', ["classes.csv:2", "double quotes"]),
        ("id,name\n", ["names no class"]),
        ("\n", ["names no class"]),
        ("0,a\n1,b\n", ["classes.csv:1", "lacks id and name", "start the file with id,name"]),
        ("id,label\n0,a\n", ["classes.csv:1", "lacks name"]),
        ("id,name,name\n0,a,b\n", ["classes.csv:1", "'name' stands twice"]),
        ("id,name,text1\n0,a,b\n", ["classes.csv:1", "'text1'", "text_1"]),
        ("id,name,texts_1\n0,a,b\n", ["classes.csv:1", "'texts_1'", "text_1"]),
        ("id,name,text_0\n0,a,b\n", ["classes.csv:1", "'text_0'", "text_1"]),
        ("id,name,dir\n0,a,b\n1,b,c\n", ["classes.csv:2", "'b'", "line 3"]),
        (b"id,name\n0,caf\xe9\n", ["classes.csv:2", "0xe9", "UTF-8"]),
        (b"id,name\r0,ok\r1,caf\xe9\r", ["classes.csv:3", "0xe9"]),
        ("id,name\n0,a\n".encode("utf-16-le"), ["classes.csv:1", "zero byte"]),
    ],
)
def test_bad_tables_name_the_line_and_the_remedy(tmp_path, text, words):
    message = refused(tmp_path, text)
    for word in words:
        assert word in message


def test_bad_text_files(tmp_path):
    assert "names no class" in refused(tmp_path, " \n\n", "names.txt")
    assert "names.txt:3: the name 'a' stands already in line 1" in refused(tmp_path, "a\n\na\n", "names.txt")
    assert "gzip" in refused(tmp_path, b"plain", "names.txt.gz")
    assert "gzip" in refused(tmp_path, gzip.compress(b"x\ny\n" * 100)[:-9], "cut.txt.gz")
    assert "'.json'" in refused(tmp_path, "[]", "names.json")
    with pytest.raises(ManifestError, match=r"none\.csv does not exist"):
        read_classes(tmp_path / "none.csv")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ManifestError, match="is a folder"):
        read_classes(tmp_path / "folder.txt")


# --- labels


def resolve(table: ClassTable, *labels: str) -> list[int]:
    return table.resolve([(f"list.txt:{line}", label) for line, label in enumerate(labels, start=1)])


def test_ids_and_names():
    table = ClassTable(("hand shaking", "Jump", "run"), folders=("", "jmp", ""))
    assert resolve(table, "2", "0", "1", "00") == [2, 0, 1, 0]
    assert resolve(table, "run", "hand shaking", "jmp", "Jump", "hand_shaking", "JUMP", "Hand__Shaking") == [
        2,
        0,
        1,
        1,
        0,
        1,
        0,
    ]
    assert resolve(table) == []


def test_names_that_look_like_numbers():
    assert resolve(ClassTable(("007", "42")), "42", "007") == [1, 0]
    assert resolve(ClassTable(("0", "1")), "1", "0") == [1, 0]
    assert resolve(ClassTable(("7", "none")), "0", "1", "0") == [0, 1, 0]
    assert ClassTable(("1", "0")).resolve([("", "1"), ("", "0")], by_name=True) == [0, 1]
    with pytest.raises(
        ManifestError, match=r"list.txt:1: the label '1' is the id of one class and the name of another"
    ):
        resolve(ClassTable(("1", "0")), "1", "0")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["1", "2", "3"], ["list.txt:3", "label 3 is out of range 0..2", "do labels start at 1?"]),
        (["0", "3"], ["list.txt:2", "label 3 is out of range 0..2", "belongs to this list"]),
        (["0", "-1"], ["list.txt:2", "label -1 is out of range 0..2"]),
        (["9" * 18], ["list.txt:1", "out of range"]),
        (["jump", "wlak"], ["list.txt:2", "'wlak'", "did you mean 'walk'?"]),
        (["jump", "1"], ["list.txt:2", "'1'", "throughout"]),
        (["1.0"], ["list.txt:1", "'1.0'", "the 3 classes are 'jump', 'walk', 'RUN'"]),
        (["9" * 5000], ["list.txt:1"]),
    ],
)
def test_labels_that_name_no_class(labels, words):
    with pytest.raises(ManifestError) as caught:
        resolve(ClassTable(("jump", "walk", "RUN")), *labels)
    for word in words:
        assert word in str(caught.value)


def test_51_of_51_is_out_of_range():
    with pytest.raises(ManifestError, match=r"list.txt:1: label 51 is out of range 0..50"):
        resolve(ClassTable(tuple(f"class {index}" for index in range(51))), "51")


def test_counting_from_one_by_the_class_file():
    with pytest.raises(ManifestError, match=r"list.txt:2: label 0 is out of range 1..2 .*counts from 1"):
        resolve(ClassTable(("a", "b"), first_id=1), "2", "0")


def test_a_loose_match_must_be_the_only_one():
    table = ClassTable(("Jump", "jump"))
    assert resolve(table, "jump", "Jump") == [1, 0]
    with pytest.raises(ManifestError, match=r"unknown class 'JUMP': it could be 'Jump' or 'jump'"):
        resolve(table, "JUMP")


@pytest.mark.parametrize(
    "wrong", [{"names": ()}, {"names": ("a", " ")}, {"names": ("a", "a")}, {"names": ("a",), "texts": ((), ())}]
)
def test_a_table_checks_itself(wrong):
    with pytest.raises(ManifestError):
        ClassTable(**wrong)


# --- any text

NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20), min_size=1, max_size=8
)


@settings(max_examples=150, deadline=None)
@given(names=NAMES, data=st.data())
def test_any_names_come_back(tmp_path_factory, names, data):
    names = list(dict.fromkeys(name.strip() for name in names if name.strip())) or ["one"]
    rows = [(index, '"' + name.replace('"', '""') + '"') for index, name in enumerate(names)]
    rows = data.draw(st.permutations(rows))
    path = write(tmp_path_factory.mktemp("t"), "id,name\n" + "".join(f"{index},{name}\n" for index, name in rows))
    table = read_classes(path)
    assert table.names == tuple(names)
    assert table.resolve([("", name) for name in names], by_name=True) == list(range(len(names)))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text('0123456789,"\n\r\t idnametx_ä', max_size=80).map(lambda text: ("id,name\n" + text).encode()),
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw):
    folder = tmp_path_factory.mktemp("t")
    for name in ("a.csv", "a.txt"):
        sentence = ""
        try:
            read_classes(write(folder, raw, name))
        except ManifestError as error:
            sentence = str(error)
        assert "\n" not in sentence


@pytest.mark.shared
def test_all_label_lists_of_the_field_read(shared: Path):
    sizes = {path.name: len(read_classes(path).names) for path in sorted((shared / "data/labels").glob("*.csv"))}
    assert sizes["k400_400.csv"] == 400
    assert sizes["k600_zs160_split3.csv"] == 160
    assert sizes["ssv2_174.csv"] == sizes["ssv2_174_m2clip_spelling.csv"] == 174
    assert len(sizes) >= 20
    assert len(read_classes(shared / "data/labels/k600_new220_vs_k400.txt").names) == 220
    weizmann = read_classes(shared / "data/labels/weizmann_10.csv")
    assert (weizmann.names[0], weizmann.folders[0]) == ("bending down", "bend")

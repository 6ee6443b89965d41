"""Files that name classes."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.classes import ClassTable
from m2clip.data.lists.class_files import read_classes
from m2clip.errors import ManifestError
from tests.data.lists import small_lists


def write(folder: Path, text: str | bytes, name: str = "classes.csv") -> Path:
    return small_lists.write(folder, text, name)


def refused(folder: Path, text: str | bytes, name: str = "classes.csv") -> str:
    with pytest.raises(ManifestError) as caught:
        read_classes(write(folder, text, name))
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


# --- reading


def test_names_in_quotes_lose_them(tmp_path: Path) -> None:
    names = ("high jump", "run", 'say "hi"')
    assert read_classes(write(tmp_path, '"high jump"\nrun\nsay "hi"\n', "n.txt")).names == names
    assert read_classes(write(tmp_path, '1 "high jump"\n2 run\n3 say "hi"\n', "n.txt")).names == names
    assert read_classes(write(tmp_path, '"a" or "b"\n" c "\n', "n.txt")).names == ('"a" or "b"', "c")


def test_ids_of_a_json_file_that_count_from_1(tmp_path: Path) -> None:
    assert "2 classes have the ids 0..1, not 1..2: count them from 0" in refused(tmp_path, '{"b": 2, "a": 1}', "c.json")


def test_faults_of_the_table_name_the_file(tmp_path: Path) -> None:
    assert "n.txt: the name of class 0 is empty" in refused(tmp_path, '" "\nrun\n', "n.txt")
    assert "n.json: the classes 0 and 1 are called" in refused(tmp_path, '["caf\u00e9", "cafe\u0301"]', "n.json")


@pytest.mark.case("L7")
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
    assert "'.yaml'" in refused(tmp_path, "[]", "names.yaml")
    with pytest.raises(ManifestError, match=r"none\.csv does not exist"):
        read_classes(tmp_path / "none.csv")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ManifestError, match="is a folder"):
        read_classes(tmp_path / "folder.txt")


# --- as people keep them


@pytest.mark.case("L1", "L7")
def test_names_stay_text_in_every_form(tmp_path: Path) -> None:
    names = (
        "None",
        "nan",
        "NULL",
        "true",
        "007",
        "1e5",
        "a, b",
        "1.0",
        "NaN",
        "-",
        "🙂 é",
        "it's [x] (y)",
        "null",
        "inf",
    )
    rows = [f'{index},"{name}"' for index, name in enumerate(names)]
    for order in (rows, rows[::-1], rows[5:] + rows[:5]):
        assert read_classes(write(tmp_path, "id,name\n" + "\n".join(order))).names == names
    assert read_classes(write(tmp_path, "\n".join(names), "names.txt")).names == names
    assert read_classes(write(tmp_path, json.dumps(names), "names.json")).names == names
    by_name = {name: str(index) for index, name in enumerate(names)}
    assert read_classes(write(tmp_path, json.dumps(by_name), "labels.json")).names == names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    for text, name in (
        ('id;name;text_1\r\n1;"a; b";x, y\r\n0;café;\r\n', "classes.csv"),
        ("id\tname\ttext_1\n1\ta; b\tx, y\n0\tcafé\t\n", "classes.tsv"),
        ("id\tname\ttext_1\n1\ta; b\tx, y\n0\tcafé\t\n", "classes.txt"),
    ):
        table = read_classes(write(tmp_path, text.encode(encoding), name))
        assert table == ClassTable(("café", "a; b"), ((), ("x, y",)))


@pytest.mark.case("L7")
def test_numbered_lines_may_stand_in_any_order(tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, "2 c\n0 a\n1 b d\n", "n.txt")) == ClassTable(("a", "b d", "c"))
    assert read_classes(write(tmp_path, "3 c\n1 a\n2\tb\n", "n.txt")) == ClassTable(("a", "b", "c"), first_id=1)


def test_numbers_may_have_points_and_names_may_end_in_numbers(tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, "1. a\n2. b c\n", "n.txt")) == ClassTable(("a", "b c"), first_id=1)
    assert read_classes(write(tmp_path, "0: a\n1: b\n", "n.txt")) == ClassTable(("a", "b"))
    assert read_classes(write(tmp_path, "class 0\nclass 1\n", "n.txt")).names == ("class 0", "class 1")
    assert read_classes(write(tmp_path, "area 51\ntop 10\n", "n.txt")).names == ("area 51", "top 10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 a\n2 b\n", ["n.txt:2", "not 0 to 1 nor 1 to 2", "without a gap", "CSV id,name"]),
        ("5 a\n6 b\n", ["n.txt:1", "without a gap"]),
        ("1 a\n1 b\n", ["n.txt:2", "id 1 stands already in line 1"]),
        ("1 a\n2 a\n", ["n.txt:2", "the name 'a' stands already in line 1"]),
        ("0,a\n1,b c\n", ["n.txt:1", "look like CSV", "header such as id,name"]),
        ("a;0\nb;1\n", ["n.txt:1", "look like CSV"]),
        ("jump 1\nrun 0\n", ["n.txt:1", "'jump 1'", "id behind the name", "`number name`"]),
        ("name\njump\nrun\n", ["n.txt:1", "'name' would be a class", "remove the header"]),
        ("id name\n0 a\n1 b\n", ["n.txt:1", "'id name' would be a class"]),
        ("# my classes\na\nb\n", ["n.txt:1", "'# my classes' would be a class", "remove the note"]),
        ("a" * 500 + "\n" + "a" * 500, ["n.txt:2", "'..."]),
    ],
)
def test_doubtful_text_files_are_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refused(tmp_path, text, "n.txt")
    for word in words:
        assert word in message
    assert len(message) < 400 + len(str(tmp_path))


def test_words_that_are_no_note(tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, "#1 fan\n#hashtag\n1 person\n", "n.txt")).names == (
        "#1 fan",
        "#hashtag",
        "1 person",
    )


def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="in two forms of Unicode"):
        read_classes(write(tmp_path, "caf\u00e9\ncafe\u0301\n", "n.txt"))


def test_a_name_over_two_lines_is_refused(tmp_path: Path) -> None:
    assert "classes.csv:2: the name 'a\\n1,b' goes over lines" in refused(tmp_path, 'id,name\n0,"a\n1,b"\n')


# --- JSON


def test_something_something_names(tmp_path: Path) -> None:
    """The layout of something-something-v2-labels.json."""
    text = '{\n"Approaching something with your camera":"0",\n"Attaching something to something":"1",\n"Bending something":"2"\n}'
    assert read_classes(write(tmp_path, text, "labels.json")).names == (
        "Approaching something with your camera",
        "Attaching something to something",
        "Bending something",
    )


def test_kinetics_names(tmp_path: Path) -> None:
    """The layout of kinetics_classnames.json: some names have quotes of their own, and ids stand in no order."""
    text = json.dumps({'"playing guitar"': 2, "abseiling": 0, '"air drumming"': 1})
    assert read_classes(write(tmp_path, text, "kinetics.json")).names == ("abseiling", "air drumming", "playing guitar")
    assert read_classes(write(tmp_path, '{"1": "b", "0": "a"}', "ids.json")).names == ("a", "b")
    assert read_classes(write(tmp_path, gzip.compress(b'["a", "b"]'), "ids.json.gz")).names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", ["names no class", '{"jump": 0, "run": 1}']),
        ("{}", ["names no class"]),
        ('"a"', ["names no class"]),
        ('["a", "a"]', ["'a' stands there twice"]),
        ('["a", " "]', ["is empty"]),
        ('["a", null]', ["is empty"]),
        ('["a", ["b"]]', ["put it in double quotes"]),
        ('["a", true]', ["'True'", "put it in double quotes"]),
        ('{"a": 0, "b": 2}', ["ids 0..1", "without a gap"]),
        ('{"a": 0, "b": 0}', ["'a' and 'b' have the id 0"]),
        ('{"a": 0, "a": 1}', ["'a' stands twice"]),
        ('{"a": "x", "b": "y"}', ["'x'", "no whole number"]),
        ('{"a": 0,\n"b" 1}', [".json:2", "not valid JSON"]),
        ("[" * 100_000, ["is no list"]),
        ("[" + "9" * 5000 + "]", ["is no list"]),
        ('["\\ud800"]', ["mend the escapes"]),
    ],
)
def test_bad_json_names_the_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refused(tmp_path, text, "c.json")
    for word in words:
        assert word in message


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

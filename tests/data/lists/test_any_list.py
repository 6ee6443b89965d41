"""Whatever a list or a class file holds: it is read, or refused in one line that names the file."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m2clip.data.lists.class_files import read_classes
from m2clip.data.lists.class_lists import read_class_lists
from m2clip.data.manifest import read_manifest
from m2clip.errors import ManifestError
from tests.data.lists.small_lists import CLASSES

ENDINGS = (".csv", ".tsv", ".txt", ".list", ".json", ".parquet", ".txt.gz", ".csv.gz", ".json.gz")

SIGNS = st.text("012abj .,;\t\"'#\n\r\\/:[]{}+-ée\u0301\u00a0\u2028\x85\x1c\ufeff", max_size=60)
STARTS = st.sampled_from(
    [
        "",
        "path,label\n",
        "path;label\n",
        "path\tlabel\n",
        "id,name\n",
        "id;name;text_1;dir\n",
        "\ufeff",
        "label,youtube_id,time_start,time_end\n",
    ]
)
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["path", "label", "id", "template", "0", "1"]), st.text(max_size=3)),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
CONTENTS = st.one_of(
    st.binary(max_size=80),
    st.tuples(STARTS, SIGNS, st.sampled_from(["utf-8", "utf-16", "utf-16-le", "latin-1"])).map(
        lambda drawn: (drawn[0] + drawn[1]).encode(drawn[2], errors="ignore")
    ),
    JSONS.map(lambda value: json.dumps(value).encode()),
)


def read(path: Path) -> list[str]:
    """The sentences of all readers that this file is for; where one reads it, all that it read is looked at."""
    said = []
    for reader in (
        lambda: list(read_manifest(path, classes=CLASSES).samples),
        lambda: list(read_manifest(path).missing()),
        lambda: read_classes(path).resolve([("l:1", "0")]),
        lambda: list(read_class_lists(path.with_name("*" + path.name), code=1).samples),
    ):
        try:
            reader()
        except ManifestError as error:
            said.append(str(error))
    return said


@settings(max_examples=300)
@given(CONTENTS, st.sampled_from(ENDINGS), st.booleans())
@example(b"\xff\xfe", ".csv", False)
@example(b"PAR1PAR1", ".parquet", False)
@example(b"\x1f\x8b\x08\x00", ".txt.gz", False)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, ending: str, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("t") / f"a{ending}"
    path.write_bytes(gzip.compress(raw) if packed and ending.endswith(".gz") else raw)
    for sentence in read(path):
        assert "\n" not in sentence
        assert "l:1" in sentence or path.stem in sentence
        assert len(sentence) < 1000


LONG = 1 << 18  # characters: what takes quadratic time would not end


@pytest.mark.parametrize("ending", [".csv", ".txt", ".json"])
@pytest.mark.parametrize(
    "text",
    [
        "a" + " " * LONG + "b c",
        "a " * LONG,
        "a 1 " + "\t " * LONG + "x",
        '"' * LONG,
        '"' + ",\n" * LONG,
        "path,label\n" + '"a' * LONG,
        "path,label\n" + '"a\n' * LONG,
        "path,label\n" + "," * LONG,
        "path;label\n" + "\n" * LONG,
        "path,label\n" + "a,b\n" * (LONG // 16) + '"',
        "id,name\n0," + "n" * LONG,
        "0 " + "n" * LONG + "\n1 b",
        "#" * LONG,
        "# \n" * LONG,
        "\r" * LONG,
        "\ufeff" * LONG,
        "[" + '"a",' * (LONG // 16) + '"b"]',
        '{"a":0,"b":' + "1" * LONG + "}",
    ],
    ids=range(18),
)
def test_long_texts_take_linear_time(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text(text, "utf-8")
    for sentence in read(path):
        assert "\n" not in sentence
        assert len(sentence) < 1000


NAMES = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)


@settings(max_examples=100)
@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], sign: str) -> None:
    """Paths and names of classes with signs of every kind, in CSV of each separator and in JSON."""
    folder = tmp_path_factory.mktemp("t")
    rows = [(f"{path}.mp4", f"{label}x") for path, label in rows]
    lines = [sign.join(('"' + cell.replace('"', '""') + '"') for cell in row) for row in rows]
    (folder / "a.csv").write_text("\n".join([f"path{sign}label", *lines]), "utf-8", newline="")
    (folder / "a.json").write_text(json.dumps([{"path": path, "label": label} for path, label in rows]), "utf-8")
    for name in ("a.csv", "a.json"):
        try:
            manifest = read_manifest(folder / name, root="root")
        except ManifestError as error:
            if any(words in str(error) for words in ("two forms of Unicode", "no address", "labels are ids")):
                continue
            raise
        assert [(str(s.path), manifest.class_names[s.label]) for s in manifest.samples] == [
            (str(Path("root", path)), label) for path, label in rows
        ]

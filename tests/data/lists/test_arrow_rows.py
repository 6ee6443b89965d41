"""Many lines at once give what they give one by one."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2clip.data.lists.arrow_rows import arrow_rows
from m2clip.data.lists.listed_rows import Rows, form_of, plain_rows
from m2clip.data.lists.text_files import ListPart
from m2clip.errors import ManifestError

HEADERS = (
    b"path,label\n",
    b"label;path\n",
    b"path\tlabel\tsplit\n",
    b"label,x,start_seconds,path,end_seconds\n",
    b"a.mp4 0\n",
)
CELLS = st.sampled_from(
    ["a.mp4", "b c.mp4", "0", "1", "x y", "é", "[1] (2).avi", " 3", "7 ", "NULL", "nan", "true", "007", "1e5"]
)
ODD = st.sampled_from(
    [
        "",
        '"a, b"',
        '"c ""d"" e"',
        '"',
        'x"y',
        '""',
        "-1",
        "inf",
        "1_0",
        "+2",
        "0x10",
        "\u00a0",
        "\x1c2",
        "# n",
        "a.mp4",
        "\t",
    ]
)
LINES = st.lists(
    st.one_of(
        st.tuples(CELLS, CELLS).map(list),
        st.tuples(CELLS, CELLS).map(list),
        st.tuples(CELLS, CELLS, st.sampled_from(["", "0", "1.5", "2e1"]), CELLS, st.sampled_from(["", "30"])).map(list),
        st.lists(st.one_of(CELLS, ODD), max_size=5),
    ),
    max_size=6,
)


def part_of(raw: bytes) -> ListPart:
    return ListPart(Path("list.txt"), raw)


def same(one: Rows, other: Rows) -> bool:
    times = [(one.start_seconds, other.start_seconds), (one.end_seconds, other.end_seconds)]
    return (
        one.paths.to_pylist() == other.paths.to_pylist()
        and one.labels.to_pylist() == other.labels.to_pylist()
        and one.lines.tolist() == other.lines.tolist()
        and all((a is None) == (b is None) and (a is None or np.array_equal(a, b, equal_nan=True)) for a, b in times)
    )


@settings(max_examples=400)
@given(st.sampled_from(HEADERS), st.sampled_from([",", ";", "\t", " "]), LINES, st.sampled_from(["", "\n", "\n\n"]))
def test_rows_are_those_of_the_plain_parser(header: bytes, sign: str, lines: list[list[str]], end: str) -> None:
    raw = header + ("\n".join(sign.join(cells) for cells in lines) + end).encode()
    try:
        form, part = form_of(part_of(raw))
        rows = arrow_rows(part, form) if form and part.raw else None
    except ManifestError:
        return
    if rows is not None:
        assert same(rows, plain_rows(part, form))  # which would raise where a line is wrong


@settings(max_examples=400)
@given(st.sampled_from(HEADERS), st.text('01a,.;\t" \n#\u00a0\u2003\x1c\x85\ufeffé-+enif_', max_size=30))
def test_any_text_is_read_as_the_plain_parser_reads_it(header: bytes, text: str) -> None:
    try:
        form, part = form_of(part_of(header + text.encode()))
        rows = arrow_rows(part, form) if form and part.raw else None
    except ManifestError:
        return
    if rows is not None:
        assert same(rows, plain_rows(part, form))


@pytest.mark.parametrize(
    "raw",
    [
        b"path,label\na.mp4,0\nb c.mp4,1\n",
        b'path,label\n"a, b.mp4",0\n"c ""d"".mp4","1"\n',
        b"label;path;start_seconds;end_seconds\n0;a.mp4;1.5;\n1;b.mp4;;2\n",
        "path\tlabel\na b.mp4\tNone\né.mp4\tnan".encode(),
        b"a.mp4 0\n\n  b c.mp4   1 \n",
        b",path,label,,\n0,a.mp4,0,,\n1,b.mp4,1,x,\n",
    ],
)
def test_the_usual_ways_are_read_at_once(raw: bytes) -> None:
    form, part = form_of(part_of(raw))
    assert form is not None
    rows = arrow_rows(part, form)
    assert rows is not None
    assert same(rows, plain_rows(part, form))


@pytest.mark.parametrize(
    "raw",
    [
        b"path,label\na.mp4\n",  # a label is absent
        b"path,label\n\na.mp4,0\n",  # a blank line
        b'path,label\n"a\nb",0\n',  # a cell over two lines
        b'path,label\na.mp4, "0"\n',  # space before a quote
        b"path,label,end_seconds\na.mp4,0,nan\n",
        b"path,label,end_seconds\na.mp4,0,0\n",
        b"path,label\n" + b"a" * 200_000 + b",0\n",
        b"a.mp4 0\n# a note\n",
        b"a.mp4\t0\n",
        b"a.mp4 0\nb.mp4\n",
        b"a/b.mp4\n",
        b'"a b.mp4" 0\n',
    ],
)
def test_what_is_unusual_is_left_to_the_plain_parser(raw: bytes) -> None:
    form, part = form_of(part_of(raw))
    assert form is not None
    assert arrow_rows(part, form) is None


def test_space_is_the_same_in_both() -> None:
    for sign in map(chr, range(0x3100)):
        if sign.isspace() and sign not in "\n\r\t":
            form, part = form_of(part_of(f"path,label\n{sign}a.mp4{sign},{sign}0{sign}\n".encode()))
            rows = arrow_rows(part, form)
            assert rows is not None
            assert (rows.paths.to_pylist(), rows.labels.to_pylist()) == (["a.mp4"], ["0"]), hex(ord(sign))
        elif unicodedata.category(sign) in ("Zs", "Zl", "Zp", "Cf"):  # looks like space, but is none
            _, part = form_of(part_of(f"path,label\n{sign}a.mp4,0\n".encode()))
            assert arrow_rows(part, form).paths.to_pylist() == [f"{sign}a.mp4"]

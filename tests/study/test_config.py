"""Studies as they are written: what is unknown, missing or out of place is told with its line."""

import re
import textwrap
from pathlib import Path

import pytest

from m2clip.errors import ConfigError
from m2clip.protocol import load_protocol
from m2clip.study import load_study
from tests.study.small_study import write_study

TEXT = """\
title: t
out: o
methods:
  one: {title: One}
  two: {}
data:
  d: {protocol: p.yaml}
grids:
  - {methods: [one], data: [d]}
evaluations:
  half: {of: [one], strength: 0.5, title: half}
"""


def written(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_defaults_and_titles(tmp_path: Path) -> None:
    config = load_study(written(tmp_path)).config
    assert (config.lanes, config.seeds, config.threads) == (1, (0,), None)
    assert config.row_title("one") == "One"
    assert config.row_title("two") == "two"
    assert config.row_title("one@half") == "One, half"
    assert config.data_title("d") == "d"


def test_overrides_reach_the_study(tmp_path: Path) -> None:
    study = load_study(written(tmp_path), ["lanes=3", "seeds=[4, 5]"])
    assert (study.config.lanes, study.config.seeds) == (3, (4, 5))
    assert study.overrides == ("lanes=3", "seeds=[4, 5]")


SECTION = "sections:\n  - title: s\n    {}\n"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("methods: [one]", "methods: [onee]", r"study.yaml:8: grids\[0\] names 'onee', which is not under methods; did you mean one"),
        ("data: [d]", "data: [e]", r"study.yaml:8: grids\[0\] names 'e', which is not under data"),
        ("of: [one]", "of: [three]", r"study.yaml:11: evaluations.half.of names 'three'"),
        ("title: t", "titel: t", r"study.yaml:1: there is no setting titel; did you mean title"),
        ("strength: 0.5", "strength: 1.5", r"study.yaml:11: evaluations.half.strength is 1.5"),
        ("strength: 0.5, title", "title", r"study.yaml:11: evaluations.half: this evaluation would be the cell's own"),
        ("strength: 0.5", "strength: 0.5, root: x", r"choose, folder and root belong to another protocol"),
        ("  two: {}", "  ../two: {}", r"'../two' is also a folder's"),
        ("methods: [one], data", "methods: [], data", r"grids\[0\].methods"),
        ("out: o\n", "", r"out is missing"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    assert before in TEXT
    with pytest.raises(ConfigError, match=sentence):
        load_study(written(tmp_path, TEXT.replace(before, after)))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("tables: [{title: x, data: [d], rows: [two@half]}]", "'two@half', which is not under methods or evaluations"),
        ("tables: [{title: x, data: [d], rows: [one], compare: two}]", "compare is two, which is none of the rows"),
        (
            "tables: [{kind: masked-words, title: x, data: [d], rows: [one], compare: one}]",
            "only a table of accuracies",
        ),
        ("figures: [{kind: scatter, title: x, data: e, parts: [a, b], rows: [one]}]", "'e', which is not under data"),
        ("figures: [{kind: pie, title: x}]", "kind is 'pie', but must be 'scatter' or 'line'"),
        (
            "figures: [{kind: line, title: x, x: n, parts: [a], lines: {l: [[1, one]]}}]",
            r"the points of l must be \[x, row\] where data is set, and \[x, row, data\] where it is not",
        ),
        ("figures: [{kind: line, title: x, x: n, data: d, parts: [a], lines: {l: [[1, three]]}}]", "names 'three'"),
    ],
)
def test_mistakes_of_the_page_are_told(tmp_path: Path, entry: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_study(written(tmp_path, TEXT + SECTION.format(entry)))


def test_points_of_a_line_may_name_their_data(tmp_path: Path) -> None:
    entry = "figures: [{kind: line, title: x, x: n, parts: [a], lines: {l: [[1, one, d], [2, one@half, d]]}}]"
    figure = load_study(written(tmp_path, TEXT + SECTION.format(entry))).config.sections[0].figures[0]
    assert figure.pairs() == [("one", "d"), ("one@half", "d")]


def test_the_small_study_of_these_tests_is_one(tmp_path: Path) -> None:
    assert load_study(write_study(tmp_path)).config.title == "A small study"


def test_the_study_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "study.md").read_text("utf-8")
    blocks = re.findall(r"(?:^    .*\n)+", page, re.MULTILINE)
    text = "".join(block for block in blocks if re.match(r"    (title|evaluations|sections):", block))
    config = load_study(written(tmp_path, textwrap.dedent(text))).config
    assert list(config.methods) == ["m2clip", "aim", "deep"]
    assert list(config.evaluations) == ["half", "templates", "described", "hmdb"]
    assert len(config.sections[0].figures) == 2
    load_protocol(config.data["ucf"].protocol, choices=config.data["ucf"].choose)

"""A protocol's file: what is accepted, and the sentence for what is not."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from m2clip.errors import ConfigError
from m2clip.protocol import load_protocol

TESTS = "tests:\n  test: {list: test.txt, kind: supervised}\n"


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as told:
        load_protocol(path)
    sentence = str(told.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence.removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"view: 4x3\n{TESTS}", ":3: there is no setting view; did you mean views?"),
        (f"views: 4x0\n{TESTS}", ":3: views is '4x0', but it must be of the form 4x3"),
        (f"summary: median\n{TESTS}", ":3: summary is 'median', but must be 'mean' or 'harmonic'"),
        (f"template: a video\n{TESTS}", ":3: template is 'a video', but it must hold {} exactly once"),
        (f"summary: harmonic\n{TESTS}", ": summary is harmonic, but there is only one part in tests"),
        (f"choices: {{shots: []}}\n{TESTS}", ": choices.shots is empty; give its values"),
        (f"choices: {{shots: [2]}}\n{TESTS}", ": choices.shots stands in no list as {shots}"),
        (f"train: {{list: '*_1.txt'}}\n{TESTS}", "training reads one list, so it must hold no *"),
        ("tests: {}\n", ": tests is empty; name at least one part"),
        ("", ": tests is missing (the parts, by name); add it"),
        ("tests:\n  ../x: {list: l.txt, kind: supervised}\n", ": the part '../x' must be a name like split-1"),
        ("tests:\n  a: {list: 'l_{k}.txt', kind: supervised}\n", ": {k} stands in a list, but choices has no such name"),
        ("tests:\n  a: {list: '*.txt', kind: supervised}\n", ":4: tests.a: a list with * needs a code"),
        ("tests:\n  a: {list: l.txt, code: 2, kind: supervised}\n", ":4: tests.a: a list with * needs a code"),
        ("tests:\n  a: {list: l.txt, kind: few}\n", ":4: tests.a.kind is 'few', but must be 'supervised' or 'zero-shot'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    told = refused(tmp_path, f"title: t\nfolder: f\n{text}")
    assert sentence in told
    assert "VALUE" not in told  # no setting of a protocol can be overridden by KEY=VALUE


def test_numbers_among_the_choices_are_read_as_text(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "title": "t", "folder": "f", "choices": {"shots": [2, 4]},
        "train": {"list": "train_{shots}.txt"}, "tests": {"a": {"list": "l.txt", "kind": "zero-shot"}},
    }  # fmt: skip
    (tmp_path / "p.yaml").write_text(json.dumps(values))
    assert load_protocol(tmp_path / "p.yaml").written.choices == {"shots": ("2", "4")}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["{k}", "*.txt", "..", "/", "."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
VALID: dict[str, Any] = {
    "title": "t", "folder": ".", "root": ".", "frames": 4, "views": "1x3", "template": "{} it", "choices": {"k": ["1"]},
    "train": {"list": "l_{k}.txt", "val": "v.txt", "classes": "c.csv"},
    "tests": {"a": {"list": "*.txt", "code": 2, "kind": "zero-shot"}, "b": {"list": "b.txt", "kind": "supervised"}},
    "summary": "harmonic",
}  # fmt: skip
KEYS = [(key,) for key in VALID] + [
    ("train", "list"),
    ("train", "classes"),
    ("tests", "a"),
    ("tests", "a", "list"),
    ("tests", "b", "kind"),
]


@given(st.sampled_from(KEYS), ANYTHING)
def test_whatever_stands_in_a_file_it_is_read_or_refused_in_one_sentence(key: tuple[str, ...], value: Any) -> None:
    values = json.loads(json.dumps(VALID))
    level = values
    for part in key[:-1]:
        level = level[part]
    level[key[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.yaml"
        path.write_text(yaml.safe_dump(values, allow_unicode=True))
        told = ""
        try:
            protocol = load_protocol(path, choices={"k": 1})
            if protocol.trains:
                protocol.train_settings()
        except ConfigError as error:
            told = str(error)
        assert "\n" not in told

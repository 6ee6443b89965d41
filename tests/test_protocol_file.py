"""A protocol's file: what is accepted, and the sentence for what is not."""

import json
from pathlib import Path
from typing import Any

import pytest

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
        ("", ": tests is missing (the parts, by name)"),
        ("tests:\n  ../x: {list: l.txt, kind: supervised}\n", ": the part '../x' must be a name like split-1"),
        ("tests:\n  a: {list: 'l_{k}.txt', kind: supervised}\n", ": {k} stands in a list, but choices has no such name"),
        ("tests:\n  a: {list: '*.txt', kind: supervised}\n", ":4: tests.a: a list with * needs a code"),
        ("tests:\n  a: {list: l.txt, code: 2, kind: supervised}\n", ":4: tests.a: a list with * needs a code"),
        ("tests:\n  a: {list: l.txt, kind: few}\n", ":4: tests.a.kind is 'few', but must be 'supervised' or 'zero-shot'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refused(tmp_path, f"title: t\nfolder: f\n{text}")


def test_numbers_among_the_choices_are_read_as_text(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "title": "t", "folder": "f", "choices": {"shots": [2, 4]},
        "train": {"list": "train_{shots}.txt"}, "tests": {"a": {"list": "l.txt", "kind": "zero-shot"}},
    }  # fmt: skip
    (tmp_path / "p.yaml").write_text(json.dumps(values))
    assert load_protocol(tmp_path / "p.yaml").written.choices == {"shots": ("2", "4")}

"""Settings from strangers: what YAML allows and a run never needs ends in one problem with its line, fast."""

import pytest

from m2clip.config.plain_yaml import PlainYAMLError, read_yaml

TENFOLD = "".join(f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}\n" for i in range(1, 12))


def test_plain_values_and_their_lines() -> None:
    root, values = read_yaml("out: x\ndata:\n  frames: 8\n  flip: no\n  val:\n")
    assert values == {"out": "x", "data": {"frames": 8, "flip": False, "val": None}}
    assert root is not None
    assert root.value[1][0].start_mark.line == 1
    assert read_yaml("# nothing\n") == (None, None)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: &b\n  c: *b\n", 3, "alias *b"),  # a value that holds itself
        ("a0: &a0 {x: 1}\n" + TENFOLD, 2, "alias *a0"),  # 10^11 values in twelve lines
        ("x: &x {out: y}\n<<: *x\n", 2, "alias *x"),
        ("<<: 3\n", 1, "name of a setting"),
        ("a: 1\n1: 2\n", 2, "'1' where the name"),
        ("a: {[1]: 2}\n", 1, "a list or mapping where the name"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "could not determine a constructor"),
        ("a: !mine b\n", 1, "could not determine a constructor"),
        ("a: [1\n", 2, "expected ',' or ']'"),
        ("a: " + "[" * 3000 + "]" * 3000, None, "nested too deeply"),
        ("a: 2020-13-45\n", None, "month must be in 1..12"),
        ("a: " + "9" * 5000, 1, "a number of 5000 digits"),
        ("b: 1\na: 0x" + "f" * 5000, 2, "a number of 5002 digits"),
        ("a: 0b" + "1" * 50000, 1, "a number of 50002 digits"),
        ("a: " + ":".join(["1"] * 3000), 1, "a number of 5999 digits"),
        ("a: !!int foo\n", None, "cannot be read"),
        ("a: !!bool foo\n", None, "cannot be read"),
        ("a: !!timestamp foo\n", None, "cannot be read"),
        ("a: \x00\n", None, "special characters are not allowed"),
    ],
)
def test_what_settings_never_need_is_one_problem(text: str, line: int | None, words: str) -> None:
    with pytest.raises(PlainYAMLError) as caught:
        read_yaml(text)
    assert words in caught.value.problem
    assert "\n" not in caught.value.problem
    assert caught.value.line == line

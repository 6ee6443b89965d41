"""Names from strangers on a terminal."""

import json

from m2clip.terminal import aligned, harmless


def test_what_steers_a_terminal_is_escaped_and_the_rest_stays() -> None:
    assert harmless("\x1b[2Jred\x07\x9b1m") == "\\u001b[2Jred\\u0007\\u009b1m"
    assert harmless("a\u202eb\u2028c\rd\te") == "a\\u202eb\\u2028c\\u000dd\\u0009e"
    untouched = "läuft, 跑步 \N{FAMILY}\N{ZERO WIDTH JOINER}\N{BOY}\nnext line"
    assert harmless(untouched) == untouched


def test_json_keeps_its_meaning() -> None:
    names = ["a\x9b2Jb", "c\u202ed\u2029", "line\nfeed"]
    assert json.loads(harmless(json.dumps(names, ensure_ascii=False, indent=2))) == names


def test_columns_stand_one_below_another() -> None:
    assert aligned([["a", "bc", ""], [100, "d", "e"], ["", 2.5, ""]]) == ["a    bc", "100  d    e", "     2.5"]

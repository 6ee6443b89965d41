"""Names as typed, numbers as read."""

import pytest

from m2clip.app.page.names import clock, percent, typed_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", None),
        (None, None),
        (" \n ,, \n", None),
        ("waving", ["waving"]),
        ("waving, clapping ,waving,", ["waving", "clapping"]),
        ("waving\n\n  running   fast \n", ["waving", "running fast"]),
        # Several lines: a comma belongs to its name.
        ("putting a cup, then a book\nwaving", ["putting a cup, then a book", "waving"]),
    ],
)
def test_names_stand_on_lines_or_between_commas(text: str | None, names: list[str] | None) -> None:
    assert typed_names(text) == names


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (0.0, "0.0 %"),
        (0.0001, "< 0.1 %"),
        (0.0005, "0.1 %"),
        (0.9314, "93.1 %"),
        (0.9996, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_no_score_looks_surer_than_it_is(score: float, shown: str) -> None:
    assert percent(score) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0:00.0"), (3.44, "0:03.4"), (59.97, "1:00.0"), (725.0, "12:05.0"), (3723.0, "1:02:03.0")],
)
def test_times_are_those_of_a_player(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown

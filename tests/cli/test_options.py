"""What the texts of options mean."""

import pytest

from m2clip.cli.options import split_labels


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (' a ,"b, c" ', ["a", "b, c"]),
        ("one", ["one"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        (None, None),
    ],
)
def test_labels_are_split_like_a_line_of_csv(text: str | None, names: list[str] | None) -> None:
    assert split_labels(text) == names

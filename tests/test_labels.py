"""Labels as one text."""

import pytest

from m2clip.errors import ConfigError
from m2clip.labels import listed_labels


def test_names_lie_between_commas_and_may_hold_some_in_quotes() -> None:
    assert listed_labels(' waving, "stop, go",jumping ') == ["waving", "stop, go", "jumping"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("waving\njumping\n", "several lines; separate the names by commas"), ("a,,b", "empty name"), ('a,"b', "quotes")],
)
def test_what_is_no_list_of_names_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        listed_labels(text)

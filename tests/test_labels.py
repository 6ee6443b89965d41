"""Labels as one text."""

import pytest

from m2clip.errors import ConfigError
from m2clip.labels import Labels, listed_labels, named_labels


def test_names_lie_between_commas_and_may_hold_some_in_quotes() -> None:
    assert listed_labels(' waving, "stop, go",jumping ') == ["waving", "stop, go", "jumping"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("waving\njumping\n", "several lines; separate the names by commas"), ("a,,b", "empty name"), ('a,"b', "quotes")],
)
def test_what_is_no_list_of_names_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        listed_labels(text)


@pytest.mark.parametrize("labels", [["waving", "caf\udce9"], {"café": ["someone in a caf\udce9"]}], ids=type)
def test_bytes_that_are_no_characters_are_not_scored(labels: Labels) -> None:
    # "café" typed in Latin-1, as Python takes it from a command line in UTF-8; the tokenizer would read it as a question mark.
    with pytest.raises(
        ConfigError, match=r"'(caf.udce9|someone in a caf.udce9)'.* are no characters .* give it as UTF-8"
    ):
        named_labels(labels)
    assert named_labels(["café", "跳舞"]) == (("café", "跳舞"), None)

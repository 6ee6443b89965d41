"""What answers look like."""

from typing import Any

import numpy as np

from m2clip.app.page import markup
from m2clip.scoring import Prediction

HOSTILE = '"><script>alert(1)</script>'


def test_labels_file_names_and_errors_are_text() -> None:
    pages = [
        markup.bars([Prediction(HOSTILE, 0.5)], total=1),
        markup.done(HOSTILE),
        markup.loading(HOSTILE),
        markup.trouble(HOSTILE, remedy=HOSTILE),
        markup.empty(HOSTILE, HOSTILE, commands=[HOSTILE]),
        markup.facts([(HOSTILE, HOSTILE)]),
    ]
    assert not any("<script" in page for page in pages)
    assert all("&lt;script&gt;" in page for page in pages)


def test_bars_are_as_long_as_their_scores_and_the_chosen_one_is_pressed() -> None:
    page = markup.bars([Prediction("a", 0.75), Prediction("b", 0.25)], total=5, chosen="b")
    assert 'style="width:75.00%"' in page
    assert "and 3 more, each lower" in page
    assert [part.split('"')[0] for part in page.split('aria-pressed="')[1:]] == ["false", "true"]


def test_none_of_these_stands_above_the_bars() -> None:
    page = markup.bars([Prediction("a", 0.75)], total=1, none_of_these=True)
    assert page.index("None of these") < page.index("m2-bars")
    assert "None of these" not in markup.bars([Prediction("a", 0.75)], total=1)


def test_every_frame_says_its_number_and_time() -> None:
    pixels = np.zeros((2, 3, 8, 8), np.uint8)
    page = markup.strip(pixels, np.array([3, 9]), np.array([0.25, 0.75]))
    assert 'alt="Frame 3, at 0.25 seconds"' in page
    assert 'alt="Frame 9, at 0.75 seconds"' in page
    assert page.count("data:image/jpeg") == 2
    assert "m2-heat" not in page


def test_a_map_lies_over_its_frame_and_the_largest_share_fills_its_bar() -> None:
    pixels = np.zeros((2, 3, 8, 8), np.uint8)

    class Found:
        heat: Any = np.zeros((2, 8, 8), np.float32)
        time: Any = np.array([0.2, 0.8], np.float32)
        difference: Any = None

    page = markup.strip(pixels, np.array([3, 9]), np.array([0.25, 0.75]), Found())  # type: ignore[arg-type]
    assert page.count('class="m2-heat"') == 2
    assert "m2-change" not in page
    assert page.index('style="width:25%"') < page.index('style="width:100%"')
    assert page.index("20.0 % of all") < page.index("80.0 % of all")


def test_a_sentence_begins_with_a_capital_and_a_files_name_as_it_is() -> None:
    assert "<p>The text is empty</p>" in markup.trouble("the text is empty")
    assert "<p>zero.mp4 is empty</p>" in markup.trouble("zero.mp4 is empty")

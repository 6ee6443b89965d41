"""Lanes and moments of a timeline."""

from dataclasses import replace

from m2clip.app.page.timeline_chart import MOST_LANES, timeline_chart
from m2clip.scoring import Prediction
from m2clip.timeline import Window


def window(start: float, end: float, **scores: float) -> Window:
    best_first = sorted(scores.items(), key=lambda item: -item[1])
    return Window(start, end, tuple(Prediction(label, score) for label, score in best_first))


def test_what_is_none_of_the_actions_is_no_moment() -> None:
    none = replace(window(2, 4, up=0.9, down=0.1), none_of_these=True)
    page = timeline_chart([window(0, 2, down=1.0), none])
    assert page.count('m2-moment"') == 1
    assert 'data-seek="0.000" data-end="2.000"' in page
    assert "None of these actions" not in page
    assert "None of these actions at any time" in timeline_chart([none])


def test_a_label_that_is_best_once_has_a_lane_before_one_that_never_is() -> None:
    strong = {f"never{k}": 0.4 - 0.01 * k for k in range(MOST_LANES)}
    page = timeline_chart([window(0, 2, once=0.41, **strong), window(1, 3, first=0.5, **strong)])
    names = [part.split("<")[0] for part in page.split('class="m2-lane"')[1:] for part in part.split('m2-name">')[1:2]]
    assert names == ["first", "once", "never0", "never1", "never2"]


def test_a_label_that_never_comes_near_has_no_lane() -> None:
    page = timeline_chart([window(0, 2, up=0.94, down=0.05, left=0.01)])
    assert page.count('class="m2-lane"') == 2
    assert "left" not in page.split("m2-ticks")[0].replace("left:", "")


def test_names_are_text() -> None:
    page = timeline_chart([window(0, 2, **{"<script>alert(1)</script>": 1.0})])
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_moment_knows_where_it_is() -> None:
    page = timeline_chart([window(0, 2, up=1.0), window(1, 3, down=1.0)])
    assert 'data-seek="1.500" data-end="3.000"' in page
    assert 'data-duration="3.000" data-step="1.000"' in page


def test_no_time_stands_twice_below_a_short_video() -> None:
    def ticks(duration: float) -> list[str]:
        shown = timeline_chart([window(0, duration, up=1.0)]).split("m2-ticks")[1].split("</div>")[0]
        return [part.split("<")[0] for part in shown.split("<span>")[1:]]

    assert ticks(0.1) == ["0:00.0", "0:00.1"]
    assert ticks(2.0) == ["0:00.0", "0:00.5", "0:01.0", "0:01.5", "0:02.0"]

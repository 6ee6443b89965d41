"""Who is here, and which question is the newest."""

from m2clip.app.page.visits import MAP, MOST_VISITS, SCORES, TIMELINE, Visits


def test_an_answer_is_shown_only_while_nothing_newer_was_asked() -> None:
    visit = Visits().of("session", "recognise")
    first = visit.ask(SCORES)
    timeline = visit.ask(TIMELINE)
    assert first()
    second = visit.ask(SCORES)
    assert not first()
    assert second()
    assert timeline()  # the dial does not throw the timeline away


def test_another_video_throws_everything_away() -> None:
    visit = Visits().of("session", "recognise")
    visit.open("one", "a.mp4")
    visit.shown, visit.chosen = ("waving",), "waving"
    answers = [visit.ask(part) for part in (SCORES, MAP, TIMELINE)]
    assert visit.open("two", "b.mp4") == "one"
    assert not any(newest() for newest in answers)
    assert (visit.token, visit.name, visit.read, visit.shown, visit.chosen) == ("two", "b.mp4", None, (), None)


def test_tabs_and_sessions_do_not_see_each_other() -> None:
    visits = Visits()
    visits.of("a", "recognise").open("one", "a.mp4")
    assert visits.of("a", "recognise").token == "one"
    assert visits.of("a", "compare").token is None
    assert visits.of("b", "recognise").token is None
    assert sorted(visit.token or "" for visit in visits.leave("a")) == ["", "one"]
    assert visits.of("a", "recognise").token is None


def test_visits_are_bounded() -> None:
    visits = Visits()
    visits.of("first", "recognise").open("one", "a.mp4")
    for number in range(MOST_VISITS):
        visits.of(str(number), "recognise")
    assert visits.of("first", "recognise").token is None

"""The page: everything that was found is on it, and no name from outside becomes markup or script."""

from html.parser import HTMLParser

import pytest

from m2clip.check.page import ChosenPictures, check_page

NASTY = "<img src=x onerror=alert(1)>.mp4"
SCRIPT = "</td><script>alert(2)</script>:3"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def document(findings: int = 1) -> dict[str, object]:
    found = {"code": "two-labels", "kind": "contradiction", "list": "data", "where": "list.csv:2"}
    bad = {"code": "empty", "kind": "bad", "list": "data", "path": "a.mp4", "where": SCRIPT, "detail": "", "samples": 1}
    return {
        "usable": False,
        "reasons": [f"{NASTY} is bad"],
        "lists": [{"name": "data", "source": "/d", "sha256": "", "videos": 3, "readable": 2, "classes": 1}],
        "files": {"count": 3, "bytes": 2048, "frames": 30, "seconds": 61.0},
        "counts": {"empty": 1, "two-labels": findings},
        "findings": [bad, *[{**found, "path": "b.mp4", "detail": NASTY, "samples": 2}] * findings],
        "classes": [{"name": "<b>run</b>", "listed": {"data": 3}, "readable": {"data": 2}, "seconds": 90.0}],
        "seconds_of_a_file": {"least": 1.0, "median": 2.0, "most": 3.5},
        "frames_of_a_file": {"least": 1, "median": 2, "most": 3},
        "frames_a_second": {"least": 25.0, "median": 25.0, "most": 29.97},
        "pictures": [{"width": 64, "height": 48, "files": 3}],
        "codecs": [{"codec": "h264", "files": 3}],
    }


@pytest.fixture(scope="module")
def tags() -> Tags:
    chosen = ChosenPictures([(f"tiny: {NASTY}", 0), ('class "><script>alert(3)</script>', 1), ("gone", 2)], 7)
    return Tags(check_page(document(), chosen, ["QUJD", "REVG", ""]))


def test_names_are_text_and_the_only_script_is_the_pages_own(tags: Tags) -> None:
    texts = " ".join(tags.texts)
    for text in (NASTY, "<b>run</b>", SCRIPT, "7 more are left out."):
        assert text in texts
    scripts = [attributes for tag, attributes in tags.found if tag == "script"]
    assert scripts == [{}]
    images = [attributes for tag, attributes in tags.found if tag == "img"]
    assert [image["src"] for image in images] == ["data:image/jpeg;base64,QUJD", "data:image/jpeg;base64,REVG"]
    assert images[0]["alt"] == f"tiny: {NASTY}"
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    assert "b" not in {tag for tag, _ in tags.found}


def test_nothing_comes_from_the_network_and_no_other_script_may_run(tags: Tags) -> None:
    assert not {"link", "iframe", "object", "a"} & {tag for tag, _ in tags.found}
    [policy] = [attributes["content"] for tag, attributes in tags.found if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy


def test_long_tables_are_cut_and_say_so() -> None:
    text = check_page(document(findings=2500), ChosenPictures([], 0), [])
    assert text.count("<td>two-labels</td>") == 2001  # one in the table of counts
    assert "Here the first 2000 of 2500 two-labels; check.json has all." in text
    assert "Pictures</h2>" not in text


@pytest.mark.parametrize(("count", "rows"), [(10, 10), (11, 11), (12, 10)])
def test_many_of_one_oddity_leave_room_for_the_others(count: int, rows: int) -> None:
    told = document()
    alike = {"kind": "odd", "list": "data", "path": "a.avi", "where": "a.avi", "detail": "", "samples": 1}
    told["findings"] = [{**alike, "code": "header-lies"}] * count + [{**alike, "code": "tiny"}] * 2
    told["counts"] = {"header-lies": count, "tiny": 2}
    text = check_page(told, ChosenPictures([], 0), [])
    assert text.count("<td>header-lies</td>") == rows + 1  # one in the table of counts
    assert text.count("<td>tiny</td>") == 3
    assert (f"Here the first 10 of {count} header-lies; check.json has all." in text) == (rows < count)
    assert "SHA-256" not in text  # files without a list have none

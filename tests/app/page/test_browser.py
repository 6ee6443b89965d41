"""The page in a real browser, with real uploads."""

import asyncio
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from m2clip import Recognizer
from m2clip.app.page.names import percent
from tests.app.page.conftest import LABELS, MOST_BYTES, Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
WAIT = 30_000  # milliseconds; a busy machine is no fault of the page


class Visited:
    """A page, and what it should not have done."""

    def __init__(self, browser: "Browser", site: Site, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.outside: list[str] = []
        self.complaints: list[str] = []
        host = urlsplit(site.address).netloc
        self.page.on("request", lambda request: self._look(request.url, host))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(site.address)
        self.page.wait_for_selector("#video .m2-picker")

    def _look(self, url: str, host: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            self.outside.append(url)


@pytest.fixture
def visit(browser: "Browser", site: Site) -> Iterator[Visited]:
    """A fresh visit, which must have stayed at home and without complaints."""
    visited = Visited(browser, site)
    yield visited
    visited.context.close()
    assert visited.outside == []
    assert visited.complaints == []


def choose(page: "Page", path: Path, *, picker: str = "#video") -> None:
    page.set_input_files(f"{picker} input[type=file]", path)


def recognised(page: "Page") -> list[str]:
    """The labels of the bars, once they and what follows them are there."""
    page.wait_for_selector("#bars .m2-bars")
    page.wait_for_selector("#strip .m2-heat", state="attached")
    page.wait_for_selector("#timeline .m2-lanes")
    return page.locator("#bars .m2-name").all_inner_texts()


def values(page: "Page") -> list[str]:
    return page.locator("#bars .m2-value").all_inner_texts()


def test_an_upload_is_recognised_explained_and_laid_out_in_time(visit: Visited, good_video: Path, site: Site) -> None:
    page = visit.page
    assert "No video yet" in page.inner_text("#bars")
    choose(page, good_video)
    assert sorted(recognised(page)) == sorted(LABELS)
    shown = [float(value.strip("<> %")) for value in values(page)]
    assert shown == sorted(shown, reverse=True)
    assert page.inner_text("#status").strip() == "good <b> & bold.mp4: 6.0 s, 64 × 64, 72 frames"
    times = page.locator("#strip figcaption").all_inner_texts()
    assert len(times) == site.service.models["first"].sampling.frames
    assert page.locator("#strip .m2-heat").first.is_visible()
    assert not page.locator("#strip .m2-change").first.is_visible()
    page.get_by_label("What changes").check()
    page.wait_for_selector("#strip .m2-change", state="visible")
    # What was said can be heard, too.
    page.wait_for_function("document.querySelector('.m2-spoken').textContent.includes('good')")
    assert page.locator("b").count() == 0


def test_a_second_video_is_read_while_the_first_one_still_is(
    visit: Visited, good_video: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, read, names = visit.page, site.service.read, []

    async def both_at_once(*arguments: Any, name: str) -> Any:
        names.append(name)
        while len(names) < 2:
            await asyncio.sleep(0.01)
        return await read(*arguments, name=name)

    monkeypatch.setattr(site.service, "read", both_at_once)
    choose(page, good_video)
    page.wait_for_selector("#status .m2-busy:has-text('good')")
    page.click("#video [data-example='0']")
    recognised(page)
    assert page.inner_text("#status").startswith("a red circle moving left to right: 2.0 s")
    assert sorted(names) == ["a red circle moving left to right", "good <b> & bold.mp4"]


def test_a_click_in_the_timeline_moves_the_player(visit: Visited, good_video: Path) -> None:
    page = visit.page
    choose(page, good_video)
    recognised(page)
    page.wait_for_function("document.querySelector('#video video').readyState > 0")
    lanes = page.locator("#timeline .m2-lanes")
    lanes.scroll_into_view_if_needed()
    box = lanes.bounding_box()
    assert box is not None
    lanes.click(position={"x": box["width"] / 2, "y": 20})
    page.wait_for_function("Math.abs(document.querySelector('#video video').currentTime - 3) < 0.1")
    page.wait_for_function("Math.abs(document.querySelector('.m2-lanes').getAttribute('aria-valuenow') - 3) < 0.11")
    lanes.focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('#video video').currentTime === 0")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("Math.abs(document.querySelector('#video video').currentTime - 0.5) < 0.1")
    last = page.locator("#timeline .m2-moment").last
    start = float(last.get_attribute("data-seek") or "nan")
    last.press("Enter")
    page.wait_for_function(f"Math.abs(document.querySelector('#video video').currentTime - {start}) < 0.1")
    page.wait_for_function(
        "[...document.querySelectorAll('.m2-moment')].at(-1).getAttribute('aria-current') === 'true'"
    )


def test_typed_names_are_scored_and_are_text(visit: Visited, good_video: Path) -> None:
    page = visit.page
    hostile = ["<img src=x onerror=alert(1)>", "${1+1} {{value}}", "</style><script>alert(2)</script>"]
    page.fill("#names textarea", "\n".join([*hostile, "waving"]))
    choose(page, good_video)
    assert sorted(recognised(page)) == sorted([*hostile, "waving"])
    page.fill("#names textarea", "running, jumping")
    page.click("#go")
    page.wait_for_function("document.querySelectorAll('#bars .m2-name').length === 2")
    assert sorted(recognised(page)) == ["jumping", "running"]


def test_names_come_from_a_text_file(visit: Visited, tmp_path: Path) -> None:
    page = visit.page
    (tmp_path / "names.txt").write_text("waving\nclapping, slowly\n", "utf-8")
    page.locator("input[aria-label='Text file with action names']").first.set_input_files(tmp_path / "names.txt")
    page.wait_for_function("document.querySelector('#names textarea').value === 'waving\\nclapping, slowly'")
    (tmp_path / "names.bin").write_bytes(b"\0\1\2")
    page.locator("input[aria-label='Text file with action names']").first.set_input_files(tmp_path / "names.bin")
    page.wait_for_selector("text=names.bin is no text file")


def test_the_dial_acts_at_once_and_decodes_nothing_again(
    visit: Visited, good_video: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit.page
    choose(page, good_video)
    recognised(page)
    before = values(page)
    reads: list[Any] = []
    monkeypatch.setattr(site.service, "read", lambda *arguments, **_: reads.append(arguments))
    page.locator("#dial input[type=range]").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert page.input_value("#dial input[type=number]") == "0"
    # The last place of the dial wins: the frozen CLIP's own scores of what the model saw.
    frozen = Recognizer(copy.deepcopy(site.service.models["first"].model), device="cpu", strength=0.0)
    expected = [percent(one.score) for one in frozen.classify(good_video)]
    assert expected != before
    page.wait_for_function(
        "expected => [...document.querySelectorAll('#bars .m2-value')].map(one => one.innerText).join() === expected.join()",
        arg=expected,
    )
    assert reads == []


def test_a_bar_shows_where_the_model_looks_for_it(visit: Visited, good_video: Path) -> None:
    page = visit.page
    choose(page, good_video)
    names = recognised(page)
    assert page.locator("#bars [aria-pressed=true]").inner_text().startswith(names[0])
    page.locator("#bars button").nth(2).press("Enter")
    page.wait_for_selector(f"#map-status:has-text('“{names[2]}”')")
    assert page.locator("#bars [aria-pressed=true]").inner_text().startswith(names[2])


def test_a_bad_file_is_named_and_the_page_goes_on(
    browser: "Browser", site: Site, good_video: Path, tmp_path: Path
) -> None:
    visited = Visited(browser, site)
    page = visited.page
    picker, server = "#video .m2-picker-trouble", "#status .m2-trouble"
    broken, empty, letter, large = (tmp_path / name for name in ("broken.mp4", "empty.mp4", "letter.txt", "large.mp4"))
    broken.write_bytes(good_video.read_bytes()[:300])
    empty.touch()
    letter.write_text("Dear model", "utf-8")
    with large.open("wb") as file:
        file.truncate(200 * 2**20)
    for path, where, said in (
        (broken, server, "Cannot read broken.mp4"),
        (letter, picker, "letter.txt is no video (text/plain). Choose a video file"),
        (large, picker, "large.mp4 has 200 MiB, and 8 MiB are taken at most. Cut it"),
        (empty, picker, "Empty.mp4 is empty: choose a file that holds a video."),
    ):
        choose(page, path)
        page.wait_for_selector(f"{where}:has-text('{path.name[1:]}')")
        assert said in page.inner_text(where)
        assert str(site.folder) not in page.inner_text("body")
    choose(page, good_video)
    assert sorted(recognised(page)) == sorted(LABELS)
    assert page.locator(f"{picker}, {server}").filter(visible=True).count() == 0
    visited.context.close()
    assert visited.outside == []


def test_what_is_recorded_is_recognised(browser: "Browser", site: Site) -> None:
    visited = Visited(browser, site, permissions=["camera"])
    page = visited.page
    page.click("#video .m2-drop .m2-record")
    page.wait_for_function("document.querySelector('#video video').currentTime > 0.5")
    page.click("#video .m2-stop")
    assert sorted(recognised(page)) == sorted(LABELS)
    assert page.inner_text("#status").startswith("recording.webm")
    visited.context.close()
    assert visited.complaints == []


def test_an_example_can_be_tried(visit: Visited) -> None:
    page = visit.page
    page.click("#video [data-example='2']")
    recognised(page)
    assert "three motions, one after the other: 6.0 s" in page.inner_text("#status")
    page.wait_for_function("document.querySelector('#video video').duration > 5.9")


def test_search_by_text_and_by_example_serves_what_is_indexed_alone(
    visit: Visited, site: Site, good_video: Path
) -> None:
    page = visit.page
    page.get_by_role("tab", name="Search").click()
    page.fill("#search-text input, #search-text textarea", "a person waving")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results .m2-results")
    names = page.locator("#results .m2-name").all_inner_texts()
    assert sorted(names) == ["a.mp4", "b.mp4", "odd <i> & name.mp4"]
    source = page.locator("#results video").first.get_attribute("src")
    assert page.request.get(site.address + str(source)).status == 200
    assert page.request.get(f"{site.address}{source}/picture").headers["content-type"] == "image/jpeg"
    for path in ("page/found/secret.mp4", "page/found/..%2Fprivate%2Fsecret.mp4", "page/found/" + "0" * 32):
        assert page.request.get(site.address + path).status == 404
    choose(page, good_video, picker="#search-video")
    page.wait_for_selector("#search-status:has-text('good')")
    page.wait_for_selector("#results .m2-results")
    page.fill("#search-text input, #search-text textarea", " ")
    page.click("#search-go")
    page.wait_for_selector("#search-status .m2-trouble:has-text('the text to search for is empty')")


def test_two_models_stand_side_by_side(visit: Visited, good_video: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Compare").click()
    choose(page, good_video, picker="#compare-video")
    page.wait_for_selector("#both section >> nth=1")
    assert page.locator("#both h3").all_inner_texts() == ["first", "second"]
    sides = [page.locator("#both section").nth(k).locator(".m2-value").all_inner_texts() for k in (0, 1)]
    assert len(sides[0]) == len(sides[1]) == len(LABELS)
    assert sides[0] != sides[1]
    assert re.match("Both say|They differ", page.inner_text("#compare-status").strip())


def test_without_index_second_model_or_classes_the_page_says_what_to_do(
    browser: "Browser", bare_site: Site, good_video: Path
) -> None:
    visited = Visited(browser, bare_site)
    page = visited.page
    choose(page, good_video)
    page.wait_for_selector("#bars:has-text('Type action names')")
    page.fill("#names textarea", "waving, running")
    page.click("#go")
    assert sorted(recognised(page)) == ["running", "waving"]
    page.get_by_role("tab", name="Search").click()
    page.wait_for_selector("#no-index:has-text('m2clip serve')")
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#one-model:has-text('--compare')")
    visited.context.close()
    assert visited.complaints == []


def test_everything_is_reached_by_keys_and_has_a_name(visit: Visited, good_video: Path) -> None:
    page = visit.page
    choose(page, good_video)
    recognised(page)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => { const one = document.activeElement, style = getComputedStyle(one);
                const name = one.getAttribute("aria-label") || one.innerText || one.labels?.[0]?.innerText || one.title || "";
                return [one.className + "#" + (one.closest("[id]")?.id || ""), name.trim(), style.outlineStyle !== "none"]; }"""
            )
        )
    where = " ".join(place for place, _, _ in reached)
    for part in ("m2-choose", "m2-record", "#names", "#go", "m2-bar", "#dial", "m2-lanes", "m2-moment"):
        assert part in where, f"{part} is not reached by Tab"
    body = [(place, name, ring) for place, name, ring in reached if not place.startswith("#")]
    assert [place for place, name, _ in body if not name] == []
    assert [place for place, _, ring in body if not ring] == []


FAINT = """() => {
    const parts = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
    const linear = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const light = (colour) => 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
    const ground = (one) => {
        for (; one; one = one.parentElement) {
            const colour = parts(getComputedStyle(one).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
        const one = node.parentElement;
        if (!node.textContent.trim() || one.closest("style, script, .m2-spoken")) continue;
        if (!one.checkVisibility({ visibilityProperty: true })) continue;
        const [dark, bright] = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => a - b);
        const contrast = (bright + 0.05) / (dark + 0.05);
        if (contrast < 4.5) found.push([contrast.toFixed(2), node.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""
"""Every shown text whose contrast is below 4.5:1 (WCAG 2.2, 1.4.3)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways_and_every_text_can_be_read(
    browser: "Browser", site: Site, good_video: Path, scheme: str
) -> None:
    visited = Visited(browser, site, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = visited.page
    page.fill("#names textarea", "x" * 150 + "\nwaving")
    choose(page, good_video)
    recognised(page)
    for tab in ("Recognise", "Search", "Compare"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390, tab
        assert page.evaluate(FAINT) == [], tab
    page.add_style_tag(content=".m2-title { color: #777 !important }")
    assert page.evaluate(FAINT) != []
    visited.context.close()
    assert visited.complaints == []


def test_a_closed_page_leaves_no_file(browser: "Browser", site: Site, good_video: Path) -> None:
    import time

    before = set(site.folder.glob("*.mp4"))
    visited = Visited(browser, site)
    choose(visited.page, good_video)
    recognised(visited.page)
    mine = [
        path
        for path in site.folder.glob("*.mp4")
        if path not in before and path.stat().st_size == good_video.stat().st_size
    ]
    assert mine
    visited.context.close()
    ends = time.monotonic() + WAIT / 1000
    while any(path.exists() for path in mine) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(path.exists() for path in mine)


def test_the_server_reached_nobody(site: Site) -> None:
    hosts = {address[0] for address in site.reached if isinstance(address, tuple)}
    assert hosts <= {"127.0.0.1", "::1", "localhost"}


def test_the_server_refuses_what_the_browser_should_have(site: Site) -> None:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(site.address + "page/upload", b"x" * (MOST_BYTES + 1), {"X-Name": "large.mp4"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 413
    assert b"large.mp4 is larger than the 8 MiB" in caught.value.read()

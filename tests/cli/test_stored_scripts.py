"""Names of classes, files and folders that hold scripts, through the program into every page that it writes."""

import csv
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from m2clip.report.page import _SORTING
from tests.program import Ran
from tests.small_inputs import moving_square, tiny_model, write_video

# No name of a file holds a slash, so some of what follows is not closed; a browser closes it.
CLASSES = ("<script>alert(1)<", '"><img src=x onerror=alert(2)>', "javascript:alert(3)", "' onmouseover='alert(4)")
FILES = ("<svg onload=alert(5)>", 'a" onerror="alert(6)', "&lt;script&gt;", "x' style='background:url(y)")
BAD = "<iframe srcdoc=alert(7)>.mp4"


class Seen(HTMLParser):
    """The tags of a page, its attributes and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._tag = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            self.scripts.append(data)
            self._tag = ""
        self.text += data


def need_harmless(path: Path) -> Seen:
    """The page has no tag, attribute, address or script but those that m2clip writes."""
    seen = Seen(path.read_text("utf-8"))
    assert not seen.tags & {"svg", "iframe", "object", "embed", "link", "base", "form", "a"}
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("srcdoc", "href")]
    assert {name for name, _ in seen.attributes} <= {
        *("lang", "charset", "name", "content", "http-equiv", "scope", "class", "src", "alt"),
    }
    sources = [value for name, value in seen.attributes if name == "src"]
    assert all(value.startswith("data:image/jpeg;base64,") or value.endswith(".png") for value in sources)
    assert not [value for value in sources if "javascript" in value]
    assert all(script == _SORTING for script in seen.scripts)
    return seen


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes, each with one video, one of them with a file that is none, and a model of these classes."""
    root = tmp_path_factory.mktemp("hostile")
    for number, (name, file) in enumerate(zip(CLASSES, FILES, strict=True)):
        write_video(root / "data" / name / f"{file}.mp4", moving_square(side=64, shift=number))
    (root / "data" / CLASSES[0] / BAD).write_text("no video")
    tiny_model(CLASSES).save(root / "model.safetensors")
    return root


def test_the_page_of_an_evaluation(m2: Callable[..., Ran], hostile: Path, tmp_path: Path) -> None:
    out = tmp_path / "<b>out"
    ran = m2("evaluate", hostile / "model.safetensors", "--data", hostile / "data", "--workers", 0, "--out", out)
    assert ran.code == 0
    seen = need_harmless(out / "report.html")
    for name in CLASSES:
        assert name in seen.text
    assert set(json.loads((out / "report.json").read_text("utf-8"))["protocol"]["class_names"]) == set(CLASSES)
    with (out / "bad_files.csv").open(encoding="utf-8", newline="") as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == [BAD]


def test_the_page_of_a_check(m2: Callable[..., Ran], hostile: Path, tmp_path: Path) -> None:
    ran = m2("data", "check", hostile / "data", "--workers", 1, "--out", tmp_path / "check")
    assert ran.code == 1
    seen = need_harmless(tmp_path / "check/index.html")
    assert BAD in seen.text
    for name in CLASSES:
        assert name in seen.text


def test_names_in_subtitles_are_no_tags(m2: Callable[..., Ran], hostile: Path, tmp_path: Path) -> None:
    """WebVTT knows tags, and is drawn by browsers. Each class of this model has a `<`, so whichever is found must be escaped."""
    video = next((hostile / "data" / CLASSES[0]).glob("<svg*"))
    tiny_model(CLASSES[:2]).save(tmp_path / "two.safetensors")
    ran = m2("timeline", video, "--checkpoint", tmp_path / "two.safetensors", "--out", tmp_path / "x.vtt")
    assert ran.code == 0, ran.err
    text = (tmp_path / "x.vtt").read_text("utf-8")
    assert "&lt;" in text
    assert "<" not in text

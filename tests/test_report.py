"""Metrics by hand, files that read back, a page that no class name can break."""

import csv
import errno
import io
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2clip.errors import M2CLIPError
from m2clip.report import Picture, Section, Table, measure, page, write_evaluation, write_json
from m2clip.report.figures import class_bars, confusion_figure
from m2clip.report.metrics import wilson_interval

PNG = b"\x89PNG\r\n\x1a\n"


def one_hot_scores(predicted: list[int], classes: int) -> np.ndarray:
    """[N, K] with 0.6 at the predicted class and the rest shared out."""
    scores = np.full((len(predicted), classes), 0.4 / max(1, classes - 1))
    scores[np.arange(len(predicted)), predicted] = 0.6
    return scores


@pytest.mark.case("E2")
def test_metrics_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    measured = measure(one_hot_scores([0, 0, 1, 1, 2, 2], 4), labels, ["a", "b", "c", "unused"])
    assert measured.top1 == 4 / 6
    assert measured.top1_correct == 4
    assert measured.mean_class == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # the unused class does not count
    assert measured.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert [row.most_confused_with for row in measured.classes] == ["b", "c", None, None]
    assert measured.classes[3].accuracy is None


def test_top5_only_with_five_classes_or_more() -> None:
    few = measure(one_hot_scores([0, 1, 2], 3), np.array([0, 1, 2]), list("abc"))
    assert few.top5 is None
    assert few.document()["top5"] is None
    scores = np.tile(np.arange(6, 0, -1) / 21, (6, 1))  # class 0 first ... class 5 last
    many = measure(scores, np.arange(6), list("abcdef"))
    assert many.top5_correct == 5
    assert many.top1_correct == 1


def test_equal_scores_go_to_the_lower_class_number() -> None:
    measured = measure(np.full((5, 5), 0.2), np.arange(5), list("abcde"))
    assert measured.top1_correct == 1
    assert measured.confusion[:, 0].tolist() == [1] * 5


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        measure(np.array([[np.nan, 1.0]]), np.array([0]), ["a", "b"])


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 gives (0.2553, 0.3662), 0 of 20 gives (0, 0.1611).
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(20, 20)[1] == 1.0


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_fraction(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


class Tags(HTMLParser):
    """Collects tags and text as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = '<script>alert("x")</script>'


def test_page_escapes_whatever_comes_in() -> None:
    table = Table([HOSTILE], [[HOSTILE], [0.25], [3]], caption=HOSTILE)
    picture = Picture(f'{HOSTILE}" onerror="x.png', HOSTILE + '" onload="')
    parsed = Tags()
    parsed.feed(page(HOSTILE, [Section(HOSTILE, [HOSTILE, table, picture])]))
    assert "script" not in parsed.tags
    assert parsed.text.count(HOSTILE) == 8  # title, h1, h2, p, caption, th, td, figcaption
    assert not {"onerror", "onload"} & {name for name, _ in parsed.attributes}


@given(st.text(max_size=40))
def test_page_shows_any_text_unchanged(text: str) -> None:
    parsed = Tags()
    parsed.feed(page("title", [Section("heading", [Table(["name"], [[text]])])]))
    assert parsed.tags.count("td") == 1
    assert text in parsed.text


@pytest.mark.parametrize("count", [2, 16, 45])
def test_figures_are_pngs_for_few_and_many_classes(count: int) -> None:
    names = [f"class {k} costs $5 to $6, 跑步 {'x' * 50}" for k in range(count)]
    measured = measure(one_hot_scores([0] * count, count), np.arange(count), names)
    assert confusion_figure(measured.confusion, names, "title with a $ and a \\ sign").startswith(PNG)
    assert class_bars(measured, "title $x^2").startswith(PNG)


def test_an_evaluation_leaves_its_files(tmp_path: Path) -> None:
    names = [HOSTILE, "plain, with a comma"]
    measured = measure(one_hot_scores([0, 0], 2), np.array([0, 1]), names)
    document = {
        "protocol": {
            "name": "zero-shot",
            "class_names": names,
            "texts": [["A video of " + name] for name in names],
            "views": {"temporal": 1, "spatial": 1},
            "bad_files": [{"path": "<b>.mp4", "where": "list.txt:3", "reason": "empty"}],
            "damaged_files": [],
        },
        "metrics": {"similarity": measured.document()},
    }
    rows = [["a.mp4", None, None, names[0], "similarity", names[0], 0.6, 0.4]]
    out = tmp_path / "new" / "out"
    files = write_evaluation(out, document, {"similarity": measured}, class_names=names, score_rows=rows)
    assert sorted(files) == sorted(path.name for path in out.iterdir())
    assert json.loads((out / "report.json").read_text("utf-8")) == json.loads(json.dumps(document))
    table = list(csv.DictReader(io.StringIO((out / "scores.csv").read_text("utf-8"))))
    assert table[0]["plain, with a comma"] == "0.4"
    assert table[0]["start_seconds"] == ""
    parsed = Tags()
    parsed.feed((out / "report.html").read_text("utf-8"))
    assert "script" not in parsed.tags
    assert "b" not in parsed.tags
    assert parsed.tags.count("img") == 3
    assert {value for name, value in parsed.attributes if name == "src"} <= set(files)


def test_json_takes_no_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_told_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"x": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        M2CLIPError, match=r"a\.json cannot be written \(No space left on device\); free space or choose"
    ):
        write_json(tmp_path / "a.json", {"x": 2})
    monkeypatch.undo()
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

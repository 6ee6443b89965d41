"""A timeline as a file: subtitles that players can read whatever the labels hold, a table, a document, a picture of any length."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2clip.errors import ConfigError
from m2clip.report import figures
from m2clip.report.timeline_figure import clock, timeline_figure
from m2clip.report.timeline_files import check_ending, subtitles, write_timeline
from m2clip.scoring import Prediction
from m2clip.timeline import Moment, Window, moments


def window(start: float, end: float, label: str, score: float = 0.5, *, none: bool = False) -> Window:
    return Window(start, end, (Prediction(label, score), Prediction("another", (1 - score) / 2)), none)


def spans(windows: Sequence[Window]) -> list[tuple[float, float, str]]:
    return [(one.start_seconds, one.end_seconds, one.label) for one in moments(windows)]


def test_windows_that_overlap_speak_for_what_is_nearest_to_their_middle() -> None:
    assert spans([window(0, 2, "a"), window(1, 3, "b"), window(2, 4, "c")]) == [
        (0, 1.5, "a"), (1.5, 2.5, "b"), (2.5, 4, "c"),
    ]  # fmt: skip
    merged = list(moments([window(0, 2, "a", 0.4), window(1, 3, "a", 0.9), window(2, 4, "b"), window(3, 5, "a", 0.6)]))
    assert merged == [Moment(0, 2.5, "a", 0.9), Moment(2.5, 3.5, "b", 0.5), Moment(3.5, 5, "a", 0.6)]
    assert spans([window(0, 1.5, "a")]) == [(0, 1.5, "a")]
    assert spans([]) == []


def test_between_windows_that_do_not_touch_there_is_nothing() -> None:
    assert spans([window(0, 2, "a"), window(10, 12, "a"), window(20, 22, "b")]) == [
        (0, 2, "a"), (10, 12, "a"), (20, 22, "b"),
    ]  # fmt: skip


def test_where_none_of_the_classes_is_shown_there_is_no_moment() -> None:
    assert spans([window(0, 2, "a"), window(1, 3, "a", none=True), window(2, 4, "a")]) == [(0, 1.5, "a"), (2.5, 4, "a")]


def test_subtitles() -> None:
    assert subtitles([Moment(0, 1.5, "waving", 0.876), Moment(3599.9996, 400000.25, "running", 1.0)]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nwaving (0.88)\n\n01:00:00.000 --> 111:06:40.250\nrunning (1.00)\n"
    )
    assert subtitles([]) == "WEBVTT\n"
    assert subtitles([Moment(1, 1.0002, "gone at once", 1.0)]) == "WEBVTT\n"


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("a < b & c > d", "a &lt; b &amp; c &gt; d"),
        ("two\n\nlines\r\nand\rmore", "two lines and more"),
        ("x\n\n00:00:01.000 --> 00:00:02.000\nforged", "x 00:00:01.000 --&gt; 00:00:02.000 forged"),
        ("<b>bold</b><c.red>", "&lt;b&gt;bold&lt;/b&gt;&lt;c.red&gt;"),
        ("NOTE", "NOTE"),
        ("nul\0byte", "nulbyte"),
        ("跳绳 ‘é’ 'quoted' \"", "跳绳 ‘é’ 'quoted' \""),
    ],
)
def test_labels_cannot_break_out_of_a_subtitle(label: str, written: str) -> None:
    lines = subtitles([Moment(0, 1, label, 0.5)]).split("\n")
    assert lines == ["WEBVTT", "", "00:00:00.000 --> 00:00:01.000", f"{written} (0.50)", ""]


def write(path: Path, windows: list[Window], *, top: int = 2) -> bytes:
    check_ending(path)
    write_timeline(
        path, document={"windows": 1}, windows=windows, moments=list(moments(windows)), top=top, title="a $title$"
    )
    return path.read_bytes()


def test_each_form(tmp_path: Path) -> None:
    windows = [window(0, 2, 'a, "b"', 0.75), window(1, 3, "c", 0.5, none=True)]
    assert json.loads(write(tmp_path / "t.json", windows)) == {"windows": 1}
    rows = list(csv.reader(io.StringIO(write(tmp_path / "t.CSV", windows, top=1).decode())))
    assert rows == [
        ["start_seconds", "end_seconds", "rank", "label", "score", "none_of_these"],
        ["0", "2", "1", 'a, "b"', "0.75", "false"],
        ["1", "3", "1", "c", "0.5", "true"],
    ]
    assert len(write(tmp_path / "t2.csv", windows).splitlines()) == 5
    assert write(tmp_path / "t.vtt", windows).decode().splitlines()[3] == 'a, "b" (0.75)'
    assert write(tmp_path / "t.png", windows).startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.CSV", "t.json", "t.png", "t.vtt", "t2.csv"]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("t.txt", "t", "csv", "t.srt", "t.json.gz"):
        with pytest.raises(ConfigError, match=r"must end in .json, .csv, .vtt, .png"):
            check_ending(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        check_ending(tmp_path / "folder.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="results cannot be written to"):
        check_ending(tmp_path / "file" / "t.csv")
    monkeypatch.setattr(figures, "available", lambda: False)
    check_ending(tmp_path / "t.vtt")
    with pytest.raises(ConfigError, match=r"matplotlib is needed: pip install 'm2clip\[train\]'"):
        check_ending(tmp_path / "t.png")


def pixels(windows: list[Window]) -> np.ndarray:
    return np.asarray(
        Image.open(io.BytesIO(timeline_figure(windows, list(moments(windows)), title="t"))).convert("RGB")
    )


def coloured(picture: np.ndarray) -> int:
    return int((np.ptp(picture.astype(int), axis=-1) > 30).sum())


def test_a_picture_has_colour_where_there_is_a_score() -> None:
    """A row is as wide as the video: half as long an action, half as much colour."""
    seen = [Window(k, k + 1, (Prediction("a", 1.0),)) for k in range(8)]
    unseen = [Window(k, k + 1, (Prediction("a", 0.0),), True) for k in range(8)]
    whole, half = coloured(pixels(seen)), coloured(pixels(seen[:4] + unseen[4:]))
    assert half == pytest.approx(whole / 2, rel=0.05)


@pytest.mark.parametrize("count", [1, 20_000])
def test_a_picture_of_any_length(count: int) -> None:
    """Five hours at a second a window, with more actions than rows; one short moment in them is seen."""
    windows = [window(k, k + 2, f"an action with a rather long name, number {k // 1000}", 0.9) for k in range(count)]
    picture = pixels(windows)
    assert picture.shape[1] == 1440
    assert picture.shape[0] < 900
    if count > 1:
        windows = [window(k, k + 2, "a" if k != 10_000 else "b", 0.9) for k in range(count)]
        orange = (
            np.abs(pixels(windows).astype(int) - (219, 110, 26)).max(-1) < 20
        )  # 0.9 of the second row's colour on white
        assert orange.any()


def test_a_name_that_looks_like_a_formula_stays_text() -> None:
    assert len(pixels([window(0, 1, "$\\frac{"), window(1, 2, "跳绳")]))


def test_times_are_written_as_players_do() -> None:
    assert clock(5.5, 9) == "5.5"
    assert clock(65, 70) == "1:05"
    assert clock(65, 7200) == "0:01:05"
    assert clock(36_061, 40_000) == "10:01:01"

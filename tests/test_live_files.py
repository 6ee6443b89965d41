"""Files that grow with a live source: each window is there at once, and a later run goes on behind it."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from m2clip.errors import ConfigError
from m2clip.live import LiveWindow
from m2clip.report.live_files import LiveFile
from m2clip.scoring import Prediction

ARRIVED = datetime(2026, 3, 1, 12, 30, 5, 250_000, tzinfo=UTC).timestamp()


def window(start: float, end: float, *labels: str) -> LiveWindow:
    found = tuple(Prediction(label, 0.75 - 0.5 * place) for place, label in enumerate(labels))
    return LiveWindow(
        start, end, found, arrived_at=ARRIVED, latency_seconds=0.125, dropped_frames=3, reconnects=1
    )  # fmt: skip


def test_each_window_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    with LiveFile(path) as file:
        file.begin({"checkpoint": "a"})
        file.add(window(0, 2, "a", "b"))
        first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert first == {"checkpoint": "a"}
    assert second == {
        "time": "2026-03-01T12:30:05.250+00:00",
        "start_seconds": 0,
        "end_seconds": 2,
        "predictions": [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}],
        "none_of_these": False,
        "latency_seconds": 0.125,
        "dropped_frames": 3,
        "reconnects": 1,
    }


def test_a_later_run_goes_on_behind_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "live.csv"
    for run in (0, 1):
        with LiveFile(path) as file:
            file.begin({"checkpoint": "a"})
            file.add(window(run, run + 2, 'a, "b"\nc', "d"))
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["start_seconds"], row["rank"], row["label"]) for row in rows] == [
        ("0", "1", 'a, "b"\nc'), ("0", "2", "d"), ("1", "1", 'a, "b"\nc'), ("1", "2", "d"),
    ]  # fmt: skip
    assert rows[0]["time"] == "2026-03-01T12:30:05.250+00:00"
    assert rows[0]["none_of_these"] == "false"


def test_subtitles_show_the_newest_window_and_never_two(tmp_path: Path) -> None:
    path = tmp_path / "live.vtt"
    with LiveFile(path) as file:
        file.begin({})
        file.add(window(0, 2, "a <b> --> c"))
        file.add(window(1, 3, "d"))
        file.add(window(10, 12, "e"))
        file.add(replace(window(11, 13, "none of these"), none_of_these=True))
    assert path.read_text() == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:02.000\na &lt;b&gt; --&gt; c (0.75)\n\n"
        "00:00:02.000 --> 00:00:03.000\nd (0.75)\n\n"
        "00:00:10.000 --> 00:00:12.000\ne (0.75)\n"
    )


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    table, subtitles = tmp_path / "other.csv", tmp_path / "old.vtt"
    table.write_text("start_seconds,label\n0,a\n")
    subtitles.write_text("WEBVTT\n")
    for path in (table, subtitles):
        before = path.read_text()
        with pytest.raises(ConfigError, match="give another name"):
            LiveFile(path)
        assert path.read_text() == before


@pytest.mark.parametrize("name", ["live.json", "live.png", "live"])
def test_what_cannot_grow_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must end in"):
        LiveFile(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "live.csv").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        LiveFile(tmp_path / "live.csv")

"""`m2clip timeline`: files beside the text, what was found before a video breaks off, wrong usage told before the work."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.data.video import Video
from m2clip.errors import VideoError
from tests.program import Ran

Program = Callable[..., Ran]


@pytest.fixture
def arguments(place: Path) -> tuple[object, ...]:
    return ("timeline", place / "good.mp4", "--checkpoint", place / "model.safetensors", "--window", 1, "--step", 0.5)


def test_files_beside_the_text(m2: Program, arguments: tuple[object, ...], tmp_path: Path) -> None:
    names = [tmp_path / f"t.{ending}" for ending in ("json", "csv", "vtt", "png")]
    out = [part for name in names for part in ("--out", name)]
    plain, ran = m2(*arguments, "--top", 2), m2(*arguments, "--top", 2, *out)
    assert (ran.code, ran.out, ran.err) == (0, plain.out, "")
    document = json.loads((tmp_path / "t.json").read_text())
    assert document == json.loads(m2(*arguments, "--top", 2, "--json").out)
    assert all(len(window["predictions"]) == 2 for window in document["windows"])  # the picture's further ones stay out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert [(float(row["start_seconds"]), row["label"]) for row in rows] == [
        (window["start_seconds"], one["label"]) for window in document["windows"] for one in window["predictions"]
    ]
    assert (tmp_path / "t.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["t.txt", "t", "missing/../t.mp4"])
def test_a_bad_ending_is_refused_before_the_work(m2: Program, place: Path, tmp_path: Path, name: str) -> None:
    ran = m2("timeline", place / "no.mp4", "--checkpoint", "no.safetensors", "--out", tmp_path / name)
    assert ran.code == 1
    assert "its name must end in .json, .csv, .vtt, .png" in ran.err
    assert ran.err.count("\n") == 1


def breaking_off(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, after: int) -> None:
    """The video cannot be read any more after so many calls."""
    calls: list[int] = []
    frames = Video.frames

    def failing(self: Video, indices: Any, *rest: Any, **named: Any) -> np.ndarray:
        calls.append(len(indices))
        if len(calls) > after:
            raise error
        return frames(self, indices, *rest, **named)

    monkeypatch.setattr(Video, "frames", failing)


@pytest.mark.parametrize("shared", [True, False])
def test_what_was_found_before_a_video_breaks_off_is_kept(
    m2: Program, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """At 16 frames a second a chunk of 32 is the first two thirds of three seconds; alone, eight windows come at once."""
    pixels = np.zeros((75 if shared else 300, 32, 32, 3), np.uint8)
    np.save(tmp_path / "long.npy", pixels)
    arguments = (
        "timeline", tmp_path / "long.npy", "--checkpoint", place / "model.safetensors", "--frames", 16,
        "--window", 1, "--step", 0.5 if shared else 1,
    )  # fmt: skip
    whole = m2(*arguments).out.splitlines()
    breaking_off(monkeypatch, VideoError("long.npy cannot be read any more"), after=1)
    out = ("--out", tmp_path / "t.csv", "--out", tmp_path / "t.png")
    ran = m2(*arguments, *out)
    assert ran.code == 1
    found = ran.out.splitlines()
    assert len(found) == (3 if shared else 8)
    assert found == whole[: len(found)]
    assert f"breaks off: the {len(found)} windows until {2 if shared else 8}.00 s are kept" in ran.err
    assert "long.npy cannot be read any more" in ran.err
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + len(found)
    monkeypatch.undo()
    breaking_off(monkeypatch, VideoError("long.npy cannot be read any more"), after=1)
    document = json.loads(m2(*arguments, "--json").out)
    assert document["error"] == "long.npy cannot be read any more"
    assert len(document["windows"]) == len(found)


def test_a_video_that_breaks_off_at_once_is_an_error_alone(
    m2: Program, arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking_off(monkeypatch, VideoError("good.mp4 cannot be read"), after=0)
    ran = m2(*arguments, "--out", tmp_path / "t.csv", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "m2clip: good.mp4 cannot be read\n"
    assert not (tmp_path / "t.csv").exists()


def test_compiled_code_has_no_place_where_windows_share_frames(m2: Program, arguments: tuple[object, ...]) -> None:
    ran = m2(*arguments, "--compile")
    assert (ran.code, ran.out) == (1, "")
    assert "--compile is for clips" in ran.err


def test_windows_alone(m2: Program, arguments: tuple[object, ...], place: Path) -> None:
    """Each is then scored as a video of just these frames would be: one that holds the whole, as `classify` does."""
    shared, alone = (json.loads(m2(*arguments, "--json", *more).out)["windows"] for more in ((), ("--alone",)))
    assert [window["start_seconds"] for window in shared] == [window["start_seconds"] for window in alone]
    assert shared != alone
    ran = m2("timeline", "rtsp://camera", "--stream", "--alone")
    assert ran.code == 2
    assert "share their frames" in ran.err

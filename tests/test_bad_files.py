"""Telling of bad and damaged files: each once, a few by name, all in tables."""

import csv
from pathlib import Path

import pytest

from m2clip.config import RunConfig
from m2clip.data.dataset import MOST_LOST, BadFile, DamagedFile
from m2clip.data.readers import FILE_SECONDS
from m2clip.errors import VideoError
from m2clip.report.bad_files import FileReport


def bad(number: int) -> BadFile:
    return BadFile(Path(f"{number}.mp4"), f"list.txt:{number}", f"no frame of {number}.mp4", number)


def test_each_file_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    report = FileReport(policy="skip", tell=said.append)
    assert (report.summary(), report.write(tmp_path)) == ("", [])
    damaged = DamagedFile(Path("d.mkv"), "list.txt:9", 0.25, 8)
    for _ in range(2):  # two epochs; and what other processes met comes again with what this one did
        report.note([bad(7)], [damaged])
    assert said == [
        "skipped: no frame of 7.mp4 (listed at list.txt:7)",
        "damaged: d.mkv has lost 25.0 % of its frames (listed at list.txt:9)",
    ]
    assert report.summary() == "1 file that could not be read and 1 damaged file that was used"
    assert report.write(tmp_path) == ["bad_files.csv", "damaged_files.csv"]
    assert (tmp_path / "bad_files.csv").read_text() == "path,where,reason\n7.mp4,list.txt:7,no frame of 7.mp4\n"
    assert (tmp_path / "damaged_files.csv").read_text() == "path,where,lost_share\nd.mkv,list.txt:9,0.25\n"


def test_thousands_are_counted_and_written_but_not_told(tmp_path: Path) -> None:
    said: list[str] = []
    report = FileReport(policy="skip", tell=said.append)
    report.note(map(bad, range(3000)), [DamagedFile(Path(f"{n}.avi"), f"list.txt:{n}", 0.1, n) for n in range(50)])
    assert len(said) == 20 + 1 + 5 + 1
    assert said[20].startswith("more than 20 files cannot be read;")
    assert said[26].startswith("more than 5 files are damaged;")
    assert report.summary() == "3000 files that could not be read and 50 damaged files that were used"
    report.write(tmp_path)
    with (tmp_path / "bad_files.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [f"{n}.mp4" for n in range(3000)]


def test_the_first_one_can_be_the_end() -> None:
    said: list[str] = []
    report = FileReport(policy="stop", tell=said.append)
    report.note([], [DamagedFile(Path("d.mkv"), "list.txt:9", 0.25, 8)])
    with pytest.raises(VideoError, match=r"^no frame of 7\.mp4 \(listed at list\.txt:7\); .* set on_bad_file to skip$"):
        report.note([bad(7)], [])
    assert len(said) == 1


def test_limits_are_the_same_everywhere() -> None:
    data = RunConfig(out="out").data
    assert (data.most_lost, data.file_seconds) == (MOST_LOST, FILE_SECONDS)


def test_a_report_goes_on_where_an_interrupted_one_was(tmp_path: Path) -> None:
    """Twenty files are named in all, whichever of them are met first after the break."""
    said: list[str] = []
    damaged = [DamagedFile(Path(f"{n}.avi"), f"list.txt:{n}", 0.1, n) for n in range(4)]
    before, after, whole = (FileReport(policy="skip", tell=said.append) for _ in range(3))
    before.note(map(bad, (5, 3, *range(10, 25))), damaged[2:])
    known = before.known()
    assert [file.index for file in known[0]] == [5, 3, *range(10, 25)]
    assert known[1] == damaged[2:]
    said.clear()
    after.go_on(*known)
    after.note(map(bad, (40, 5, 41, 42, 43, 44)), damaged)
    assert [sentence[:40] for sentence in said] == [
        *(f"skipped: no frame of {n}.mp4 (listed at l" for n in (40, 41, 42)),
        "more than 20 files cannot be read; from ",
        *(f"damaged: {n}.avi has lost 10.0 % of its fr" for n in (0, 1)),
    ]
    whole.note(map(bad, (5, 3, *range(10, 25), 40, 41, 42, 43, 44)), [*damaged[2:], *damaged[:2]])
    for name, report in (("after", after), ("whole", whole)):
        (tmp_path / name).mkdir()
        report.write(tmp_path / name)
    for name in ("bad_files.csv", "damaged_files.csv"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

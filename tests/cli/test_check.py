"""m2clip data check: exit codes, outputs, a run that is killed, files that end or hold up their reader."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import m2clip.check.run
from m2clip.check.reading import ReadJob
from tests.program import Ran, one_sentence
from tests.small_inputs import moving_square, write_sound, write_video

# Runs the command line and kills its own process, as no handler and no `finally` can see, with half a line of its third file written.
KILLED = """
import os, signal, sys
from m2clip.check.kept_facts import KeptFacts
from m2clip.cli import main

keep, kept = KeptFacts.keep, []

def keep_or_die(self, *arguments):
    keep(self, *arguments)
    kept.append(arguments)
    if len(kept) == 2:
        self._file.write(b'{"key": "[1, ')
        os.kill(os.getpid(), signal.SIGKILL)

KeptFacts.keep = keep_or_die
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes with two videos of 12 frames and 64x64 pixels each, all different."""
    for number, name in enumerate(("run/a", "run/b", "walk/c", "walk/d")):
        write_video(tmp_path / "data" / f"{name}.mp4", moving_square(side=64, shift=number))
    return tmp_path / "data"


@pytest.fixture
def read_jobs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Names of the files that were given to reading processes since the test began."""
    names: list[Any] = []
    run_apart = m2clip.check.run.run_apart

    def noted(work: Any, jobs: Any, **options: Any) -> Any:
        names.extend(job.place.name for job in jobs if isinstance(job, ReadJob))
        return run_apart(work, jobs, **options)

    monkeypatch.setattr(m2clip.check.run, "run_apart", noted)
    return names


def test_a_good_data_set_is_usable_and_is_read_once(
    m2: Callable[..., Ran], data: Path, tmp_path: Path, read_jobs: list[Any]
) -> None:
    ran = m2("data", "check", data, "--workers", 1)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == f"data: {data}, 4 videos of 2 classes, 4 can be used"
    assert lines[1].startswith("4 files, ")
    assert lines[1].endswith(", 48 frames, 0:00:04 of video")
    assert lines[-1] == "usable"
    assert read_jobs == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    write_video(data / "run" / "b.mp4", moving_square(side=64, frames=20, shift=9))
    ran = m2("data", "check", data, "--workers", 1, "--json")
    assert json.loads(ran.out)["files"]["frames"] == 56
    assert read_jobs[4:] == ["b.mp4"]


def test_what_is_wrong_is_told_in_lines_json_and_a_page(m2: Callable[..., Ran], data: Path, tmp_path: Path) -> None:
    write_sound(data / "run" / "<img src=x onerror=alert(1)>.mp4")
    (data / "walk" / "copy.mp4").write_bytes((data / "run" / "a.mp4").read_bytes())
    (data / "empty class").mkdir()
    (tmp_path / "test.csv").write_text("path,label\nwalk/d.mp4,walk\nrun/gone.mp4,run\n")
    options = ("--test", tmp_path / "test.csv", "--root", data)
    listed = "".join(f"{path.relative_to(data)},{path.parent.name}\n" for path in sorted(data.rglob("*.mp4")))
    (tmp_path / "train.csv").write_text(f"path,label\n{listed}", encoding="utf-8")
    (tmp_path / "names.txt").write_text("run\nwalk\nswim\n")
    out = tmp_path / "out"
    ran = m2(
        "data", "check", tmp_path / "train.csv", *options, "--classes", tmp_path / "names.txt", "--out", out, "--json"
    )
    assert ran.code == 1
    assert "Traceback" not in ran.err
    document = json.loads(ran.out)
    assert document == json.loads((out / "check.json").read_text(encoding="utf-8"))
    assert document["usable"] is False
    assert document["counts"] == {"missing": 1, "no-video-stream": 1, "two-labels": 1, "train-test": 1}
    assert [reason.split(" ")[0] for reason in document["reasons"]] == ["1", "1", "1", "1", "1"]
    assert "'swim'" in document["reasons"][2]
    where = {one["code"]: one["where"] for one in document["findings"]}
    assert where["missing"] == f"{tmp_path / 'test.csv'}:3"
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;.mp4" in page
    assert "<img src=x" not in page
    assert page.count('<img src="data:image/jpeg;base64,') == 4  # two labels, train and test; two classes with videos
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "files.jsonl", "index.html"]
    paths = [json.loads(line)["path"] for line in (out / "files.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [Path(path).name[:4] for path in paths] == ["<img", "a.mp", "b.mp", "c.mp", "copy", "d.mp", "gone"]


def test_a_share_of_bad_files_can_be_allowed(m2: Callable[..., Ran], data: Path) -> None:
    write_sound(data / "run" / "sound.mp4")
    ran = m2("data", "check", data)
    assert ran.code == 1
    assert ran.out.splitlines()[-2:] == [
        "not usable:",
        f"  1 of 5 videos of {data} is bad; mend them, take them off the list, or allow a share of them with --most-bad",
    ]
    assert m2("data", "check", data, "--most-bad", 0.2).code == 0


def test_any_folder_of_videos_can_be_checked(m2: Callable[..., Ran], data: Path) -> None:
    ran = m2("data", "check", data.parent, "--frames", 16)
    assert ran.code == 0
    assert "is not one folder a class, so its videos are checked as files without classes" in one_sentence(ran)
    assert "4 videos without classes, 4 can be used" in ran.out
    assert "  data/run/a.mp4: 12 frames, and a clip takes 16" in ran.out.splitlines()


def test_wrong_use_is_one_sentence(m2: Callable[..., Ran], data: Path, tmp_path: Path) -> None:
    assert "gone.csv does not exist" in one_sentence(m2("data", "check", tmp_path / "gone.csv"))
    assert "lies in the data set" in one_sentence(m2("data", "check", data, "--out", data / "report"))
    assert not (data / "report").exists()
    assert m2("data", "check", data, "--most-bad", "1.5").code == 2
    assert m2("data", "check").code == 2


def test_a_check_that_is_killed_goes_on_and_ends_the_same(
    m2: Callable[..., Ran], data: Path, tmp_path: Path, read_jobs: list[Any]
) -> None:
    assert m2("data", "check", data, "--out", tmp_path / "undisturbed", "--workers", 1).code == 0
    (tmp_path / "script.py").write_text(KILLED)
    out = tmp_path / "killed"
    process = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), "data", "check", str(data), "--out", str(out), "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert len((out / "files.jsonl").read_bytes().splitlines()) == 3
    del read_jobs[:]
    assert m2("data", "check", data, "--out", out, "--workers", 1).code == 0
    assert read_jobs == ["c.mp4", "d.mp4"]
    for name in ("files.jsonl", "check.json", "index.html"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name


def read_or_end(job: Any, alive: Any) -> Any:
    """Reads like a decoder that crashes on b and hangs on c."""
    if job.place.name == "b.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.place.name == "c.mp4":
        os.kill(os.getpid(), signal.SIGSTOP)
    return m2clip.check.reading.read_file(job, alive)


def test_a_file_that_ends_or_holds_up_its_reader_is_a_finding(
    m2: Callable[..., Ran], data: Path, monkeypatch: pytest.MonkeyPatch, read_jobs: list[Any]
) -> None:
    monkeypatch.setattr(m2clip.check.run, "read_file", read_or_end)
    ran = m2("data", "check", data, "--workers", 2, "--timeout", 8, "--json")
    assert ran.code == 1
    document = json.loads(ran.out)
    assert [(one["code"], Path(one["path"]).name) for one in document["findings"]] == [
        ("crashes-decoder", "b.mp4"),
        ("takes-too-long", "c.mp4"),
    ]
    assert document["findings"][0]["detail"] == "the process that read it ended by SIGSEGV"
    assert document["lists"][0]["readable"] == 2
    monkeypatch.undo()
    assert m2("data", "check", data).code == 0  # neither is taken for known


def test_a_run_names_what_is_checked(m2: Callable[..., Ran], data: Path, tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("path,label\nwalk/d.mp4,walk\n")
    settings = f"data: {{train: '{data}', val: '{tmp_path / 'val.csv'}', frames: 16}}\nout: '{tmp_path / 'run'}'\n"
    (tmp_path / "run.yaml").write_text(settings.replace("val.csv'", "val.csv', root: 'unused'"))
    assert "leave out root" in one_sentence(m2("data", "check", "--config", tmp_path / "run.yaml"))
    listed = "".join(f"data/{path.relative_to(data)},{path.parent.name}\n" for path in sorted(data.rglob("*.mp4")))
    (tmp_path / "train.csv").write_text(f"path,label\n{listed}")
    (tmp_path / "val.csv").write_text("path,label\ndata/walk/d.mp4,walk\n")
    (tmp_path / "run.yaml").write_text(settings.replace(str(data), str(tmp_path / "train.csv")))
    document = json.loads(m2("data", "check", "--config", tmp_path / "run.yaml", "--json").out)
    assert document["counts"] == {"train-test": 1, "few-frames": 4}
    assert document["limits"] == {"frames": 16, "most_lost": 0.5, "most_bad": 0.0}
    ran = m2("data", "check", data, "--config", tmp_path / "run.yaml", "--frames", 4)
    assert ran.code == 2
    assert "DATA, --frames stand in the run's file" in " ".join(ran.err.split())

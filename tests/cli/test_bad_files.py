"""Lists with broken files at the command line: runs finish, each file is named once, and one alone is refused in one line."""

import csv
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.data.video import Video
from m2clip.train.log import read_log
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import moving_square, write_video

BROKEN = ("empty.mp4", "random.mp4", "cut.mp4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good video and three broken ones, and a damaged one that lost 4 of its 20 frames."""
    folder = tmp_path_factory.mktemp("broken")
    good = write_video(folder / "good.mp4", moving_square(frames=24)).read_bytes()
    (folder / "empty.mp4").touch()
    (folder / "random.mp4").write_bytes(np.random.default_rng(0).bytes(9000))
    (folder / "cut.mp4").write_bytes(good[: len(good) * 6 // 10])
    whole = write_video(folder / "damaged.mkv", moving_square(frames=20)).read_bytes()
    (folder / "damaged.mkv").write_bytes(whole[: len(whole) * 9 // 10])
    return folder


def listed(folder: Path, *names: str) -> Path:
    path = folder / f"{len(names)}.csv"
    path.write_text("path,label\n" + "".join(f"{name},{NAMES[k % len(NAMES)]}\n" for k, name in enumerate(names)))
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def told_of(lines: Sequence[str], name: str) -> int:
    return sum(f"{name}" in line for line in lines)


def train(m2: Callable[..., Ran], data: Path, out: Path, *changes: str) -> Ran:
    (out.parent / "run.yaml").write_text(
        f"out: {out}\ndata: {{train: {data}, workers: 2, frames: 4, flip: false}}\nmodel: {{backbone: builtin}}\n"
        "train: {epochs: 2, warmup_epochs: 0, batch_size: 2, lr: 0.01}\n"
    )
    return m2("train", out.parent / "run.yaml", *changes)


@pytest.mark.case("D1", "D2")
def test_training_finishes_and_names_each_broken_file_once(
    m2: Callable[..., Ran], folder: Path, tmp_path: Path
) -> None:
    data = listed(folder, "good.mp4", *BROKEN)
    ran = train(m2, data, tmp_path / "run", f"data.val={data}", f"data.test={data}")
    assert ran.code == 0
    assert (tmp_path / "run/best.safetensors").exists()
    lines = [line for line in ran.err.splitlines() if "warning: skipped:" in line]
    assert len(lines) == 3
    log = read_log(tmp_path / "run")
    warned = [line["text"] for line in log if line["kind"] == "warning" and "skipped" in line["text"]]
    for number, name in enumerate(BROKEN):
        assert (told_of(lines, name), told_of(warned, name)) == (1, 1)
        assert any(f"{name}" in line and f"(listed at {data}:{number + 3})" in line for line in lines)
    assert [line["bad_files"] for line in log if line["kind"] == "epoch"] == [3, 3]
    assert f"3 files that could not be read: see {tmp_path / 'run/bad_files.csv'}" in ran.err
    rows = table(tmp_path / "run/bad_files.csv")
    assert sorted(row["path"] for row in rows) == sorted(str(folder / name) for name in BROKEN)
    assert all(row["path"] in row["reason"] and row["where"].startswith(f"{data}:") for row in rows)
    report = json.loads((tmp_path / "run/test/report.json").read_text())["protocol"]
    assert (report["data"]["scored"], report["data"]["bad"]) == (1, 3)
    assert len(table(tmp_path / "run/test/bad_files.csv")) == 3


@pytest.mark.case("D1", "D2")
def test_evaluation_finishes_and_names_each_broken_file_once(
    m2: Callable[..., Ran], place: Path, folder: Path, tmp_path: Path
) -> None:
    data = listed(folder, "good.mp4", *BROKEN)
    ran = m2(
        "evaluate", place / "model.safetensors", "--data", data, "--workers", 2, "--out", tmp_path / "out",
        "--protocol", "zero-shot",
    )  # fmt: skip
    assert ran.code == 0
    assert "1 of 4 videos scored, 0 missing, 3 bad" in ran.out
    *lines, written = ran.err.splitlines()
    assert [told_of(lines, name) for name in BROKEN] == [1, 1, 1]
    assert len(lines) == 3
    assert "bad_files.csv" in written
    report = json.loads((tmp_path / "out/report.json").read_text())["protocol"]
    assert [Path(file["path"]).name for file in report["bad_files"]] == list(BROKEN)
    assert [row["where"] for row in table(tmp_path / "out/bad_files.csv")] == [f"{data}:{n}" for n in (3, 4, 5)]
    assert not (tmp_path / "out/damaged_files.csv").exists()


@pytest.mark.case("D1", "D2")
@pytest.mark.parametrize("name", BROKEN)
def test_one_broken_file_is_refused_in_a_line(m2: Callable[..., Ran], place: Path, folder: Path, name: str) -> None:
    ran = m2("classify", folder / name, "--checkpoint", place / "model.safetensors")
    assert ran.code == 1
    assert str(folder / name) in one_sentence(ran)
    assert ran.out == ""


@pytest.mark.case("D1")
def test_where_all_are_broken_one_sentence_ends_it(
    m2: Callable[..., Ran], place: Path, folder: Path, tmp_path: Path
) -> None:
    data = listed(folder, *BROKEN)
    for ran in (
        train(m2, data, tmp_path / "run"),
        m2("evaluate", place / "model.safetensors", "--data", data, "--protocol", "zero-shot"),
    ):
        assert ran.code == 1
        *told, end = ran.err.splitlines()
        assert f"{data}: none of its 3 videos could be read" in end
        assert all("skipped: " in line for line in told)
        assert "Traceback" not in ran.err


@pytest.mark.case("D1")
def test_the_first_broken_file_ends_it_where_that_is_wished(
    m2: Callable[..., Ran], folder: Path, tmp_path: Path
) -> None:
    data = listed(folder, "good.mp4", *BROKEN)
    ran = train(m2, data, tmp_path / "run", "data.on_bad_file=stop")
    assert ran.code == 1
    assert f"(listed at {data}:" in one_sentence(ran)
    assert "set on_bad_file to skip" in one_sentence(ran)


@pytest.mark.case("D5")
@pytest.mark.skipif(sys.platform != "linux", reason="workers must be forked to crash as this test wants")
def test_a_file_that_kills_the_decoder_is_a_bad_file(
    m2: Callable[..., Ran], place: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(Video):
        def __init__(self, source: Any) -> None:
            if Path(source).name == "empty.mp4":
                with (tmp_path / "deaths").open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
            super().__init__(source)

    monkeypatch.setattr("m2clip.data.dataset.Video", Deadly)
    data = listed(folder, "good.mp4", "damaged.mkv", "empty.mp4")
    ran = train(m2, data, tmp_path / "run", f"data.val={data}")
    assert ran.code == 0
    assert told_of(ran.err.splitlines(), f"{folder / 'empty.mp4'} was killed twice (signal SIGKILL)") == 1
    epochs = [line for line in read_log(tmp_path / "run") if line["kind"] == "epoch"]
    assert [(line["bad_files"], line["damaged_files"]) for line in epochs] == [(1, 1), (1, 1)]
    assert (
        tmp_path / "deaths"
    ).read_text() == "xxxx"  # twice in training and in validation, not once more in the second epoch

    ran = m2(
        "evaluate", place / "model.safetensors", "--data", data, "--protocol", "zero-shot", "--workers", 2, "--json"
    )  # fmt: skip
    used = json.loads(ran.out)["protocol"]
    assert {key: used["data"][key] for key in ("scored", "bad", "damaged")} == {"scored": 2, "bad": 1, "damaged": 1}
    assert [file["where"] for file in used["bad_files"]] == [f"{data}:4"]


def test_damaged_files_are_used_and_named(m2: Callable[..., Ran], place: Path, folder: Path, tmp_path: Path) -> None:
    data = listed(folder, "good.mp4", "damaged.mkv")
    arguments = ("evaluate", place / "model.safetensors", "--data", data, "--protocol", "zero-shot")
    ran = m2(*arguments, "--out", tmp_path / "out")
    assert ran.code == 0
    assert "2 of 2 videos scored, 0 missing, 0 bad, 1 damaged" in ran.out
    (line, _) = ran.err.splitlines()
    assert f"damaged: {folder / 'damaged.mkv'} has lost 20.0 % of its frames (listed at {data}:3)" in line
    report = json.loads((tmp_path / "out/report.json").read_text())["protocol"]
    expected = {"path": str(folder / "damaged.mkv"), "where": f"{data}:3", "lost_share": 0.2}
    assert (report["damaged_files"], report["most_lost"]) == ([expected], 0.5)
    assert "Damaged files that were scored: 1" in (tmp_path / "out/report.html").read_text()
    assert [row["lost_share"] for row in table(tmp_path / "out/damaged_files.csv")] == ["0.2"]

    ran = m2(*arguments, "--most-lost", "0.15")
    assert "1 of 2 videos scored, 0 missing, 1 bad" in ran.out
    assert "has lost 4 of its 20 frames to damage, a share of 0.20, and most_lost allows 0.15" in one_sentence(ran)


def test_training_counts_damaged_files(m2: Callable[..., Ran], folder: Path, tmp_path: Path) -> None:
    data = listed(folder, "good.mp4", "damaged.mkv")
    ran = train(m2, data, tmp_path / "run")
    assert ran.code == 0
    assert sum("damaged.mkv has lost 20.0 %" in line for line in ran.err.splitlines()) == 1
    assert f"1 damaged file that was used: see {tmp_path / 'run/damaged_files.csv'}" in ran.err
    epochs = [line for line in read_log(tmp_path / "run") if line["kind"] == "epoch"]
    assert [(line["bad_files"], line["damaged_files"]) for line in epochs] == [(0, 1), (0, 1)]
    ran = train(m2, data, tmp_path / "strict", "data.most_lost=0.1")
    epochs = [line for line in read_log(tmp_path / "strict") if line["kind"] == "epoch"]
    assert [(line["bad_files"], line["damaged_files"]) for line in epochs] == [(1, 0), (1, 0)]

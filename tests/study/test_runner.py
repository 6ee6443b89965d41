"""A study runs all of its cells, keeps what is finished, goes on after a failure, and notices other settings."""

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from m2clip.errors import ConfigError
from m2clip.study.cell import FAILED, REPORT, RESULT, SETTINGS, finished
from m2clip.study.plan import Cell
from m2clip.study.results import gather
from m2clip.study.runner import Outcome, duration, run_cells
from tests.study.small_study import BASE, small_study

HALF = {"half": {"of": ["m2clip"], "strength": 0.5}, "words": {"of": ["m2clip", "st"], "templates": ["{}"]}}
METHODS = {"m2clip": {}, "clip": {"set": {"model.method": "frozen"}}, "st": {"set": {"model.method": "st-adapter"}}}
GRID = [{"methods": ["m2clip", "clip", "st"], "data": ["small"]}]
CHANGES: dict[str, Any] = {"methods": METHODS, "grids": GRID, "evaluations": HALF}


pytestmark = pytest.mark.slow


def run(cells: tuple[Cell, ...], **options: Any) -> tuple[Outcome, list[str]]:
    told: list[str] = []
    options = {"lanes": 1, "threads": 1, **options}
    outcome = run_cells(cells, out=cells[0].folder.parents[3], tell=told.append, **options)
    return outcome, told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of five cells, run in two lanes."""
    place = tmp_path_factory.mktemp("study")
    _, cells = small_study(place, **CHANGES)
    outcome, told = run(cells, lanes=2)
    assert sorted(outcome.ran) == sorted(cell.name for cell in cells)
    assert outcome.failed == {}
    assert len(told) == 5
    assert told[-1].startswith("5/5 ")
    assert told[-1].endswith("0 s left)")
    return place


@pytest.fixture
def cells(place: Path) -> tuple[Cell, ...]:
    return small_study(place, **CHANGES)[1]


def test_every_cell_leaves_what_the_tables_need(cells: tuple[Cell, ...]) -> None:
    assert all(finished(cell) for cell in cells)
    result = json.loads((cells[0].folder / RESULT).read_text())
    training = result["training"]
    assert (training["epochs"], training["steps"]) == (2, 4)
    assert set(training["loss"]) == {"contrastive", "cross_modal", "visual", "mlm", "total"}
    assert len(training["loss"]["mlm"]["epochs"]) == 2
    assert result["trained_parameters"]["total"] == sum(result["trained_parameters"]["parts"].values()) > 0
    assert set(result["report"]["parts"]["base"]["metrics"]) == {"similarity", "visual", "ensemble"}
    assert "masked_words" in result["report"]["parts"]["base"]
    assert result["report"]["parts"]["novel"]["protocol"]["class_names"][0] == "green circle spinning"
    assert "confusion" not in result["report"]["parts"]["base"]["metrics"]["similarity"]
    assert "confusion" in json.loads((cells[0].folder / REPORT).read_text())["parts"]["base"]["metrics"]["similarity"]
    clip = json.loads((cells[1].folder / RESULT).read_text())
    assert (clip["training"], clip["trained_parameters"]["total"]) == (None, 0)


def test_two_lanes_work_at_the_same_time(cells: tuple[Cell, ...]) -> None:
    spans = [((c.folder / SETTINGS).stat().st_mtime, (c.folder / RESULT).stat().st_mtime) for c in cells]
    assert any(a[0] < b[1] and b[0] < a[1] for a in spans for b in spans if a is not b)


def test_records_have_the_evaluations_beside_the_cells(cells: tuple[Cell, ...]) -> None:
    records = gather(cells)
    assert sorted({record.row for record in records}) == [
        "clip",
        "m2clip",
        "m2clip@half",
        "m2clip@words",
        "st",
        "st@words",
    ]
    half = next(record for record in records if record.row == "m2clip@half")
    assert half.parts["base"]["strength"] == 0.5
    assert half.trained_parameters > 0
    words = next(record for record in records if record.row == "st@words")
    assert words.parts["novel"]["first_texts"] == ["green circle spinning"]
    assert words.parts["base"]["first_texts"] == [sorted(BASE)[0]]
    own = next(record for record in records if record.row == "st")
    assert own.parts["novel"]["first_texts"] == ["A video of green circle spinning"]


def test_what_is_finished_is_not_run_again(cells: tuple[Cell, ...]) -> None:
    before = {path: path.stat().st_mtime_ns for cell in cells for path in cell.folder.rglob("*") if path.is_file()}
    outcome, told = run(cells)
    assert outcome.ran == ()
    assert len(outcome.kept) == 5
    assert told == []
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_settings_are_refused_and_named(place: Path) -> None:
    _, longer = small_study(place, "run.train.lr=0.02", **CHANGES)
    with pytest.raises(
        ConfigError, match=r"cells/m2clip/small/0 was made with other settings: train.lr was 0.01 and is 0.02"
    ):
        run(longer)
    # A setting that only training reads is nothing to the frozen CLIP.
    with pytest.raises(ConfigError, match="3 more like this"):
        run(longer)


def test_redo_makes_anew_what_changed_and_nothing_else(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "out", tmp_path / "out")
    weaker = {**CHANGES, "evaluations": {**HALF, "half": {"of": ["m2clip"], "strength": 0.25}}}
    _, other = small_study(place, f"out={tmp_path / 'out'}", **weaker)
    with pytest.raises(
        ConfigError, match=r"half.json was made with other settings: evaluations.half: strength was 0.5"
    ):
        run(other)
    before = (other[0].folder / RESULT).stat().st_mtime_ns
    outcome, told = run(other, redo=True)
    assert sorted(outcome.ran) == ["m2clip/small/0", "m2clip/small/1"]
    assert told[0] == "m2clip/small/0 is made anew: evaluations.half: strength was 0.5 and is 0.25"
    assert (other[0].folder / RESULT).stat().st_mtime_ns == before
    strengths = {r.parts["base"]["strength"] for r in gather(other) if r.evaluation == "half"}
    assert strengths == {0.25}


def test_a_cell_that_fails_stops_nobody_and_is_tried_again(tmp_path: Path) -> None:
    small_study(tmp_path)  # makes videos
    listed = tmp_path / "videos" / "train.csv"
    listed.write_text("path,label\n")
    bad = (tmp_path / "small.yaml").read_text().replace("train:\n  list: base", "train:\n  list: train.csv")
    (tmp_path / "bad.yaml").write_text(bad)
    data = {"bad": {"protocol": str(tmp_path / "bad.yaml")}, "small": {"protocol": str(tmp_path / "small.yaml")}}
    grids = [{"methods": ["st"], "data": ["bad", "small"]}]
    _, cells = small_study(tmp_path, data=data, grids=grids, seeds=[0])
    outcome, told = run(cells)
    assert outcome.ran == ("st/small/0",)
    assert list(outcome.failed) == ["st/bad/0"]
    assert "train.csv" in outcome.failed["st/bad/0"]
    assert told[0].startswith("1/2 st/bad/0: failed: ")
    assert json.loads((cells[0].folder / FAILED).read_text()) == {"error": outcome.failed["st/bad/0"]}
    rows = [f"base/{name}/{n}.mp4,{name}\n" for name in BASE for n in (0, 1)]
    listed.write_text("path,label\n" + "".join(rows))
    _, cells = small_study(tmp_path, data=data, grids=grids, seeds=[0])
    outcome, _ = run(cells)
    assert (outcome.ran, outcome.kept, outcome.failed) == (("st/bad/0",), ("st/small/0",), {})
    assert not (cells[0].folder / FAILED).exists()


def test_two_studies_do_not_work_in_one_folder(cells: tuple[Cell, ...]) -> None:
    with (cells[0].folder.parents[3] / "study.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another study is at work in this folder"):
            run(cells)


def test_durations() -> None:
    assert [duration(seconds) for seconds in (3.4, 75, 3599.6, 7260)] == ["3 s", "1 min 15 s", "1 h 0 min", "2 h 1 min"]

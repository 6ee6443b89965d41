"""The files of a cell: what counts as finished, what as outdated, and what is said of damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from m2clip.errors import ConfigError
from m2clip.study.cell import (
    FAILED,
    RESULT,
    SETTINGS,
    compact,
    finished,
    note_failure,
    outdated,
    read_result,
    remove,
    result_paths,
)
from m2clip.study.plan import Cell
from tests.study.small_study import small_study

HALF = {"half": {"of": ["m2clip"], "strength": 0.5}}


def pretend(cell: Cell) -> None:
    """Write files as a run of the cell would leave them."""
    cell.folder.mkdir(parents=True)
    (cell.folder / SETTINGS).write_text(json.dumps(cell.settings()))
    for path, settings in zip(result_paths(cell), [cell.settings(), *(e.settings() for e in cell.extras)], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"format_version": 1, "report": {}, "settings": settings}))


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    found = small_study(tmp_path, evaluations=HALF)[1][0]
    pretend(found)
    return found


def test_finished_means_every_file(cell: Cell) -> None:
    assert [path.name for path in result_paths(cell)] == [RESULT, "half.json"]
    assert finished(cell)
    result_paths(cell)[1].unlink()
    assert not finished(cell)


def test_outdated_is_what_was_made_with_other_settings(tmp_path: Path, cell: Cell) -> None:
    assert outdated(cell) == {}
    stronger = small_study(tmp_path, "evaluations.half.strength=0.75", evaluations=HALF)[1][0]
    half = result_paths(cell)[1]
    assert outdated(stronger) == {half: ["evaluations.half: strength was 0.5 and is 0.75"]}
    longer = small_study(tmp_path, "run.train.epochs=5", evaluations=HALF)[1][0]
    assert outdated(longer) == {cell.folder: ["train.epochs was 2 and is 5"]}
    remove(half)
    assert not half.exists()
    remove(cell.folder)
    assert not cell.folder.exists()


def test_what_never_came_to_an_epochs_end_is_not_outdated(tmp_path: Path, cell: Cell) -> None:
    longer = small_study(tmp_path, "run.train.epochs=5", evaluations=HALF)[1][0]
    for path in result_paths(cell):
        path.unlink()
    assert outdated(longer) == {}
    state = Path(cell.config.out) / "last.state.pt"
    state.parent.mkdir()
    state.touch()
    assert outdated(longer) == {cell.folder: ["train.epochs was 2 and is 5"]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "result.json cannot be read"),
        ("[1]", "result.json holds no JSON object"),
        ("{}", "result.json is no result that this m2clip reads"),
        ('{"format_version": 99, "report": {}}', "result.json is no result that this m2clip reads"),
    ],
)
def test_damaged_results_are_told(cell: Cell, content: str, sentence: str) -> None:
    (cell.folder / RESULT).write_text(content)
    with pytest.raises(ConfigError, match=sentence.replace(".", r"\.") + ".*remove it, and the study makes it anew"):
        read_result(cell.folder / RESULT)


def test_compact_leaves_out_the_confusion_matrices_alone() -> None:
    metrics: dict[str, Any] = {"top1": 0.5, "confusion": [[1, 0], [0, 1]], "per_class": []}
    document = {"name": "p", "parts": {"base": {"seconds": 1.0, "metrics": {"similarity": metrics}}}}
    kept = {"top1": 0.5, "per_class": []}
    assert compact(document) == {"name": "p", "parts": {"base": {"seconds": 1.0, "metrics": {"similarity": kept}}}}
    assert "confusion" in metrics


def test_a_failure_is_noted(cell: Cell) -> None:
    note_failure(cell, "why")
    assert json.loads((cell.folder / FAILED).read_text()) == {"error": "why"}

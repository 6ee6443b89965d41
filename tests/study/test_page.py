"""The page: what it says of the study, and that it cannot ask for what is never measured."""

from pathlib import Path
from typing import Any

import pytest

from m2clip.errors import ConfigError
from m2clip.report.page import Table
from m2clip.study import load_study
from m2clip.study.page import need_parts, page_sections
from m2clip.study.plan import plan
from tests.study.small_study import record, small_study, write_study

HALF = {"half": {"of": ["m2clip"], "strength": 0.5}}


def scatter(**changes: Any) -> dict[str, Any]:
    figure = {
        "kind": "scatter",
        "title": "F",
        "data": "small",
        "parts": ["base", "novel"],
        "rows": ["m2clip"],
        **changes,
    }
    return {"title": "S", "figures": [figure]}


def test_what_was_done_stands_on_the_page(tmp_path: Path) -> None:
    config = small_study(tmp_path, evaluations=HALF, about="Why.")[0].config
    records = [record(base=0.5, novel=0.5), record(base=0.4, novel=0.4, evaluation="half")]
    first, table, rows, data = page_sections(config, records, pictures=[[]], command="m2clip study x")
    said = " ".join(str(part) for part in first.parts)
    assert said.startswith("Why. Made by `m2clip study x`")
    assert "1 cells (a method, a data set, a seed), 1 further measurements; 30 s of training and 4 s of testing" in said
    assert "P, 2 cores, one thread a cell, torch 2" in said
    (accuracies,) = table.parts
    assert isinstance(accuracies, Table)
    assert [row[0] for row in accuracies.rows] == ["M2-CLIP", "st", "M2-CLIP, half"]
    (changes,) = rows.parts
    assert isinstance(changes, Table)
    assert changes.rows[0] == ["M2-CLIP", "m2clip", "none", "30 s", ""]
    assert changes.rows[1] == ["M2-CLIP, half", "m2clip@half", "strength=0.5", "no training", ""]
    assert "data.flip=off" in changes.caption
    (parts,) = data.parts
    assert isinstance(parts, Table)
    assert list(parts.rows[0])[2:7] == ["base", "supervised", 4, 10, "1x1"]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            scatter(parts=["base", "nowhere"]),
            "shows nowhere of m2clip on small, which has only base, novel, harmonic mean",
        ),
        (scatter(rows=["st"]), "the figure 'F' shows st on small, but no grid runs that"),
        (
            {"title": "S", "tables": [{"title": "T", "data": ["small"], "rows": ["m2clip", "st"]}]},
            "the table 'T' has the row st, but no grid runs it on small",
        ),
    ],
)
def test_a_page_cannot_show_what_is_never_measured(tmp_path: Path, section: dict[str, Any], sentence: str) -> None:
    grids = [{"methods": ["m2clip"], "data": ["small"]}]
    study = load_study(
        write_study(tmp_path, grids=grids, sections=[scatter(parts=["novel", "harmonic mean"]), section])
    )
    with pytest.raises(ConfigError, match=sentence):
        need_parts(study, plan(study))
    fine = load_study(write_study(tmp_path, grids=grids, sections=[scatter()]))
    need_parts(fine, plan(fine))

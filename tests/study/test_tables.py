"""Tables of a page from records made by hand."""

from pathlib import Path

import pytest

from m2clip.study import StudyConfig
from m2clip.study.page_config import TableConfig
from m2clip.study.results import Record, Spread
from m2clip.study.tables import number, parameters, percent, points, tables
from tests.study.small_study import record, small_study

TABLE = TableConfig(title="T", data=("small",), rows=("m2clip", "st", "clip"), compare="m2clip")


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    methods = {"m2clip": {"title": "M2-CLIP"}, "st": {}, "clip": {"set": {"model.method": "frozen"}}}
    evaluations = {"half": {"of": ["m2clip"], "strength": 0.5, "title": "half strength"}}
    return small_study(tmp_path, methods=methods, evaluations=evaluations)[0].config


def records() -> list[Record]:
    return [
        record(base=0.9, novel=0.5, seed=0, parameters=231647, mlm=(3.0, 1.0), words=0.8),
        record(base=0.7, novel=0.5, seed=1, parameters=231647, mlm=(4.0, 1.0), words=0.6),
        record("st", base=0.8, novel=0.6, seed=0, parameters=740),
        record("st", base=0.6, novel=0.6, seed=1, parameters=740),
    ]


def test_accuracies_and_margins(config: StudyConfig) -> None:
    accuracies, margins = tables(config, TABLE, records())
    assert accuracies.header == ["", "trained", "base", "novel", "harmonic mean", "seeds"]
    assert accuracies.rows[0] == ["M2-CLIP", "232 K", "80.0 ± 14.1", "50.0 ± 0.0", "61.3 ± 4.2", "2"]
    assert accuracies.rows[2] == ["clip", "not run", "not run", "not run", "not run", "not run"]
    assert margins.rows[0] == ["small, base", "80.0 ± 14.1", "st", "70.0 ± 14.1", "+10.0 ± 0.0"]
    assert margins.rows[1] == ["small, novel", "50.0 ± 0.0", "st", "60.0 ± 0.0", "-10.0 ± 0.0"]


def test_several_data_sets_stand_side_by_side(config: StudyConfig) -> None:
    config = config.model_copy(update={"data": {**config.data, "more": config.data["small"]}})
    table = TABLE.model_copy(update={"data": ("small", "more"), "compare": None})
    found = tables(config, table, [*records(), record(base=0.25, novel=0.5, data="more", parameters=740)])
    assert len(found) == 1
    assert list(found[0].header)[5:7] == ["more, base", "more, novel"]
    assert list(found[0].rows[0])[5] == "25.0"
    assert list(found[0].rows[0])[1] == "740 or 232 K"
    assert list(found[0].rows[0])[-1] == "1 or 2"
    assert list(found[0].rows[1])[5] == "not run"


def test_one_row_alone_has_no_margins(config: StudyConfig) -> None:
    assert len(tables(config, TABLE, [record(base=0.5, novel=0.5)])) == 1


def test_masked_words(config: StudyConfig) -> None:
    wanted = TableConfig(kind="masked-words", title="W", data=("small",), rows=("m2clip", "st", "clip"))
    (found,) = tables(config, wanted, records())
    assert list(found.rows[0])[:4] == ["M2-CLIP", "3.50 ± 0.71", "1.00 ± 0.00", "0.29 ± 0.06"]
    assert list(found.rows[0])[4:7] == ["70.0 ± 14.1", "35.0 ± 7.1", "17.5 ± 3.5"]
    assert list(found.rows[1])[1] == "no such head"
    assert list(found.rows[2])[1] == "not run"
    assert {len(row) for row in found.rows} == {len(found.header)}


def test_how_numbers_are_written() -> None:
    assert percent(Spread(0.8421, 0.0126, 3)) == "84.2 ± 1.3"
    assert percent(Spread(0.5, None, 1)) == "50.0"
    assert percent(None) == "not run"
    assert points(Spread(-0.012, 0.004, 3)) == "-1.2 ± 0.4"
    assert number(Spread(1.234, None, 1)) == "1.23"
    assert [parameters(n) for n in (0, 999, 231647, 16_012_345)] == ["0", "999", "232 K", "16 M"]


def test_another_reading_of_the_trained_classes(config: StudyConfig) -> None:
    similarity, margins = tables(config, TABLE.model_copy(update={"reading": "similarity"}), records())
    assert list(similarity.rows[0])[2:4] == ["40.0 ± 7.1", "50.0 ± 0.0"]  # half of the ensemble's, see `record`
    assert similarity.caption.endswith("Trained classes are read off the similarity alone.")
    assert margins.rows[0][-1] == "+5.0 ± 0.0"
    visual = tables(config, TABLE.model_copy(update={"reading": "visual", "compare": None}), records())[0]
    assert list(visual.rows[0])[2:5] == ["no such reading", "50.0 ± 0.0", "no such reading"]
    assert list(visual.rows[2])[2:5] == ["not run"] * 3

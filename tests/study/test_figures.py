"""The figures of a study: what is drawn where, read back from the axes."""

from pathlib import Path
from typing import Any

import pytest

import m2clip.study.figures as figures
from m2clip.study import StudyConfig
from m2clip.study.page_config import LineConfig, ScatterConfig
from tests.study.small_study import record, small_study

SCATTER = ScatterConfig(kind="scatter", title="S", data="small", parts=("base", "novel"), rows=("m2clip", "clip", "st"))


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    methods = {"m2clip": {"title": "M2-CLIP"}, "st": {}, "clip": {"set": {"model.method": "frozen"}}}
    return small_study(tmp_path, methods=methods)[0].config


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of each figure that is turned into a PNG."""
    kept: list[Any] = []
    real = figures.png_bytes
    monkeypatch.setattr(figures, "png_bytes", lambda figure: kept.append(figure.axes[0]) or real(figure))
    return kept


def test_scatter_puts_each_row_at_its_means_with_its_size(config: StudyConfig, drawn: list[Any]) -> None:
    records = [
        record(base=0.9, novel=0.5, seed=0, parameters=4000),
        record(base=0.7, novel=0.7, seed=1, parameters=4000),
        record("st", base=0.6, novel=0.4, parameters=1000),
        record("st", base=0.6, novel=0.4, parameters=9000, data="other"),
        record("clip", base=0.3, novel=0.3, parameters=0, trained=False),
    ]
    png = figures.figure(config, SCATTER, records)
    assert png is not None
    assert png.startswith(b"\x89PNG")
    dots = [
        (c.get_offsets()[0], c.get_sizes()[0])
        for c in drawn[0].collections
        if hasattr(c, "get_sizes") and len(c.get_offsets())
    ]
    places = {tuple(round(float(v), 6) for v in place): float(size) for place, size in dots}
    assert {(80.0, 60.0), (60.0, 40.0), (30.0, 30.0)} <= places.keys()
    assert places[(80.0, 60.0)] == pytest.approx(4 * places[(60.0, 40.0)])
    assert drawn[0].get_xlabel() == "base, top-1 in %"


def test_lines_pass_through_the_means_in_order_of_x(config: StudyConfig, drawn: list[Any]) -> None:
    lines = {"layers": ((3, "st"), (1, "m2clip"), (2, "clip"))}
    wanted = LineConfig(kind="line", title="L", x="layers", data="small", parts=("base", "harmonic mean"), lines=lines)
    records = [
        record(base=0.9, novel=0.5, seed=0),
        record(base=0.7, novel=0.5, seed=1),
        record("st", base=0.6, novel=0.6),
    ]
    assert figures.figure(config, wanted, records) is not None
    base, harmonic = (bar.lines[0] for bar in drawn[0].containers)
    assert base.get_xydata().tolist() == [[1, pytest.approx(80)], [3, pytest.approx(60)]]  # clip was not run
    assert harmonic.get_xydata()[1].tolist() == [3, pytest.approx(60)]
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == ["1", "2", "3"]


def test_points_of_other_data(config: StudyConfig, drawn: list[Any]) -> None:
    lines = {"shots": ((2, "m2clip", "few"), (4, "m2clip", "small"))}
    wanted = LineConfig(kind="line", title="L", x="shots", parts=("novel",), lines=lines)
    figures.figure(config, wanted, [record(base=0.9, novel=0.5), record(base=0.9, novel=0.25, data="few")])
    assert drawn[0].containers[0].lines[0].get_xydata().tolist() == [[2, 25], [4, 50]]


def test_nothing_is_drawn_of_nothing(config: StudyConfig) -> None:
    wanted = LineConfig(kind="line", title="L", x="n", data="small", parts=("base",), lines={"a": ((1, "st"),)})
    assert figures.figure(config, SCATTER, []) is None
    assert figures.figure(config, wanted, []) is None

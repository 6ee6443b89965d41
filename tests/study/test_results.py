"""Means, deviations and margins against values by hand, and records that come back as they were written."""

from pathlib import Path

import pytest

from m2clip.errors import ConfigError
from m2clip.study.results import Spread, chosen_reading, margin, read_records, spreads, write_records
from tests.study.small_study import record


def test_spread_by_hand() -> None:
    spread = Spread.of([0.5, 0.7, 0.9])
    assert spread.mean == pytest.approx(0.7)
    assert spread.std == pytest.approx(0.2)  # sqrt((0.04 + 0 + 0.04) / 2)
    assert spread.n == 3
    assert Spread.of([0.5]) == Spread(0.5, None, 1)


@pytest.mark.parametrize(
    ("method", "protocol", "readings", "expected"),
    [
        ("m2clip", "supervised", ["similarity", "visual", "ensemble"], "ensemble"),
        ("full", "supervised", ["similarity"], "similarity"),
        ("linear-probe", "supervised", ["similarity", "visual", "ensemble"], "visual"),
        ("linear-probe", "zero-shot", ["similarity"], "similarity"),
        ("m2clip", "zero-shot", ["similarity"], "similarity"),
    ],
)
def test_chosen_reading(method: str, protocol: str, readings: list[str], expected: str) -> None:
    assert chosen_reading(method, protocol, readings) == expected


def test_accuracies_of_a_record() -> None:
    found = record(base=0.8, novel=0.4).accuracies()
    assert found == {"base": 0.8, "novel": 0.4, "harmonic mean": pytest.approx(2 * 0.8 * 0.4 / 1.2)}
    assert record(base=0.8, novel=0.0).accuracies()["harmonic mean"] == 0.0


def test_the_harmonic_mean_is_taken_in_each_seed() -> None:
    records = [record(base=1.0, novel=0.5, seed=0), record(base=0.5, novel=1.0, seed=1)]
    found = spreads(records)[("m2clip", "small")]["harmonic mean"]
    assert found.mean == pytest.approx(2 / 3)  # of the means, 0.75 and 0.75, it would be 0.75
    assert found.std == pytest.approx(0.0, abs=1e-12)


def test_evaluations_are_rows_of_their_own() -> None:
    records = [record(base=0.8, novel=0.4), record(base=0.6, novel=0.6, evaluation="half")]
    assert set(spreads(records)) == {("m2clip", "small"), ("m2clip@half", "small")}


def test_margin_pairs_the_seeds() -> None:
    ours = [record(base=0.9, novel=0.5, seed=seed) for seed in (0, 1)]
    others = [record("st", base=0.8, novel=0.5, seed=0), record("st", base=0.6, novel=0.5, seed=1)]
    found = margin([*ours, *others], "m2clip", "st", data="small", part="base")
    assert found is not None
    assert found.mean == pytest.approx(0.2)
    assert found.std == pytest.approx(0.1 * 2**0.5)
    alone = record("st", base=0.8, novel=0.5, seed=5)
    assert margin([*ours, alone], "m2clip", "st", data="small", part="base") is None


def test_margin_to_what_trains_nothing_takes_every_seed() -> None:
    ours = [record(base=0.9, novel=0.5, seed=3), record(base=0.7, novel=0.5, seed=4)]
    frozen = record("clip", base=0.5, novel=0.5, seed=0, trained=False)
    found = margin([*ours, frozen], "m2clip", "clip", data="small", part="base")
    assert found is not None
    assert (found.mean, found.n) == (pytest.approx(0.3), 2)
    back = margin([*ours, frozen], "clip", "m2clip", data="small", part="base")
    assert back is not None
    assert back.mean == pytest.approx(-0.3)


def test_records_come_back(tmp_path: Path) -> None:
    records = (
        record(base=0.8, novel=1 / 3, mlm=(3.0, 1.0), words=0.5),
        record("x", base=0.1, novel=0.2, trained=False),
    )
    write_records(records, tmp_path / "r.json", study=Path("a/b.yaml"), overrides=["lanes=2"])
    assert read_records(tmp_path / "r.json") == (Path("a/b.yaml"), ("lanes=2",), records)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no\.json holds no records of a study"):
        read_records(tmp_path / "no.json")
    (tmp_path / "cut.json").write_text('{"records": [')
    with pytest.raises(ConfigError, match=r"cut\.json cannot be read"):
        read_records(tmp_path / "cut.json")

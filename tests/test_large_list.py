"""The page's figures of long lists are those of the last measurement, and the benchmark runs."""

import json
from pathlib import Path

import large_list

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(large_list.RESULT.read_text("utf-8"))
    assert document["rows"] == 10_000_000
    assert f"{large_list.BEGIN}\n{large_list.table(document)}\n{large_list.END}" in large_list.PAGE.read_text("utf-8")


def test_the_benchmark_runs(tmp_path: Path) -> None:
    large_list.make(tmp_path, 2_000, "all")
    large_list.make(tmp_path, 1_000, "val")
    for form in large_list.FORMS:
        assert large_list.measure(tmp_path / f"all.{form}")["rows"] == 2_000
    assert large_list.beside_plain(tmp_path / "all.csv", rounds=1)["ratio"] > 0

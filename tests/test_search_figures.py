"""The page's figures of search are those of the last measurement, and the benchmark runs."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lancedb")
import search as benchmark

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(benchmark.RESULT.read_text("utf-8"))
    assert {one["rows"] for one in document["measured"]} == {10_000, 100_000, 1_000_000}
    page = benchmark.PAGE.read_text("utf-8")
    assert f"{benchmark.BEGIN}\n{benchmark.table(document)}\n{benchmark.END}" in page


def test_the_benchmark_runs(tmp_path: Path) -> None:
    plain, approximate = benchmark.measure(tmp_path, rows=2_000, queries=4, ways=["all", "RaBitQ"])
    assert plain["threads"]["1"]["recall_at_10"] == plain["threads"]["2"]["recall_at_10"] == 1
    assert approximate["threads"]["1"]["recall_at_10"] > 0.5
    assert list(tmp_path.iterdir()) == []

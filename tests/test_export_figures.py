"""The page's figures of exported models are those of the last measurement, and the benchmark runs."""

import json
from pathlib import Path

import export as benchmark

from tests.small_inputs import TINY

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(benchmark.RESULT.read_text("utf-8"))
    assert list(document["models"]) == ["builtin", "ViT-B-16"]
    written = f"{benchmark.BEGIN}\n{benchmark.table(document)}\n{benchmark.END}"
    assert written in benchmark.PAGE.read_text("utf-8")


def test_the_benchmark_runs(tmp_path: Path) -> None:
    measured = benchmark.measure(TINY, tmp_path, rounds=1)
    assert set(measured["threads"]) == {"1", "2"}
    assert all(one["milliseconds"] >= 0 for cases in measured["threads"].values() for one in cases.values())
    assert max(measured["largest_difference"].values()) < 1e-4

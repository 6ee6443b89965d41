"""The page's figures of live recognition are those of the last measurement, and the benchmark runs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("live_benchmark", ROOT / "benchmarks" / "live.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_figures_of_the_measurement(benchmark: ModuleType) -> None:
    document = json.loads(benchmark.RESULT.read_text("utf-8"))
    assert [one["model"] for one in document["latency"]] == list(benchmark.MODELS.values())
    page = benchmark.PAGE.read_text("utf-8")
    assert benchmark.with_tables(page, document) == page


def test_the_costs_of_a_window_can_be_measured(benchmark: ModuleType) -> None:
    found = benchmark.cost("builtin", 8, rounds=1)
    assert found["ratio"] > 0


def test_each_picture_is_sent_by_itself(benchmark: ModuleType) -> None:
    parts = benchmark.pictures(12)
    assert len(parts) == 12
    assert all(parts)

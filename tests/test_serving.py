"""The page's figures of the server under load are those of the last measurement, and the benchmark runs."""

import json
from pathlib import Path

import pytest
import serving

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(serving.RESULT.read_text("utf-8"))
    assert document["load"]["not_as_expected"] == 0
    assert document["stop"]["exit_code"] == document["stop"]["files_left"] == document["stop"]["processes_left"] == 0
    assert f"{serving.BEGIN}\n{serving.table(document)}\n{serving.END}" in serving.PAGE.read_text("utf-8")


def test_memory_that_grows_shows() -> None:
    course = [{"seconds": 60.0 * t, "all_mb": 100.0 if t < 10 else 100.0 + 3 * (t - 10)} for t in range(20)]
    assert serving.slope(course, "all_mb") == 3.0
    assert serving.slope(course[:10], "all_mb") == 0.0


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    document = serving.measure("builtin", None, minutes=0.1, clients=2)
    assert document["load"]["not_as_expected"] == document["one_client"]["not_as_expected"] == 0
    assert document["load"]["requests"] > 0
    assert document["stop"]["exit_code"] == document["stop"]["files_left"] == 0
    assert "good: classify" in document["one_client"]["kinds"]
    assert "| good ones a second |" in serving.table({"command": "c", "note": "n", **document})

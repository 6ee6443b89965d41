"""The page's figures of live recognition are those of the last measurement, and the benchmark runs."""

import json
from pathlib import Path

import live

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(live.RESULT.read_text("utf-8"))
    assert [one["model"] for one in document["latency"]] == list(live.MODELS.values())
    page = live.PAGE.read_text("utf-8")
    assert live.with_tables(page, document) == page


def test_the_costs_of_a_window_can_be_measured() -> None:
    found = live.cost("builtin", 8, rounds=1)
    assert found["ratio"] > 0


def test_each_picture_is_sent_by_itself() -> None:
    parts = live.pictures(12)
    assert len(parts) == 12
    assert all(parts)

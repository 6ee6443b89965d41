"""The page's figures of reliability are those of the last measurement, and what measures them works."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import torture  # noqa: E402


def test_the_page_has_the_figures_of_the_measurement() -> None:
    if not torture.RESULT.exists():
        pytest.skip("nothing has been measured yet")
    document = json.loads(torture.RESULT.read_text("utf-8"))
    page = torture.PAGE.read_text("utf-8")
    assert torture.with_tables(page, document) == page


@pytest.mark.parametrize("name", torture.PARTS)
def test_every_part_survives_its_short_form(name: str) -> None:
    if find_spec(f"torturing.{name}") is None:
        pytest.skip("this part is not written yet")
    heard: list[str] = []
    found = torture.run(name, short=True, seed=1, say=heard.append)
    assert found["faults"] == [], heard
    assert torture.part(name).tables(json.loads(json.dumps(found["figures"])))

"""The page of reported faults is that of the last run, and every fault has a test."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cases.page import PAGE, RECORD, ROOT, faults, outcome_of, page
from tests.cases.record import COLLECTED, MARKED, CaseRecord, document, function, in_order


def recorded() -> dict[str, set[str]]:
    """The ids of each test function in the record."""
    found: dict[str, set[str]] = {}
    for name, tests in json.loads(RECORD.read_text(encoding="utf-8"))["cases"].items():
        for test in tests:
            found.setdefault(test, set()).add(name)
    return found


def test_the_page_is_made_of_the_record() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RECORD.read_text(encoding="utf-8")))


def test_the_record_has_the_marked_tests_and_no_others(pytestconfig: pytest.Config) -> None:
    """Of the tests that were collected with this one: all of them, where the whole suite runs."""
    marked, collected = pytestconfig.stash[MARKED], pytestconfig.stash[COLLECTED]
    known = recorded()
    again = "run the marked tests again: python -m pytest --write-cases"
    assert {test: ids for test, ids in known.items() if test in collected} == marked, again
    for test in known:
        path, _, name = test.partition("::")
        assert re.search(rf"^def {name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), again


def test_every_fault_has_a_test_that_passed_and_every_id_is_known() -> None:
    cases = json.loads(RECORD.read_text(encoding="utf-8"))["cases"]
    assert list(cases) == in_order(cases)
    assert set(cases) == set(faults())
    assert {name: outcome_of(tests) for name, tests in cases.items()} == dict.fromkeys(cases, "passed")


def test_the_faults_are_told_in_full() -> None:
    for name, words in faults().items():
        assert list(words) == ["fault", "probe", "right"], name
        assert all(isinstance(value, str) and value.strip() for value in words.values()), name


@pytest.mark.shared
def test_no_reported_fault_is_left_out(shared: Path) -> None:
    listed = re.findall(r"^\| ([A-Z]\d+) \|", (shared / "cases.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) > 40
    assert listed == list(faults())


def item(node_id: str, *ids: str) -> Any:
    marks = [SimpleNamespace(args=ids)] if ids else []
    return SimpleNamespace(nodeid=node_id, user_properties=[], iter_markers=lambda name: iter(marks))


def report(node_id: str, outcome: str, ids: Iterable[str]) -> Any:
    return SimpleNamespace(nodeid=node_id, outcome=outcome, user_properties=[("case", name) for name in ids])


def test_marked_tests_alone_are_run_and_counted(pytestconfig: pytest.Config) -> None:
    items = [item("a.py::one[x]", "D10", "D2"), item("a.py::two"), item("a.py::one[y]", "D2")]
    dropped: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: dropped.extend(items))
    config: Any = SimpleNamespace(stash=pytest.Stash(), hook=hook)
    record = CaseRecord(wanted=True)
    record.pytest_collection_modifyitems(config, items)
    assert [one.nodeid for one in items] == ["a.py::one[x]", "a.py::one[y]"]
    assert [one.nodeid for one in dropped] == ["a.py::two"]
    assert config.stash[MARKED] == {"a.py::one": {"D2", "D10"}}
    assert config.stash[COLLECTED] == {"a.py::one", "a.py::two"}
    for phase in ("passed", "failed", "passed"):  # setup, call, teardown
        record.pytest_runtest_logreport(report("a.py::one[x]", phase, ["D10", "D2"]))
    record.pytest_runtest_logreport(report("a.py::one[y]", "skipped", ["D2"]))
    record.pytest_runtest_logreport(report("a.py::two", "passed", []))
    cases = document(record.outcomes)["cases"]
    assert cases == {"D2": {"a.py::one": {"failed": 1, "skipped": 1}}, "D10": {"a.py::one": {"failed": 1}}}
    assert list(cases) == ["D2", "D10"]
    assert outcome_of(cases["D2"]) == "failed"
    assert outcome_of({"a": {"skipped": 1}}) == "skipped"
    assert outcome_of({"a": {"skipped": 1}, "b": {"passed": 2}}) == "passed"
    assert outcome_of({}) == "no test"
    assert function("a.py::one[x::y]") == "a.py::one"


def test_the_page_shows_what_failed_and_what_has_no_test() -> None:
    record = document(
        {"tests/conftest.py::one[a]": ({"D1"}, "passed"), "tests/conftest.py::one[b]": ({"D1"}, "failed")}
    )
    shown = page(record)
    assert "`one` × 2 (1 failed) | failed |" in shown
    assert f"Of {len(faults())} faults: 1 failed, {len(faults()) - 1} no test." in shown
    assert shown.count("\n| ") == len(faults()) + 5

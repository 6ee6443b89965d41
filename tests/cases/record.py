"""Which tests hold which reported fault, and how they ended: a part of pytest, switched on by `--write-cases`.

A test says `@pytest.mark.case("D1", "D2")`; so may a single parameter. With `--write-cases` the marked tests alone run, and
docs/results/cases.json and docs/data/cases.md are written from what they did.
"""

import platform
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import av
import pytest

from tests.cases.page import write

MARKED = pytest.StashKey[dict[str, set[str]]]()
"""The ids of each marked test function that was collected, by `path::name`, before any selection by name or marker."""
COLLECTED = pytest.StashKey[set[str]]()
"""Every test function that was collected."""


def function(node_id: str) -> str:
    """'tests/x.py::test_y[a-b]' -> 'tests/x.py::test_y'."""
    return node_id.partition("[")[0]


def ids_of(item: pytest.Item) -> list[str]:
    """The faults that a test holds."""
    return [str(name) for mark in item.iter_markers("case") for name in mark.args]


class CaseRecord:
    """Counts how the marked tests ended; pytest calls its methods."""

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self.outcomes: dict[str, tuple[set[str], str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        marked: dict[str, set[str]] = {}
        for item in items:
            ids = ids_of(item)
            item.user_properties += [
                ("case", name) for name in ids
            ]  # they travel from xdist's workers with the reports
            if ids:
                marked.setdefault(function(item.nodeid), set()).update(ids)
        config.stash[MARKED] = marked
        config.stash[COLLECTED] = {function(item.nodeid) for item in items}
        if self.wanted:
            others = [item for item in items if not ids_of(item)]
            items[:] = [item for item in items if ids_of(item)]
            config.hook.pytest_deselected(items=others)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ids = {str(value) for name, value in report.user_properties if name == "case"}
        if not ids:
            return
        _, before = self.outcomes.get(report.nodeid, (ids, "passed"))
        outcome = "expected to fail" if hasattr(report, "wasxfail") else report.outcome
        # The worst of setup, call and teardown counts.
        worst = before if outcome == "passed" or before == "failed" else outcome
        self.outcomes[report.nodeid] = (ids, worst)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        told = not session.config.option.collectonly and not hasattr(session.config, "workerinput")
        if self.wanted and ended and told:
            write(document(self.outcomes))


def document(outcomes: dict[str, tuple[set[str], str]]) -> dict[str, Any]:
    """What docs/results/cases.json holds: for each id its test functions, and for each of them how its parameters ended."""
    cases: dict[str, dict[str, Counter[str]]] = {}
    for node_id, (ids, outcome) in outcomes.items():
        for name in ids:
            cases.setdefault(name, {}).setdefault(function(node_id), Counter())[outcome] += 1
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "av", "numpy")}},
        "ffmpeg": {name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())},
        "system": f"{platform.system()} {platform.machine()}",
        "cases": {
            name: {test: dict(sorted(counts.items())) for test, counts in sorted(tests.items())}
            for name, tests in sorted(cases.items(), key=lambda entry: order(entry[0]))
        },
    }


def order(name: str) -> tuple[str, int]:
    """D2 stands before D10."""
    return name[:1], int(name[1:]) if name[1:].isdecimal() else 0


def in_order(names: Iterable[str]) -> list[str]:
    """Ids sorted as people count."""
    return sorted(names, key=order)

"""Shared fixtures: the folder beside the checkout, a cache of the tests' own, threads that parallel workers can share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.cases.record import CaseRecord

# A busy machine is no fault of the code: no example has a deadline of its own.
settings.register_profile("m2clip", deadline=None)
settings.load_profile("m2clip")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-cases", action="store_true", help="run the tests marked `case` alone and write docs/data/cases.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CaseRecord(wanted=config.getoption("--write-cases")))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The data folder beside the checkout; absent for a stranger (skip), never absent in CI (error)."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get("CI") == "true":
        raise RuntimeError(f"CI needs the data folder {SHARED}, which is absent")
    pytest.skip(f"needs the data folder {SHARED}, which is not here")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests, and the programs that they start, never see nor fill the cache of whoever runs them."""
    os.environ["M2CLIP_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread_per_worker() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_priority() -> Iterator[None]:
    """SVT-AV1, with which tests write videos, gives its caller's thread real-time priority where it may, as root.

    All that this thread starts afterwards would have it, too, and processes that wait for each other by asking again and again
    would leave nothing of the machine to those they wait for.
    """
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """How many threads share a product changes its last bits."""
    import torch  # not where tests are collected only

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

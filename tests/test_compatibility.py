"""The lowest releases that are tested are those that pyproject.toml allows, and the page tells of no others."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PAGE = (ROOT / "docs" / "compatibility.md").read_text("utf-8")


def asked() -> dict[str, Requirement]:
    """What pyproject.toml asks for, all extras and what builds the package included, by name."""
    texts = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra),
    ]
    found = {canonicalize_name(one.name): one for one in map(Requirement, texts)}
    del found[PROJECT["project"]["name"]]
    return found


def lower_bound(requirement: Requirement) -> Version:
    """The version behind its >=."""
    (bound,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
    return bound


def lowest() -> dict[str, Version]:
    """The pins of constraints/lowest.txt by name."""
    lines = (ROOT / "constraints" / "lowest.txt").read_text("utf-8").splitlines()
    found = {}
    for line in lines:
        name, version = re.fullmatch(r"([a-z0-9.-]+)==([^ ;]+)", line).groups()  # type: ignore[union-attr]
        found[canonicalize_name(name)] = Version(version)
    assert len(found) == len(lines)
    return found


def test_the_lowest_releases_are_the_bounds_themselves() -> None:
    # A bound that the whole cannot be installed with is one that nobody has tried: raise it to what this file then has.
    pins = lowest()
    for name, requirement in asked().items():
        bound, pinned = lower_bound(requirement), pins[name]
        assert pinned.release[: len(bound.release)] == bound.release, f"{requirement}, but the tests run with {pinned}"
        assert requirement.specifier.contains(pinned)


def test_the_page_names_the_bounds_as_they_are() -> None:
    told = re.findall(r"`([A-Za-z_-]+)>=([0-9.]+)`", PAGE)
    bounds = {name: lower_bound(one) for name, one in asked().items()}
    assert len(told) >= 10
    for name, version in told:
        assert bounds[canonicalize_name(name)] == Version(version), f"docs/compatibility.md: {name}>={version}"


def test_the_page_tells_of_every_python_that_the_package_names() -> None:
    named = [one.rpartition(" :: ")[2] for one in PROJECT["project"]["classifiers"] if "Python :: 3." in one]
    assert named[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    told = set(re.findall(r"Python (3\.\d+)", PAGE))
    assert set(named) <= told


def test_the_environments_that_make_makes_are_ignored() -> None:
    """By git, and so by ruff, which reads .gitignore."""
    made = set(re.findall(r"\$\(VENV\)(-\w+)/", (ROOT / "Makefile").read_text()))
    assert made == {"-lowest", "-newest"}
    assert ".venv*/" in (ROOT / ".gitignore").read_text().splitlines()

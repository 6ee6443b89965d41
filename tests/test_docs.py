"""Commands in the documents must be commands of the program: every `m2clip` line is parsed, and links and files must exist."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from m2clip.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def commands(path: Path) -> list[str]:
    """Lines of a code block, or of a YAML's first comment, that begin with `m2clip` (or torchrun -m m2clip)."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"(?:    |#\s+)(?:\S+=\S+ )?(?:torchrun [^m]*-m )?(m2clip .*)", line)
        if match:
            found += [
                part for part in re.split(r" && | \(one GPU: ", match[1].rstrip(")")) if part.startswith("m2clip ")
            ]
    return found


ALL = [
    pytest.param(command, id=f"{path.name}: {command[:50]}") for path in PAGES + CONFIGS for command in commands(path)
]


def test_there_are_commands_to_check() -> None:
    assert len(ALL) >= 20
    assert commands(ROOT / "README.md")
    assert all(commands(path) for path in CONFIGS)  # a YAML starts with the command that runs it


@pytest.mark.parametrize("command", ALL)
def test_a_command_parses(command: str) -> None:
    """Parsed by the program's own parser: unknown commands, options and missing arguments are errors. Nothing is run."""
    arguments = shlex.split(command, comments=True)[1:]
    group = typer.main.get_command(app)
    while arguments and hasattr(group, "commands") and arguments[0] in group.commands:
        group = group.commands[arguments.pop(0)]
    assert not hasattr(group, "commands"), f"{command}: no such command"
    if "--help" not in arguments:
        group.make_context("m2clip", arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def recipes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipes", ROOT / "benchmarks" / "recipes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_in_the_documents_are_those_that_were_measured() -> None:
    """Both are made from docs/results/*.json by `python benchmarks/recipes.py tables`; nobody edits a number by hand."""
    made = recipes()
    assert (ROOT / "docs" / "results.md").read_text() == made.results_page()
    readme = (ROOT / "README.md").read_text()
    assert made.readme(readme) == readme

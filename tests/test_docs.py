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


@pytest.mark.case("T14")
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_a_page_says_which_weights_there_are(page: str) -> None:
    """None for real videos; the tiny CLIP in the package; those of others, and how to read them."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for said in ("No trained weights of M2-CLIP", "it knows shapes, not the world", "openai"):
        assert said.lower() in text.lower()
    assert "m2clip convert" in (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


@pytest.mark.case("E7", "S9")
def test_every_measured_accuracy_stands_beside_its_protocol() -> None:
    """Videos, classes, views and reading of each row, and the command that measured it."""
    sections = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n## ")[1:]
    tables = 0
    for section in sections:
        for header in re.findall(r"^\|.*top-1.*\|$", section, re.MULTILINE):
            tables += 1
            told = section if header.startswith("| top-1") else header  # the demo's table tells below of its videos
            assert all(word in told for word in ("videos", "classes")), header
            assert header.startswith("| top-1") or all(word in header for word in ("views", "reading")), header
            assert re.search(r"^    (python|m2clip) |Regenerate: `", section, re.MULTILINE), header
    assert tables >= 5


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

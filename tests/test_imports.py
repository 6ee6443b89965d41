"""Imports run one way (DESIGN.md), and what is not needed is not loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import m2clip

PACKAGE = Path(m2clip.__file__).parent

# A module may import what stands on its own line or above it.
ORDER = (
    (
        "m2clip",
        "errors",
        "apart",
        "freed_memory",
        "terminal",
        "cache_folder",
        "drafts",
        "kept_files",
        "launcher",
        "provenance",
    ),
    ("config.plain_yaml",),
    ("config.file",),
    ("config.model",),
    ("config",),
    ("data",),
    ("model",),
    ("builtin.weights",),  # reads the shipped tensors; the rest of builtin uses the whole package
    ("checkpoint", "losses", "scoring", "kept_texts", "labels", "report"),
    ("check", "protocol"),
    ("timeline", "video_scores"),
    ("train", "evaluate", "recognizer"),
    ("bulk",),
    ("explanations", "calibration", "rerun", "search", "live", "export", "hub"),
    ("protocol.run", "protocol.preview"),  # they measure; to read a protocol costs nothing
    ("strength",),
    ("study",),
    ("builtin",),
    ("app",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
HEAVY = ("torch", "lightning", "matplotlib", "torchmetrics", "tensorboard", "transformers", "gradio", "pandas", "ray")


def part(module: str) -> str:
    """The name in ORDER that a dotted module belongs to: m2clip.data.video -> data, m2clip -> m2clip."""
    names = module.split(".")
    longest = ".".join(names[1:3])
    return longest if longest in RANK else names[min(1, len(names) - 1)]


def imports(path: Path) -> set[str]:
    """Every m2clip module that a file imports, inside functions too, but not for type checkers only."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            if node.module == "m2clip":
                found |= {f"m2clip.{alias.name}" if alias.name in RANK else "m2clip" for alias in node.names}
            elif node.module is not None:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] == "m2clip"}


def modules() -> list[tuple[str, Path]]:
    named = []
    for path in sorted(PACKAGE.rglob("*.py")):
        names = ("m2clip", *path.relative_to(PACKAGE).with_suffix("").parts)
        named.append((".".join(names[:-1] if names[-1] == "__init__" else names), path))
    return named


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_run_one_way(module: str, path: Path) -> None:
    own = part(module)
    assert own in RANK, f"{own} has no place in the order"
    for imported in imports(path):
        other = part(imported)
        assert RANK[other] <= RANK[own], f"{module} imports {imported}, which comes after it"


def test_neighbours_of_one_rank_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module, path in modules():
        own = part(module)
        edges.setdefault(own, set()).update(other for other in map(part, imports(path)) if other != own)

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        return any(
            other == goal or (other not in seen and reaches(other, goal, seen | {other}))
            for other in edges.get(start, set())
        )

    circles = [own for own in edges if own != "m2clip" and reaches(own, own, {own})]
    assert circles == []


def loaded_after(statement: str) -> set[str]:
    """Which heavy modules a fresh Python holds after a statement."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n")[-2].split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import m2clip; dir(m2clip)") == set()


def test_configuration_loads_nothing_heavy() -> None:
    assert loaded_after("import m2clip.config") == set()


def test_every_public_name_is_there() -> None:
    for name in m2clip.__all__:
        assert getattr(m2clip, name) is not None
    assert set(m2clip.__all__) <= set(dir(m2clip))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = m2clip.nothing

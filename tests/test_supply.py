"""What CI installs is pinned, file by file, and in step with pyproject.toml; the audit says what it could not ask."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints" / "ci.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

_spec = importlib.util.spec_from_file_location("audit", ROOT / "constraints" / "audit.py")
assert _spec is not None
assert _spec.loader is not None
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)


def pins() -> dict[str, list[Requirement]]:
    """The pinned requirements by name; a package may have one version for each of several systems."""
    found: dict[str, list[Requirement]] = {}
    for block in LOCK.read_text("utf-8").replace("\\\n", " ").splitlines():
        requirement, *hashes = block.split("--hash=")
        pinned = Requirement(requirement)
        assert re.fullmatch(r"==[^*,]+", str(pinned.specifier)), block
        assert hashes, block
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one.strip()) for one in hashes), block
        assert pinned.url is None
        found.setdefault(canonicalize_name(pinned.name), []).append(pinned)
    return found


def wanted(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for with these extras, those that they name included."""
    project = PROJECT["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    found = []
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:
            found += wanted(*requirement.extras)
        else:
            found.append(requirement)
    return found


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    builders = [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    names = {canonicalize_name(one.name) for one in wanted("dev")}
    assert {"torch", "gradio", "ray", "lancedb", "onnx", "pytest"} <= names  # all extras are meant
    for requirement in (*wanted("dev"), *builders):
        versions = [str(one.specifier).removeprefix("==") for one in pinned[canonicalize_name(requirement.name)]]
        assert versions, requirement
        for version in versions:
            assert requirement.specifier.contains(version, prereleases=True), (
                f"{requirement}, but {LOCK.name} has {version}"
            )


def test_ci_installs_what_is_pinned_and_nothing_else() -> None:
    make = (ROOT / "Makefile").read_text("utf-8")
    rule = make.partition("$(VENV)/.dev: pyproject.toml constraints/ci.txt\n")[2].partition("\n\n")[0]
    installs = [line for line in rule.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert "--no-deps --require-hashes --requirement constraints/ci.txt" in installs[0]
    assert "--no-deps --no-build-isolation --editable ." in installs[1]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "cat pyproject.toml constraints/ci.txt" in ci
    assert all("--no-deps" in line for line in ci.splitlines() if "pip install" in line)


def report(*vulnerable: str, skipped: str | None = None) -> Any:
    """A report as pip-audit writes it."""
    known = [{"id": "CVE-1", "fix_versions": ["2.0"], "aliases": []}, {"id": "CVE-2", "fix_versions": []}]
    found: list[Any] = [{"name": "good", "version": "1.0", "vulns": []}]
    found += [{"name": name, "version": "1.0", "vulns": known} for name in vulnerable]
    if skipped:
        found.append({"name": skipped, "skip_reason": "not found"})
    return {"dependencies": found, "fixes": []}


@pytest.mark.parametrize(
    ("trials", "answer", "code", "last"),
    [
        ({"pypi": None, "osv": None}, None, 3, "not audited: no database of vulnerabilities can be reached"),
        ({"pypi": report(), "osv": None}, report(), 3, "not audited: no database"),  # a mirror that knows of none
        ({"pypi": report(skipped="django"), "osv": None}, report(), 3, "not audited: no database"),
        ({"pypi": report("django")}, None, 3, "not audited: PyPI's advisories gave no answer for ci.txt"),
        ({"pypi": report("django")}, report(), 0, "1 packages audited with PyPI's advisories, 0 with known vulnerabilities"),
        ({"pypi": report(), "osv": report("django")}, report("a", "b"), 1, "3 packages audited with OSV, 2 with known vulnerabilities"),
        ({"pypi": report("django")}, report("a", skipped="own"), 1, "2 packages audited with PyPI's advisories, 1 with"),
    ],
    ids=range(7),
)  # fmt: skip
def test_an_audit_says_what_it_found_or_that_it_was_none(trials: Any, answer: Any, code: int, last: str) -> None:
    said: list[str] = []

    def ask(service: str, requirements: Path, options: Any) -> Any:
        if requirements == LOCK:
            assert options == ["--require-hashes"]
            return answer
        assert requirements.read_text("utf-8") == "django==3.0\n"
        return trials[service]

    assert audit.audit(LOCK, ask, said.append) == code
    assert said[-1].startswith(last)
    if code == 1:
        assert "a 1.0: CVE-1 (mended in 2.0), CVE-2 (not mended yet)" in said
    assert ("not known to PyPI's advisories: own" in said) == (answer is not None and "skip_reason" in str(answer))


def test_a_service_that_cannot_be_reached_gives_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        audit.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "error")
    )
    assert audit.ask("osv", tmp_path / "none", []) is None


def test_the_bill_of_materials_names_every_pin_and_is_the_same_each_time(tmp_path: Path) -> None:
    line = next(
        line
        for line in (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ").splitlines()
        if "cyclonedx-py" in line
    )
    words = line.partition("cyclonedx-py ")[2].split()
    written = []
    for name in ("a.json", "b.json"):
        command = [
            str(tmp_path / name) if word == "dist/m2clip.cdx.json" else word for word in (*words, "--no-validate")
        ]
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", *command], cwd=ROOT, check=True, capture_output=True
        )
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    bill = json.loads(written[0])
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "m2clip")
    named = {(canonicalize_name(one["name"]), one["version"]) for one in bill["components"]}
    right = {(name, str(one.specifier).removeprefix("==")) for name, all_of_it in pins().items() for one in all_of_it}
    assert named == right
    assert str(ROOT) not in written[0].decode()


def test_the_threat_model_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "threat-model.md").read_text("utf-8"))
    assert len(named) > 30
    for path, test in named:
        text = (ROOT / path).read_text("utf-8")
        assert not test or f"def {test}(" in text, f"{path} has no {test}"

"""Audit what CI installs (constraints/ci.txt) against a database of known vulnerabilities: `make audit`.

Exit codes: 0 nothing known, 1 something known, 3 not audited because no database answers. A mirror of a package index may answer
and know of no vulnerability at all, so a database is first asked for a release that is known to have some.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent / "ci.txt"
KNOWN_BAD = "django==3.0"  # since 2020: CVE-2020-7471, CVE-2020-9402 and others
SERVICES = {"pypi": "PyPI's advisories", "osv": "OSV"}
CLEAN, FOUND, NOT_AUDITED = 0, 1, 3

Report = dict[str, Any]
Ask = Callable[[str, Path, Sequence[str]], Report | None]


def ask(service: str, requirements: Path, options: Sequence[str]) -> Report | None:
    """What pip-audit reports of a file of requirements; None where the service does not answer."""
    plain = ("--disable-pip", "--progress-spinner=off", "--desc=off", "--format=json")
    asked = [f"--vulnerability-service={service}", *options, "--requirement", str(requirements)]
    ran = subprocess.run(
        [sys.executable, "-m", "pip_audit", *plain, *asked],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return json.loads(ran.stdout)
    except ValueError:
        return None


def vulnerable(report: Report) -> list[str]:
    """A line for each package with known vulnerabilities."""
    return [
        f"{one['name']} {one['version']}: " + ", ".join(_named(known) for known in one["vulns"])
        for one in report["dependencies"]
        if one.get("vulns")
    ]


def _named(known: dict[str, Any]) -> str:
    fixed = ", ".join(known["fix_versions"])
    return f"{known['id']} ({f'mended in {fixed}' if fixed else 'not mended yet'})"


def audit(lock: Path, ask: Ask, say: Callable[[str], None]) -> int:
    """Audit a file of pinned requirements with hashes; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        known_bad = Path(folder) / "known-bad.txt"
        known_bad.write_text(KNOWN_BAD + "\n", "utf-8")
        for service, name in SERVICES.items():
            trial = ask(service, known_bad, ["--no-deps"])
            if trial is not None and vulnerable(trial):
                break
            say(f"{name}: no answer, or none that knows of vulnerabilities")
        else:
            say(
                f"not audited: no database of vulnerabilities can be reached from here, so {lock.name} may pin releases that have some"
            )
            return NOT_AUDITED
    report = ask(service, lock, ["--require-hashes"])
    if report is None:
        say(f"not audited: {name} gave no answer for {lock.name}")
        return NOT_AUDITED
    skipped = [one["name"] for one in report["dependencies"] if "skip_reason" in one]
    if skipped:
        say(f"not known to {name}: {', '.join(skipped)}")
    found = vulnerable(report)
    for line in found:
        say(line)
    say(
        f"{len(report['dependencies']) - len(skipped)} packages audited with {name}, {len(found)} with known vulnerabilities"
    )
    return FOUND if found else CLEAN


if __name__ == "__main__":
    sys.exit(audit(LOCK, ask, print))

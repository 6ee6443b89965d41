"""docs/data/cases.md, made from faults.yaml (our words) and docs/results/cases.json (the last run of the marked tests)."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "results" / "cases.json"
PAGE = ROOT / "docs" / "data" / "cases.md"
FAULTS = Path(__file__).with_name("faults.yaml")
COMMAND = "python -m pytest -n 2 --write-cases"

_GROUPS = {
    "D": "Decoding and input files",
    "S": "Frame sampling and views",
    "L": "Lists, class names, prompts",
    "E": "Evaluation and numbers",
    "T": "Training, checkpoints, platform",
}


def faults() -> dict[str, dict[str, str]]:
    """For each id: `fault`, `probe` and `right`, each one sentence or less."""
    read = yaml.safe_load(FAULTS.read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    return read


def write(record: Mapping[str, Any]) -> None:
    """Write both files of a run."""
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(record), encoding="utf-8")


def page(record: Mapping[str, Any]) -> str:
    """The page, as Markdown."""
    known, cases = faults(), record["cases"]
    total = Counter(outcome_of(cases.get(name, {})) for name in known)
    software = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    libraries = ", ".join(f"{name} {record['ffmpeg'][name]}" for name in ("libavcodec", "libavformat"))
    lines = [
        "# Reported faults, and the tests that hold them",
        "",
        "What users of software like this reported in public issue trackers, in our words; the smallest input that shows whether m2clip",
        "has the fault; what is right; the tests that hold it; and how they ended. Every id has a test with the right value in it.",
        "",
        f"Of {len(known)} faults: " + ", ".join(f"{count} {name}" for name, count in sorted(total.items())) + ".",
        f"Run on {record['system']} with {software}, FFmpeg inside PyAV ({libraries}).",
        "",
        f"Regenerate: `{COMMAND}` runs the tests marked `case` and writes this page and [the record](../results/cases.json).",
        "A number behind a test counts its parameters; tests that need the data folder beside the checkout are skipped without it.",
        "",
    ]
    for letter, title in _GROUPS.items():
        lines += [f"## {title}", "", "| id | fault | probe | right | tests | result |", "|--|--|--|--|--|--|"]
        for name, words in known.items():
            if name.startswith(letter):
                tests = cases.get(name, {})
                listed = "<br>".join(_test(test, counts) for test, counts in tests.items())
                cells = [name, words["fault"], words["probe"], words["right"], listed, outcome_of(tests)]
                lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def outcome_of(tests: Mapping[str, Mapping[str, int]]) -> str:
    """How an id stands: the worst of its tests; `passed` needs one that ran."""
    ended = {outcome for counts in tests.values() for outcome in counts}
    for worst in ("failed", "expected to fail", "passed", "skipped"):
        if worst in ended:
            return worst
    return "no test"


def _test(test: str, counts: Mapping[str, int]) -> str:
    path, _, name = test.partition("::")
    number = sum(counts.values())
    told = [f"{count} {outcome}" for outcome, count in counts.items() if outcome != "passed"]
    shown = f" × {number}" if number > 1 else ""
    return f"[{path.removeprefix('tests/')}](../../{path}) `{name}`{shown}" + (f" ({', '.join(told)})" if told else "")

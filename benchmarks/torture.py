"""Do to m2clip what it must survive: `python benchmarks/torture.py` (or `make torture`) writes docs/results/reliability.json and the tables
of docs/reliability.md, and ends with exit code 1 where anything was lost.

Everything that is needed is made on the spot, in a folder of its own. `--short` does a little of everything and writes nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from speed.markdown import put_between
from speed.timing import environment

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/reliability.json"
PAGE = ROOT / "docs/reliability.md"
PARTS = ("kills", "evaluation", "fuzz", "scaling", "bulk")


class Part(Protocol):
    """What a module of `torturing` has."""

    def measure(self, folder: Path, *, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]: ...

    def tables(self, figures: dict[str, Any]) -> str: ...

    def faults(self, figures: dict[str, Any]) -> list[str]: ...


def part(name: str) -> Part:
    """The module of a part; it is loaded when its turn comes, for some load much."""
    return cast(Part, import_module(f"torturing.{name}"))


def run(name: str, *, short: bool, seed: int, note: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of a part, what was lost, and how and where they were measured; `note`: what else the machine did."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
        figures = part(name).measure(Path(folder), short=short, seed=seed, say=say)
    seconds = round(time.perf_counter() - started, 1)
    measured = {
        "command": f"python benchmarks/torture.py --only {name} --seed {seed}",
        "seconds": seconds,
        "note": note,
    }
    return {**measured, "environment": environment(), "faults": part(name).faults(figures), "figures": figures}


def tables(document: dict[str, Any]) -> dict[str, str]:
    """For each part that was measured what the page shows."""
    made = {}
    for name, found in document["parts"].items():
        lost = [f"- **{fault}**" for fault in found["faults"]]
        machine = found["environment"]["machine"]
        told = (
            f"Measured by `{found['command']}` in {found['seconds']:.0f} s on {machine['processor']}, {machine['cores']} cores,\n"
            f"Python {machine['python']}, PyTorch {machine['torch']}; {found['note']}."
        )
        made[name] = "\n\n".join([part(name).tables(found["figures"]), *(["\n".join(lost)] if lost else []), told])
    return made


def with_tables(text: str, document: dict[str, Any]) -> str:
    """The page with the tables of this measurement."""
    for name, table in tables(document).items():
        text = put_between(text, f"<!-- begin {name} -->", f"<!-- end {name} -->", table)
    return text


def say(sentence: str) -> None:
    """Tell at once, for some parts take minutes."""
    print(sentence, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="do these, keep the others' figures")
    parser.add_argument("--short", action="store_true", help="a little of everything; writes neither figures nor page")
    parser.add_argument("--seed", type=int, default=0, help="what is done at random follows from it")
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    options = parser.parse_args(arguments)
    document = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() and not options.short else {"parts": {}}
    lost: list[str] = []
    for name in options.only:
        say(f"{name}:")
        found = run(
            name, short=options.short, seed=options.seed, note=options.note, say=lambda sentence: say(f"  {sentence}")
        )
        lost += [f"{name}: {fault}" for fault in found["faults"]]
        document["parts"][name] = found
        print(f"{name}, {found['seconds']} s\n\n{part(name).tables(found['figures'])}\n", flush=True)
        if not options.short:
            RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")  # an interrupted run keeps what it has
    if not options.short:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), document), "utf-8")
    for fault in lost:
        print(f"LOST {fault}")
    print(f"{len(lost)} faults" if lost else "all survived", flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure how fast m2clip is on this machine, beside its yardsticks, and make docs/performance.md from what was measured.

    python benchmarks/bench.py run                       # all sections, about 15 minutes on two cores; then the page
    python benchmarks/bench.py run inference text        # some of them
    python benchmarks/bench.py run --quick --out FOLDER  # tiny sizes: shows that everything runs; the figures say nothing
    python benchmarks/bench.py tables                    # the page and its figures from the JSON files alone

Each section runs in a process of its own and writes docs/results/performance/SECTION.json. Within it, ours and the yardsticks take
turns, and what counts is the ratio of neighbours; still, the machine should have nothing else to do. Videos and weights are made once in
`--files` (about 1 GB; a temporary folder where it is not given).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "performance"
SECTIONS = ("inference", "kept", "training", "reading", "text", "startup", "scale")


def run(sections: Sequence[str], *, quick: bool, out: Path, files: Path) -> None:
    """Measure these sections, each in a fresh process, so that what one leaves in memory or in a pool of threads touches no other."""
    environment = os.environ | {"M2CLIP_CACHE": str(files / "cache")}  # the user's own is neither used nor filled
    for section in sections:
        started = time.perf_counter()
        print(f"{section} ...", file=sys.stderr, flush=True)
        subprocess.run(_again("section", section, quick=quick, out=out, files=files), env=environment, check=True)
        print(f"{section}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def _again(command: str, *arguments: str, quick: bool, out: Path, files: Path) -> list[str]:
    options = ["--out", str(out), "--files", str(files), *(["--quick"] if quick else [])]
    return [sys.executable, __file__, command, *arguments, *options]


def section(name: str, *, quick: bool, out: Path, files: Path) -> None:
    """Measure one section in this process and write its JSON."""
    from dataclasses import asdict

    import torch
    from speed import inference, reading, scale, startup, text, training
    from speed.timing import environment, process_peak_gib
    from speed.workload import FULL, QUICK

    from m2clip.freed_memory import keep_freed_memory

    if name != "inference":
        keep_freed_memory()  # as the command line does; the yardsticks in this process have the same of it
    workload = QUICK if quick else FULL
    where = environment()
    if name == "scale":
        found = scale.measure(
            workload,
            files,
            point=lambda curve, number: _again("point", curve, str(number), quick=quick, out=out, files=files),
        )
    elif name in ("inference", "text"):
        found = {"inference": inference, "text": text}[name].measure(workload)
    elif name == "kept":
        found = inference.measure(workload, precisions=("bf16",))
    else:
        found = {"training": training, "reading": reading, "startup": startup}[name].measure(workload, files)
    where["machine"]["threads"] = torch.get_num_threads()  # a section may have set its own
    document = {
        "section": name,
        "command": f"python benchmarks/bench.py run {name}{' --quick' if quick else ''}",
        **where,
        "settings": asdict(workload) | {"backbone": workload.backbone.model_dump()},
        "process_peak_gib": process_peak_gib(),
        **found,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(_rounded(document), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Numbers to four digits: more than any of these measurements can tell."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def point(curve: str, number: int, *, quick: bool, files: Path) -> None:
    """Measure one point of a curve in this process and print it."""
    from speed import scale
    from speed.workload import FULL, QUICK

    print(json.dumps(scale.measure_point(QUICK if quick else FULL, files, curve=curve, number=number)))


def tables() -> None:
    """Make the page and its figures anew."""
    from speed import figures, page

    documents = page.read(RESULTS)
    target = ROOT / "docs" / "performance.md"
    target.write_text(page.performance_page(target.read_text(), documents))
    for name, content in figures.draw(documents).items():
        (ROOT / "docs" / "images" / name).write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("--quick", action="store_true")
    places.add_argument("--out", type=Path, default=RESULTS)
    places.add_argument("--files", type=Path)
    several = commands.add_parser("run", parents=[places], help="measure")
    several.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; none: all")
    # What `run` starts in processes of their own.
    commands.add_parser("section", parents=[places]).add_argument("name", choices=SECTIONS)
    one = commands.add_parser("point", parents=[places])
    one.add_argument("curve")
    one.add_argument("number", type=int)
    commands.add_parser("tables", help="make the page from the JSON files")
    options = parser.parse_args()
    if options.command == "run":
        unknown = set(options.sections) - set(SECTIONS)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))}: no such section; choose from {', '.join(SECTIONS)}")
        if options.quick and options.out == RESULTS:
            parser.error("--quick measures nothing worth keeping; give another folder with --out")
        with tempfile.TemporaryDirectory() as temporary:
            files = options.files or Path(temporary)
            run(options.sections or SECTIONS, quick=options.quick, out=options.out, files=files)
        if options.out == RESULTS:
            tables()
    elif options.command == "section":
        section(options.name, quick=options.quick, out=options.out, files=options.files)
    elif options.command == "point":
        point(options.curve, options.number, quick=options.quick, files=options.files)
    else:
        tables()


if __name__ == "__main__":
    main()

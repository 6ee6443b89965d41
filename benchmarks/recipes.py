"""Run the recipes of configs/ that fit on two cores, and keep what they measured as JSON; tables are made from the JSON alone.

    python benchmarks/recipes.py run motionshapes --runs runs      # trains, evaluates, writes docs/results/motionshapes.json
    python benchmarks/recipes.py demo demo/report.json             # takes in the report of `make demo`
    python benchmarks/recipes.py tables                            # rewrites docs/results.md and the table in README.md

A run that has finished is not trained again. `--threads 1` lets two runs share two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
SHAPES = "m2clip data make-shapes shapes --train 40 --val 4 --test 10"

RECIPES: dict[str, dict[str, Any]] = {
    "motionshapes": {
        "title": "MotionShapes, the longer recipe",
        "config": "configs/motionshapes.yaml",
        "prepare": SHAPES,
        "overrides": [],
        "seeds": [0, 1, 2],
        "tests": {
            "base": ["--data", "shapes/base/test.csv"],
            "novel": [
                *("--data", "shapes/novel/test.csv", "--classes", "shapes/novel/classes.csv"),
                *("--protocol", "zero-shot"),
            ],
        },
    },
    "motionshapes-without-ted": {
        "title": "The same without TED-Adapters: nothing that sees time",
        "config": "configs/motionshapes.yaml",
        "prepare": SHAPES,
        "overrides": ["model.ted=off"],
        "seeds": [0],
        "tests": {"base": ["--data", "shapes/base/test.csv"]},
    },
    "motionshapes-output-temporal-alone": {
        "title": "Without TED-Adapters, but with the output temporal adapter",
        "config": "configs/motionshapes.yaml",
        "prepare": SHAPES,
        "overrides": ["model.ted=off", "model.output_temporal=true"],
        "seeds": [0],
        "tests": {"base": ["--data", "shapes/base/test.csv"]},
    },
    "weizmann": {
        "title": "Weizmann actions, real videos, 3 people to test",
        "config": "configs/weizmann.yaml",
        "prepare": "",
        "overrides": [],
        "seeds": [0, 1, 2],
        "tests": {"test": ["--data", "data/weizmann/test.txt", "--views", "2x3"]},
    },
    "ut-interaction": {
        "title": "UT-Interaction, real videos, 6 sequences to test",
        "config": "configs/ut-interaction.yaml",
        "prepare": "",
        "overrides": [],
        "seeds": [0, 1, 2],
        "tests": {"test": ["--data", "data/ut-interaction/test.txt", "--views", "2x3"]},
    },
}


def run(name: str, *, runs: Path, threads: int | None) -> None:
    """Train and evaluate each seed of a recipe and write its JSON. Paths in the configs are relative to the working directory."""
    recipe = RECIPES[name]
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    if recipe["prepare"]:
        _m2clip(recipe["prepare"].split()[1:], environment)
    from m2clip.study.measure import machine

    found = []
    for seed in recipe["seeds"]:
        out = runs / f"{name}-{seed}"
        if not (out / "finished").exists():
            arguments = [
                "train",
                str(ROOT / recipe["config"]),
                *recipe["overrides"],
                f"train.seed={seed}",
                f"out={out}",
            ]
            _m2clip([*arguments, *(["--resume"] if (out / "last.state.pt").exists() else [])], environment)
            (out / "finished").touch()
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if line["kind"] == "step"]
        tests = {}
        for part, arguments in recipe["tests"].items():
            report = json.loads(_m2clip(["evaluate", str(out / "best.safetensors"), *arguments, "--json"], environment))
            tests[part] = {
                "videos": report["protocol"]["data"]["scored"],
                "classes": report["protocol"]["classes"],
                "views": report["protocol"]["views"],
                "top1": {reading: metric["top1"] for reading, metric in report["metrics"].items()},
            }
        training_seconds = sum(line["seconds"] for line in steps)
        found.append({"seed": seed, "epochs": steps[-1]["epoch"], "training_seconds": training_seconds, "tests": tests})
    document = {
        "title": recipe["title"],
        "command": f"python benchmarks/recipes.py run {name}",
        "config": recipe["config"],
        "overrides": recipe["overrides"],
        "prepare": recipe["prepare"],
        "threads": threads,
        "machine": machine(),
        "runs": found,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def _m2clip(arguments: list[str], environment: dict[str, str]) -> str:
    print("m2clip", *arguments, file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "m2clip", *arguments], env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    return done.stdout


def demo(report: Path) -> None:
    """Keep the figures of a demo's report."""
    from m2clip.study.measure import machine

    found = json.loads(report.read_text())
    kept = {key: found[key] for key in ("frozen_clip", "adapted", "chance", "seed", "seconds")}
    document = {"title": "The demo", "command": "make demo", "machine": machine(), **kept}
    (RESULTS / "demo.json").write_text(json.dumps(document, indent=1) + "\n")


def demo_table(document: dict[str, Any]) -> str:
    """The README's table."""
    lines = ["| top-1 | classes | chance | frozen CLIP | adapted |", "|---|---|---|---|---|"]
    titles = {"base": "base: trained", "novel": "novel: never seen, zero-shot"}
    for part, title in titles.items():
        adapted, frozen = document["adapted"][part], document["frozen_clip"][part]
        lines.append(
            f"| {title} | {adapted['classes']} | {percent(document['chance'][part])} | {percent(frozen['top1'])} "
            f"| **{percent(adapted['top1'])}** |"
        )
    machine = document["machine"]
    lines += [
        "",
        f"One seed, {document['adapted']['base']['videos']} base and {document['adapted']['novel']['videos']} novel test videos, "
        f"{document['seconds']:.0f} seconds for everything on {machine['cores']} cores ({machine['processor']}). "
        "Regenerate: `make demo`.",
    ]
    return "\n".join(lines)


def results_page() -> str:
    """docs/results.md from the JSON files beside it."""
    parts = [
        "# Measured results",
        "",
        "Made by `python benchmarks/recipes.py tables` from the files in `docs/results/`; each section names the command that measured "
        "it. Several seeds: mean ± standard deviation (n - 1). The backbone is the tiny CLIP of the package everywhere, which knows "
        "coloured shapes and not the world.",
        "",
        "M2-CLIP beside its rivals, each part of it switched off, depth, frames, shots, strength and texts, on equal terms: "
        "[methods](results/methods.md); the learning rates of that study: [learning rates](results/learning-rates.md).",
        "",
        "## The demo",
        "",
        demo_table(json.loads((RESULTS / "demo.json").read_text())),
    ]
    for name in RECIPES:
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += ["", *_section(json.loads(path.read_text()))]
    notes = RESULTS / "notes.md"
    return "\n".join([*parts, "", notes.read_text().strip()]) + "\n"


def _section(document: dict[str, Any]) -> list[str]:
    runs = document["runs"]
    lines = [f"## {document['title']}", ""]
    if document["prepare"]:
        lines += [f"    {document['prepare']}"]
    lines += [
        f"    {document['command']}",
        "",
        "| test | videos | classes | views | reading | top-1 |",
        "|---|---|---|---|---|---|",
    ]
    for part, first in runs[0]["tests"].items():
        views = f"{first['views']['temporal']}x{first['views']['spatial']}"
        for reading in first["top1"]:
            values = [run["tests"][part]["top1"][reading] for run in runs]
            spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
            lines.append(
                f"| {part} | {first['videos']} | {first['classes']} | {views} | {reading} "
                f"| {100 * statistics.mean(values):.1f}{spread} % |"
            )
    seconds = statistics.mean(run["training_seconds"] for run in runs)
    threads = f"{document['threads']} thread" if document["threads"] == 1 else f"{document['machine']['cores']} threads"
    seeds = ("seeds " if len(runs) > 1 else "seed ") + ", ".join(str(run["seed"]) for run in runs)
    settings = " ".join([document["config"], *document["overrides"]])
    lines += [
        "",
        f"Settings: `{settings}`, {runs[0]['epochs']} epochs; {seeds}; {seconds / 60:.1f} minutes of training a seed on {threads} "
        f"of {document['machine']['processor']}, torch {document['machine']['torch']}.",
    ]
    return lines


def methods_table() -> str:
    """The README's table of M2-CLIP and its rivals, from the records of the study."""
    from m2clip.study import load_study
    from m2clip.study.markdown import markdown_table
    from m2clip.study.results import read_records
    from m2clip.study.tables import accuracy_table

    source, overrides, records = read_records(RESULTS / "methods" / "records.json")
    config = load_study(ROOT / source, overrides).config
    table = accuracy_table(config, config.sections[0].tables[0], records)
    return f"{markdown_table(table)}\n\n{table.caption} Regenerate: `m2clip study {source}`."


def readme(text: str) -> str:
    """The README with its tables made anew."""
    tables = {"demo": demo_table(json.loads((RESULTS / "demo.json").read_text())), "methods": methods_table()}
    end = "<!-- end -->"
    for name, table in tables.items():
        begin = f"<!-- {name} table: made by benchmarks/recipes.py -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end, 1)[1]}"
    return text


def percent(share: float) -> str:
    """0.925 -> "92.5 %"."""
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("name", choices=RECIPES)
    one.add_argument("--runs", type=Path, default=Path("runs"))
    one.add_argument("--threads", type=int)
    commands.add_parser("demo").add_argument("report", type=Path)
    commands.add_parser("tables")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.name, runs=arguments.runs, threads=arguments.threads)
    elif arguments.command == "demo":
        demo(arguments.report)
    else:
        (ROOT / "docs" / "results.md").write_text(results_page())
        (ROOT / "README.md").write_text(readme((ROOT / "README.md").read_text()))


if __name__ == "__main__":
    main()

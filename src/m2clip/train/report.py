"""The report of a finished run: what it reached, epoch by epoch, and how to make it again (`m2clip rerun`)."""

import os
from pathlib import Path
from typing import Any

from m2clip.config import RunConfig
from m2clip.evaluate import versions
from m2clip.launcher import read_launcher
from m2clip.provenance import FILE_SETTINGS, content_sha256, provenance
from m2clip.report.files import write_json
from m2clip.train.log import read_log
from m2clip.train.preparation import plain_settings

REPORT = "report.json"
FORMAT_VERSION = 1


def write_report(config: RunConfig, out: Path, *, checkpoints: tuple[str, ...]) -> None:
    """Write report.json from the run's log and the SHA-256 of its checkpoints. Nothing in it depends on the hour or on `out`."""
    lines = read_log(out)
    settings = plain_settings(config)
    del settings["out"]
    inputs: dict[str, str | None] = {}
    for name in FILE_SETTINGS["train"]:
        section, _, key = name.partition(".")
        value = settings[section][key]
        inputs[name] = value if isinstance(value, str) else None  # a backbone may be sizes
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "run": provenance(
            "train",
            settings,
            inputs,
            processes=read_launcher(os.environ).count,
            seed=config.train.seed,
            versions=versions(),
        ),
        "steps": max((line["step"] for line in lines if line["kind"] == "step"), default=0),
        "epochs": [_without_kind(line) for line in lines if line["kind"] == "epoch"],
        "test": [_without_kind(line) for line in lines if line["kind"] == "test"],
        "sha256": {name: content_sha256(out / name) for name in checkpoints},
    }
    write_json(out / REPORT, document)


def _without_kind(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "kind"}

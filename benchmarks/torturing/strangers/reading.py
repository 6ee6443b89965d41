"""Reads one file of a stranger as the commands of m2clip do, in a process whose memory and time are bounded, and says what came of it."""

import os
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from speed.timing import PeakMemory

from m2clip.apart import Alive
from m2clip.bulk.vector_table import VectorTable
from m2clip.checkpoint import load
from m2clip.checkpoint.files import read_tensors
from m2clip.config import load_config
from m2clip.data.manifest import read_manifest
from m2clip.data.shards.reading import read_shards
from m2clip.data.text.descriptions import read_descriptions
from m2clip.data.video import Video
from m2clip.errors import M2CLIPError
from m2clip.rerun import read_report
from m2clip.train.state import TrainingState
from torturing.strangers.mutations import MUTATIONS

LONGEST_MESSAGE = 4000
"""Characters: a message may name a path and a few values, not repeat the file."""


def outcome(job: dict[str, Any], alive: Alive) -> dict[str, Any]:
    """`job`: kind, path, classes and folder; with a seed, the file is broken by it. -> what, detail, seconds, MiB above the start."""
    source = Path(job["path"])
    with tempfile.TemporaryDirectory(dir=job["folder"]) as folder:
        path = source
        if job["seed"] is not None:
            rng = np.random.default_rng(job["seed"])
            path = Path(folder) / source.name
            path.write_bytes(MUTATIONS[job["seed"] % len(MUTATIONS)](source.read_bytes(), rng))
        empty = Path(folder) / "empty"
        empty.mkdir()
        os.chdir(empty)  # where code that ran would leave its mark
        with PeakMemory(collect=False) as held:
            started = time.monotonic()
            what, detail = _read(job["kind"], path, Path(job["classes"]))
            seconds = time.monotonic() - started
        mib = 1024 * (held.gib or 0.0)
        if any(empty.iterdir()):
            what, detail = "fault", f"it left {next(empty.iterdir()).name} behind"
        os.chdir(job["folder"])
    return {"what": what, "detail": detail, "seconds": round(seconds, 3), "mib": round(max(mib, 0), 1)}


def _read(kind: str, path: Path, classes: Path) -> tuple[str, str]:
    try:
        _READERS[kind](path, classes)
    except M2CLIPError as error:
        text = str(error)
        bad = "several lines" if "\n" in text else "a long text" if len(text) > LONGEST_MESSAGE else ""
        return ("fault", f"a message of {bad}: {text[:200]}") if bad else ("refused", text[:300])
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            "fault",
            f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {' '.join(str(error).split())[:200]}",
        )
    return "read", ""


def _samples(path: Path, classes: Path) -> None:
    found = read_manifest(path, classes=classes).samples
    _ = [found[n] for n in range(min(len(found), 20))], found.bounds()


def _shards(path: Path, _: Path) -> None:
    found = read_shards(path).samples
    for n in range(min(len(found), 20)):
        # A member may be no video, or its shard not be there.
        with suppress(M2CLIPError), Video(found[n].path) as video:
            video.frames([0])


def _named_by(path: Path, classes: Path) -> None:
    read_manifest(classes.with_name("one.txt"), classes=path)


def _video(path: Path, _: Path) -> None:
    with Video(path) as video:
        count = video.info.frame_count
        video.frames(sorted({0, count // 2, count - 1}))


def _vectors(path: Path, _: Path) -> None:
    with VectorTable(path) as table:
        for batch in table.batches():
            batch.to_pylist()


_READERS: dict[str, Callable[[Path, Path], Any]] = {
    "checkpoint": lambda path, _: load(path),
    **dict.fromkeys(
        ("weights of PyTorch", "weights before 1.6", "TorchScript archive"), lambda path, _: read_tensors(path)
    ),
    "training state": lambda path, _: TrainingState.read(path),
    **dict.fromkeys(("list as CSV", "list as lines", "list as JSON", "list as .csv.gz", "list as Parquet"), _samples),
    **dict.fromkeys(("class file", "class file as JSON"), _named_by),
    "texts of classes": lambda path, _: read_descriptions(path),
    **dict.fromkeys(("shard", "index of shards"), _shards),
    "table of embeddings": _vectors,
    "settings": lambda path, _: load_config(path),
    "report to run again": lambda path, _: read_report(path),
    **dict.fromkeys((f"video as {name}" for name in ("mp4", "avi", "webm", "gif", "mjpeg")), _video),
    "array of frames": _video,
}

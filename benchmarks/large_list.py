"""Time long lists: `python benchmarks/large_list.py [--rows 10_000_000]` writes docs/results/large-list.json and the table of the page.

Lists of so many rows are made in a temporary folder (about 1 GB), and each is read in a process of its own. A row is
`train/part_0042/video_00421234.mp4` with one of 400 names (CSV, Parquet) or ids (list). On a tenth of the rows, the reader of many
lines at once and that of single ones are measured in turn, in one process: the median of the ratios within a round.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from speed.markdown import put_between
from speed.timing import status_kib

from m2clip.data.lists import listings
from m2clip.data.lists.arrow_rows import arrow_rows
from m2clip.data.lists.splits import check_repeats, check_splits
from m2clip.data.manifest import read_manifest
from m2clip.study.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/large-list.json"
PAGE = ROOT / "docs/data/lists.md"
BEGIN, END = "<!-- begin large lists -->", "<!-- end large lists -->"
CLASSES = 400
FORMS = {"csv": "CSV", "txt": "list", "parquet": "Parquet"}


def make(folder: Path, rows: int, name: str) -> None:
    """The three lists of so many rows, and a class file."""
    (folder / "classes.txt").write_text("".join(f"class {n:03d} of 400\n" for n in range(CLASSES)))
    with (folder / f"{name}.csv").open("w") as table, (folder / f"{name}.txt").open("w") as lines:
        table.write("path,label\n")
        for start in range(0, rows, 100_000):
            numbers = range(start, min(start + 100_000, rows))
            paths = [f"train/part_{n // 10_000:04d}/video_{n:08d}.mp4" for n in numbers]
            labels = [n * 7919 % CLASSES for n in numbers]
            table.writelines(f"{p},class {x:03d} of 400\n" for p, x in zip(paths, labels, strict=True))
            lines.writelines(f"{p} {x}\n" for p, x in zip(paths, labels, strict=True))
    convert = arrow_csv.ConvertOptions(column_types={"path": pa.string(), "label": pa.string()})
    pq.write_table(arrow_csv.read_csv(folder / f"{name}.csv", convert_options=convert), folder / f"{name}.parquet")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def worked(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor, which other programs do not lengthen as they do those of the clock."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def measure(path: Path) -> dict[str, Any]:
    """Reading one list and what a run does with it."""
    before = status_kib("VmHWM")  # what getrusage says counts the process that started this one, too
    own = time.process_time()
    seconds, manifest = timed(lambda: read_manifest(path, classes=path.with_name("classes.txt")))
    own = time.process_time() - own
    peak = status_kib("VmHWM")
    samples = manifest.samples
    order = np.random.default_rng(0).integers(len(samples), size=100_000).tolist()
    access, _ = timed(lambda: [samples[n] for n in order])
    pickling, pickled = timed(lambda: pickle.dumps(samples, protocol=5))
    size = len(pickled)
    unpickling, _ = timed(partial(pickle.loads, pickled))
    del pickled
    small = read_manifest(path.with_name("val.csv"), classes=path.with_name("classes.txt"))
    splits, warnings = worked(lambda: check_splits(manifest, small))
    assert f"{len(small.samples)} of {len(small.samples)}" in warnings[0]
    same = read_manifest(path, classes=path.with_name("classes.txt"))
    large_splits, warnings = worked(partial(check_splits, manifest, same))
    assert f"{len(samples)} of {len(samples)}" in warnings[0]
    del same
    repeats, warnings = worked(lambda: check_repeats(manifest))
    assert not warnings
    return {
        "rows": len(samples),
        "file_mb": round(path.stat().st_size / 1e6),
        "read_seconds": round(seconds, 1),
        "read_processor_seconds": round(own, 1),
        "peak_mb": round((peak - before) / 1e3),
        "sample_microseconds": round(1e6 * access / len(order), 1),
        "pickle_mb": round(size / 1e6),
        "to_another_process_seconds": round(pickling + unpickling, 1),
        "check_splits_processor_seconds": round(splits, 1),
        "check_large_splits_processor_seconds": round(large_splits, 1),
        "check_repeats_processor_seconds": round(repeats, 1),
    }


def beside_plain(path: Path, rounds: int) -> dict[str, float]:
    """Many lines at once and one by one, in turn."""
    seconds: dict[str, list[float]] = {"at_once": [], "one_by_one": []}
    for _ in range(rounds):
        for name, reader in (("at_once", arrow_rows), ("one_by_one", lambda part, form: None)):
            listings.arrow_rows = reader
            seconds[name].append(timed(lambda: read_manifest(path, classes=path.with_name("classes.txt")))[0])
    listings.arrow_rows = arrow_rows
    ratios = [slow / quick for quick, slow in zip(seconds["at_once"], seconds["one_by_one"], strict=True)]
    return {
        **{f"{name}_seconds": round(statistics.median(took), 2) for name, took in seconds.items()},
        "ratio": round(statistics.median(ratios), 1),
    }


def table(document: dict[str, Any]) -> str:
    """The figures as the page has them."""
    rows = [
        "| | " + " | ".join(FORMS[form] for form in document["lists"]) + " |",
        "| :-- |" + " --: |" * len(document["lists"]),
    ]
    for key, words in (
        ("file_mb", "file, MB"),
        ("read_seconds", "reading, s"),
        ("read_processor_seconds", "of which its own work, s"),
        ("peak_mb", "memory while reading, at most, MB"),
        ("sample_microseconds", "one sample, µs"),
        ("to_another_process_seconds", "to another process, s"),
        ("check_splits_processor_seconds", "its own work against a list of 100,000, s"),
        ("check_large_splits_processor_seconds", "its own work against the same list, read again, s"),
        ("check_repeats_processor_seconds", "its own work for videos that stand twice, s"),
    ):
        rows.append(f"| {words} | " + " | ".join(f"{one[key]:,}" for one in document["lists"].values()) + " |")
    ratios = [f"{one['ratio']} times ({FORMS[form]})" for form, one in document["beside_one_by_one"].items()]
    rows += [
        "",
        f"{document['rows']:,} rows on {document['machine']['processor']}, {document['machine']['cores']} cores, Python "
        f"{document['machine']['python']}, PyArrow {document['machine']['pyarrow']}; {document['note']}.",
        f"Reading line by line takes {' and '.join(ratios)} as long.",
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    document: dict[str, Any] = {
        "command": f"python benchmarks/large_list.py --rows {options.rows} --rounds {options.rounds}",
        "machine": {**machine(), "pyarrow": pa.__version__},
        "note": options.note,
        "rows": options.rows,
        "lists": {},
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder, options.rows, "all")
        make(folder, options.rows // 10, "tenth")
        head = (folder / "all.csv").open().readlines(8_000_000)[:100_001]
        (folder / "val.csv").write_text("".join(head))
        for form in FORMS:
            program = [sys.executable, __file__, "--measure", str(folder / f"all.{form}")]
            document["lists"][form] = json.loads(subprocess.run(program, capture_output=True, check=True).stdout)
        document["beside_one_by_one"] = {
            form: beside_plain(folder / f"tenth.{form}", options.rounds) for form in ("csv", "txt")
        }
    RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    PAGE.write_text(put_between(PAGE.read_text("utf-8"), BEGIN, END, table(document)), "utf-8")


if __name__ == "__main__":
    main()

"""Bulk work: a Ray run one of whose actors is killed, a run whose driver is killed, and the driver with a long list."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from speed.markdown import table
from speed.timing import status_kib

from m2clip import Recognizer
from m2clip.builtin.shapes import render_motion, write_video
from m2clip.bulk.batches import Asked, BatchResult, Reading
from m2clip.bulk.run import Engine, LocalEngine, bring_up_to_date
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.vector_table import VectorRow, table_of
from m2clip.bulk.wanted_videos import wanted_videos
from m2clip.bulk.work import EmbeddingWork

VIDEOS, ACTORS = 96, 2
ROWS, ROWS_SHORT = 200_000, 2_000
_MOTIONS = ("moving up", "growing", "moving left to right")
_GONE_SECONDS = 300.0  # at most; two helpers of Ray look for its death once a minute
# Runs the command line with a table that saves each batch at once, and appends to a file a byte for each row that is safe: by its length
# another process knows how far it is.
DRIVER = """
import sys
from m2clip.bulk.growing_table import GrowingTable
from m2clip.cli import main

count, add = open(sys.argv.pop(1), "ab", buffering=0), GrowingTable.add
def add_and_count(self, rows):
    add(self, rows)
    self.save()
    count.write(b"." * len(rows))
GrowingTable.add = add_and_count
main()
"""


def measure(folder: Path, *, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    rows = ROWS_SHORT if short else ROWS
    say(f"the driver with {rows:,} rows")
    figures: dict[str, Any] = {"driver": _in_own_process(folder, rows)}
    if short:
        return figures
    videos, work = _videos(folder / "videos", seed), _work()
    say("this machine alone, undisturbed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as actors have, for the number of threads changes the last bits
    figures["local"] = _run(work, videos, folder / "local.parquet", LocalEngine(_reading(workers=ACTORS)))
    torch.set_num_threads(threads)
    say(f"Ray with {ACTORS} actors, one killed at a third")
    from m2clip.bulk.ray_engine import RayEngine

    killed: list[int] = []
    of_ray: list[int] = []

    def kill_at_a_third(done: int, total: int) -> None:
        if done >= total / 3 and not killed:
            below = descendants(os.getpid())
            of_ray.extend(pid for pid, _ in below)
            actors = [pid for pid, name in below if name.startswith("ray::MapWorker")]
            killed.append(actors[seed % len(actors)])
            os.kill(killed[0], signal.SIGKILL)

    engine = RayEngine(_reading(workers=ACTORS))
    own = {pid for pid, _ in descendants(os.getpid())}
    figures["actor"] = _run(work, videos, folder / "actor.parquet", engine, progress=kill_at_a_third)
    figures["actor"] |= {"actors_killed": len(killed), "left_behind": _still_there(set(of_ray) - own)}
    say("Ray whose driver is killed at a third, and the same command again")
    figures["driver killed"] = _killed_driver(videos, folder)
    for name, out in (("actor", "actor"), ("driver killed", "driver")):
        same = (folder / f"{out}.parquet").read_bytes() == (folder / "local.parquet").read_bytes()
        figures[name]["same_bytes_as_local"] = same
    return figures


def tables(figures: dict[str, Any]) -> str:
    named = {
        "local": "this machine, undisturbed",
        "actor": f"Ray, {ACTORS} actors, one killed",
        "driver killed": f"Ray, {ACTORS} actors, driver killed, run again",
    }
    rows = []
    for key, name in named.items():
        if key in figures:
            one = figures[key]
            same = {True: "yes", False: "no", None: ""}[one.get("same_bytes_as_local")]
            killed, left = one.get("actors_killed", one.get("drivers_killed", 0)), one.get("left_behind", 0)
            found = (one["expected"], one["found"], one["twice"], killed, same, left, one["seconds"])
            rows.append([name, *map(str, found)])
    driver = figures["driver"]
    ways = [
        [name, f"{driver['rows']:,}", *(str(driver[key][what]) for what in ("seconds", "before_mib", "peak_mib"))]
        for key, name in (("first", "all to do"), ("again", "all done"))
    ]
    head = (
        "run",
        "rows expected",
        "rows found",
        "twice",
        "killed",
        "same bytes as undisturbed",
        "left behind",
        "seconds",
    )
    runs = [table(head, rows)] if rows else []
    return "\n\n".join([*runs, table(("the driver with", "videos", "seconds", "MiB before the list", "at most"), ways)])


def faults(figures: dict[str, Any]) -> list[str]:
    found = []
    for name in ("local", "actor", "driver killed"):
        if (one := figures.get(name)) is None:
            continue
        if one["expected"] != one["found"] or one["twice"]:
            found.append(f"{name}: {one['expected']} rows were expected, {one['found']} found, {one['twice']} twice")
        if one.get("same_bytes_as_local") is False:
            found.append(f"{name}: the table differs from that of an undisturbed run")
        if one.get("left_behind"):
            found.append(f"{name}: {one['left_behind']} processes of Ray were left behind")
        if name != "local" and not one.get("actors_killed", one.get("drivers_killed")):
            found.append(f"{name}: it ended before anything was killed")
    driver = figures["driver"]
    if (driver["first"]["found"], driver["again"]["found"]) != (driver["rows"], driver["rows"]):
        found.append(
            f"of {driver['rows']} rows the driver kept {driver['first']['found']}, then {driver['again']['found']}"
        )
    return found


def _videos(folder: Path, seed: int) -> Path:
    folder.mkdir()
    for number in range(VIDEOS):
        pictures = render_motion("red star", _MOTIONS[number % 3], seed=seed * VIDEOS + number, frames=12, size=64)
        write_video(folder / f"{number:03d}.mp4", pictures)
    return folder


def _reading(*, workers: int) -> Reading:
    return Reading(batch_size=2, workers=workers, file_seconds=300.0, most_lost=0.5)


def _work() -> EmbeddingWork:
    recognizer = Recognizer("builtin", device="cpu")
    return EmbeddingWork(recognizer, SourceModel.of(recognizer, "builtin"))


def _run(work: EmbeddingWork, videos: Path, out: Path, engine: Engine, **options: Any) -> dict[str, Any]:
    started = time.perf_counter()
    bring_up_to_date(work, wanted_videos([str(videos)]), out, engine, **options)
    return _counted(out) | {"seconds": round(time.perf_counter() - started, 1)}


def _counted(out: Path) -> dict[str, int]:
    paths = Counter(pq.read_table(out, columns=["path"])["path"].to_pylist())
    return {"expected": VIDEOS, "found": len(paths), "twice": sum(count > 1 for count in paths.values())}


def _killed_driver(videos: Path, folder: Path) -> dict[str, Any]:
    count, out = folder / "count", folder / "driver.parquet"
    count.touch()
    command = [sys.executable, "-c", DRIVER, str(count), "embed", str(videos), "--out", str(out), "--engine", "ray"]
    command += ["--workers", str(ACTORS), "--batch-size", "2"]
    started = time.perf_counter()
    with (folder / "told").open("w+", encoding="utf-8") as told:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
        while count.stat().st_size < VIDEOS / 3:
            if process.poll() is not None:
                raise RuntimeError(f"the driver ended by itself: {(folder / 'told').read_text('utf-8')}")
            time.sleep(0.05)
        of_ray = [pid for pid, _ in descendants(process.pid)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = _still_there(of_ray)
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=told, check=True)
    seconds = round(time.perf_counter() - started, 1)
    return _counted(out) | {"drivers_killed": 1, "left_behind": left, "seconds": seconds}


def descendants(pid: int) -> list[tuple[int, str]]:
    """All processes below one, and what they are called."""
    parents: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name stands in brackets and may hold any character; the parent is the second word behind it.
                parent = int((entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes().partition(b"\0")[0].decode("utf-8", "replace")
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, open_pids = [], [pid]
    while open_pids:
        below = parents.get(open_pids.pop(), [])
        found += [(child, names[child]) for child in below]
        open_pids += below
    return found


def _still_there(pids: Collection[int]) -> int:
    """How many of these processes live on after a while."""
    end = time.monotonic() + _GONE_SECONDS
    while (alive := sum(_lives(pid) for pid in pids)) and time.monotonic() < end:
        time.sleep(0.2)
    return alive


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class _Instant:
    """An engine that reads nothing: every vector is the same."""

    reading = Reading(batch_size=8, workers=0, file_seconds=1.0, most_lost=0.5)

    def results(self, work: Any, asked: Sequence[Asked], batches: Sequence[range]) -> Iterator[BatchResult]:
        vector = np.eye(1, work.source.dim, dtype=np.float32)[0]
        for batch in batches:
            rows = [
                VectorRow(*one.key, *(one.state or (None, None)), 1.0, 0, vector)
                for one in asked[batch.start : batch.stop]
            ]
            yield BatchResult(tuple(batch), table_of(rows, work.source))


def _in_own_process(folder: Path, rows: int) -> dict[str, Any]:
    """A list whose videos all are parts of one file, so that each can be looked at; first all to do, then all done."""
    listed = folder / "list.csv"
    video = folder / "one.mp4"
    write_video(video, render_motion("red star", "growing", seed=0, frames=12, size=64))
    with listed.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start_seconds", "end_seconds"])
        writer.writerows(
            ("some/folder/with/a/long/name/../../../../../../one.mp4", "x", n / 1000, n / 1000 + 1) for n in range(rows)
        )
    (folder / "some/folder/with/a/long/name").mkdir(parents=True)
    found: dict[str, Any] = {"rows": rows}
    for name in ("first", "again"):
        code = f"import sys; sys.path[:0] = {sys.path!r}; from torturing.bulk import drive; drive({str(listed)!r})"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, peak, before, kept = ran.stdout.split()
        found[name] = {"seconds": float(seconds), "peak_mib": int(peak), "before_mib": int(before), "found": int(kept)}
    return found


def drive(listed: str) -> None:
    """Bring the table of a list up to date without reading; prints seconds, the most MiB, those before, and the table's rows."""
    work = _work()
    before = status_kib("VmRSS") // 1024
    started = time.perf_counter()
    done = bring_up_to_date(work, wanted_videos([listed]), Path(listed).with_suffix(".parquet"), _Instant())
    seconds = round(time.perf_counter() - started, 1)
    print(seconds, status_kib("VmHWM") // 1024, before, done.rows)

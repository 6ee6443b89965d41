"""Read a data set from files and from shards, side by side: `python benchmarks/shards.py DATA FOLDER [--copies 20] [--rounds 5]`.

DATA is what `m2clip train` takes. FOLDER gets so many copies of its videos, and the shards that are made of them. Three things are
measured in turn, round by round, in one process: the bytes of every video in shuffled order from a disk that has forgotten them (what
the system keeps of them in memory is dropped before), the same from memory, and clips of 8 frames as training takes them. Prints JSON:
the median of the rounds, and of the ratios within a round. With `--rows N`, instead: an index of so many made-up samples is written to
FOLDER and read; DATA is not looked at.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from m2clip.data.classes import ClassTable
from m2clip.data.dataset import BadFile, VideoDataset
from m2clip.data.manifest import Manifest, Sample, read_manifest
from m2clip.data.shards.index import INDEX, write_index
from m2clip.data.shards.members import member_bytes
from m2clip.data.shards.reading import read_shards
from m2clip.data.shards.writing import write_shards


def copied(data: str, folder: Path, copies: int) -> Manifest:
    """So many copies of each video, as files of their own."""
    manifest = read_manifest(data)
    samples = []
    for copy in range(copies):
        for n, sample in enumerate(manifest.samples):
            assert isinstance(sample.path, Path)
            target = folder / f"{copy}" / f"{n}{sample.path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copyfile(sample.path, target)
            samples.append(Sample(target, sample.label, where=str(target)))
    return Manifest(samples, manifest.class_names, (), data, manifest.sha256)


def forget(folder: Path) -> None:
    """Drop what the system keeps of these files in memory."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def read_all(manifest: Manifest, order: np.ndarray) -> int:
    """The bytes of each video."""
    total = 0
    for n in order:
        place = manifest.samples[int(n)].path
        total += len(place.read_bytes() if isinstance(place, Path) else member_bytes(place))
    return total


def clips(manifest: Manifest, order: np.ndarray) -> int:
    """A training clip of each video."""
    dataset = VideoDataset(
        manifest, frames=8, size=112, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), train=True, flip=True
    )
    return sum(1 for n in order if not isinstance(dataset[int(n)], BadFile))


def large_index(folder: Path, rows: int) -> dict[str, float]:
    """Seconds to read an index of so many rows, and MiB that it keeps."""
    folder.mkdir(parents=True, exist_ok=True)
    n, rng = np.arange(rows), np.random.default_rng(0)
    names = pc.binary_join_element_wise(pc.utf8_lpad(pa.array(n).cast(pa.string()), 8, "0"), "mp4", ".")
    columns = {
        "shard": n // 5000, "member": names, "offset": 512 + (n % 5000) * 204_800, "size": rng.integers(50_000, 200_000, rows),
        "label": rng.integers(0, 400, rows), "start_seconds": pa.nulls(rows), "end_seconds": pa.nulls(rows), "source": names,
        "sha256": pa.nulls(rows),
    }  # fmt: skip
    shards = [{"name": f"shard-{k:06d}.tar", "size": 2**31, "sha256": "0" * 64} for k in range(-(-rows // 5000))]
    with open(folder / INDEX, "wb") as file:
        write_index(file, columns, shards, ClassTable(tuple(f"class {k}" for k in range(400))))  # type: ignore[arg-type]
    program = (
        "import sys, time\nfrom m2clip.data.manifest import read_manifest\n"
        "def mib(): return int(open('/proc/self/statm').read().split()[1]) / 256\n"
        "before, started = mib(), time.perf_counter()\nmanifest = read_manifest(sys.argv[1])\n"
        "print(time.perf_counter() - started, mib() - before)"
    )
    command = [sys.executable, "-c", program, str(folder / INDEX)]
    seconds, mib = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    size = (folder / INDEX).stat().st_size / 2**20
    return {"rows": rows, "index_mib": round(size, 1), "read_seconds": round(seconds, 1), "kept_mib": round(mib)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=100, help="clips of a round")
    parser.add_argument("--rows", type=int, help="rows of an index, which alone is measured then")
    options = parser.parse_args()
    if options.rows:
        print(json.dumps(large_index(options.folder, options.rows), indent=2))
        return
    torch.set_num_threads(1)
    files = copied(options.data, options.folder / "files", options.copies)
    out = options.folder / "shards"
    started = time.perf_counter()
    if not out.exists():
        write_shards(files, out, base=options.folder / "files", shard_bytes=64 << 20)
    packing_seconds = time.perf_counter() - started
    found = read_shards(out)
    shards = Manifest(found.samples, found.classes.names, (), str(out), found.sha256)
    rng = np.random.default_rng(0)
    measured: dict[str, list[tuple[float, float]]] = {"bytes_from_disk": [], "bytes_from_memory": [], "clips": []}
    for _ in range(options.rounds):
        order = rng.permutation(len(files.samples))
        cases: list[tuple[str, Callable[[Manifest, np.ndarray], int], np.ndarray]] = [
            ("bytes_from_disk", read_all, order),
            ("bytes_from_memory", read_all, order),
            ("clips", clips, order[: options.clips]),
        ]
        for name, work, chosen in cases:
            seconds, results = [], []
            for manifest, folder in ((files, options.folder / "files"), (shards, out)):
                if name == "bytes_from_disk":
                    forget(folder)
                started = time.perf_counter()
                results.append(work(manifest, chosen))
                seconds.append(time.perf_counter() - started)
            assert results[0] == results[1]
            measured[name].append((seconds[0], seconds[1]))
    size = sum(path.stat().st_size for path in out.glob("*.tar"))
    document = {
        "videos": len(files.samples),
        "mib": round(size / 2**20, 1),
        "shards": len(found.samples.places.shards),  # type: ignore[attr-defined]
        "packing_seconds": round(packing_seconds, 2),
        "load_average": round(os.getloadavg()[0], 1),
        "cores": len(os.sched_getaffinity(0)),
        **{
            name: {
                "files_seconds": round(statistics.median(row[0] for row in rows), 3),
                "shards_seconds": round(statistics.median(row[1] for row in rows), 3),
                "files_over_shards": round(statistics.median(row[0] / row[1] for row in rows), 2),
            }
            for name, rows in measured.items()
        },
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()

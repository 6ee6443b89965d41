"""Memory of a loader after each epoch: `python benchmarks/memory.py FOLDER [--files 200] [--epochs 5] [--workers 2]`.

Reads videos of a folder, taken evenly from all that lie in it, broken ones too, as training does. Prints JSON: megabytes of the
main process and of each worker after each epoch, resident (with what they share) and of their own. Linux only.
"""

import argparse
import json
import multiprocessing
import os
from pathlib import Path

from m2clip.data.dataset import VideoDataset
from m2clip.data.loading import make_loader
from m2clip.data.manifest import Manifest, Sample

SUFFIXES = {".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"}


def megabytes(pid: int) -> dict[str, float]:
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    sizes = {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines}
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"resident": round(sizes["Rss"], 1), "own": round(own, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = sorted(path for path in options.folder.rglob("*") if path.suffix in SUFFIXES)
    count = min(options.files, len(found))
    paths = [found[number * len(found) // count] for number in range(count)]
    samples = tuple(Sample(path, 0, where=str(path)) for path in paths)
    manifest = Manifest(samples, ("any",), (), str(options.folder), "0" * 64)
    dataset = VideoDataset(manifest, frames=8, size=224, mean=(0.5,) * 3, std=(0.25,) * 3, train=True)
    epochs = []
    with make_loader(dataset, batch_size=8, workers=options.workers, shuffle=True) as loader:
        for epoch in range(options.epochs):
            dataset.set_epoch(epoch)
            read = bad = damaged = 0
            for batch in loader:
                read, bad, damaged = read + len(batch.labels), bad + len(batch.bad), damaged + len(batch.damaged)
            workers = sorted(child.pid or 0 for child in multiprocessing.active_children())
            memory = {"main": megabytes(os.getpid())}
            memory |= {f"worker {number + 1}": megabytes(pid) for number, pid in enumerate(workers)}
            epochs.append({"epoch": epoch + 1, "read": read, "bad": bad, "damaged": damaged, "megabytes": memory})
    print(json.dumps({"files": count, "workers": options.workers, "epochs": epochs}, indent=2))


if __name__ == "__main__":
    main()

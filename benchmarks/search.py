"""Time search: `python benchmarks/search.py [--rows 1_000_000]` writes docs/results/search.json and the table of the page.

Unit vectors are drawn around random centres, a hundred a centre, each about 45 degrees from its own; a query is 30 degrees or so
from one of them. They are written as `m2clip embed` writes them and indexed by what `m2clip index` calls, in a temporary folder
(about 7 KB a row while it runs). A search is `VideoIndex.search` for ten videos, as the command, the server and the page call it;
recall is the share of the exact ten that it finds. On two threads, each asks its own half of the queries at the same time.
`--compare` builds other approximate indexes over the same rows, too.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from speed.markdown import put_between

from m2clip.bulk.vector_table import VectorRow, table_of, table_schema
from m2clip.search import SourceModel, VideoIndex, video_index
from m2clip.search.building import build_index
from m2clip.study.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/search.json"
PAGE = ROOT / "docs/search.md"
BEGIN, END = "<!-- begin search -->", "<!-- end search -->"
DIM, TOP, A_CENTRE = 512, 10, 100
NAMES = {
    "all": "all compared",
    "RaBitQ": "approximate (RaBitQ)",
    "PQ": "approximate (PQ)",
    "HNSW": "approximate (HNSW)",
}


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def around(centres: NDArray[np.float32], spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """One unit vector near each centre; `spread` is the tangent of the usual angle."""
    noise = rng.standard_normal(centres.shape, dtype=np.float32) * np.float32(spread / np.sqrt(DIM))
    return unit(centres + noise)


def make(path: Path, rows: int, queries: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Write a table of embeddings; returns queries [Q, D] and the rows of the exact ten of each, [Q, 10]."""
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((max(1, rows // A_CENTRE), DIM), dtype=np.float32))
    asked = around(around(centres[rng.integers(len(centres), size=queries)], 1.0, rng), 0.6, rng)
    source = SourceModel(model_id="made", checkpoint="made", dim=DIM, strength=1, precision="fp32", frames=8)
    best = np.zeros((queries, 0), np.int64)
    scores = np.zeros((queries, 0), np.float32)
    with pq.ParquetWriter(path, table_schema(source), use_dictionary=["model_id"]) as writer:
        for start in range(0, rows, 20_000):
            numbers = np.arange(start, min(start + 20_000, rows))
            vectors = around(centres[rng.integers(len(centres), size=len(numbers))], 1.0, rng)
            writer.write_table(
                table_of(
                    [
                        VectorRow(f"/videos/{n:08d}.mp4", None, None, 10**6, 10**18, 10.0, 0, vector)
                        for n, vector in zip(numbers.tolist(), vectors, strict=True)
                    ],
                    source,
                )
            )
            scores = np.concatenate([scores, asked @ vectors.T], axis=1)
            best = np.concatenate([best, np.broadcast_to(numbers, (queries, len(numbers)))], axis=1)
            order = np.argsort(-scores, axis=1)[:, :TOP]
            scores, best = np.take_along_axis(scores, order, 1), np.take_along_axis(best, order, 1)
    return asked, best


def ask(index: VideoIndex, queries: NDArray[np.float32], best: NDArray[np.int64], threads: int) -> dict[str, Any]:
    """Milliseconds of single searches, and how many of the exact ten they found."""
    took: list[float] = []
    hits: list[int] = []

    def run(first: int) -> None:
        for query, exact in zip(queries[first::threads], best[first::threads], strict=True):
            start = time.perf_counter()
            found = index.search(query, TOP)
            took.append(1e3 * (time.perf_counter() - start))
            hits.append(len({int(Path(one.path).stem) for one in found} & set(exact.tolist())))

    began, worked = time.perf_counter(), time.process_time()
    running = [threading.Thread(target=run, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {
        "p50_ms": round(statistics.median(took), 1),
        "p99_ms": round(float(np.percentile(took, 99)), 1),
        "searches_a_second": round(len(took) / (time.perf_counter() - began), 1),
        "processor_ms_a_search": round(1e3 * (time.process_time() - worked) / len(took), 1),
        "recall_at_10": round(sum(hits) / (TOP * len(hits)), 4),
    }


def size_mb(folder: Path) -> int:
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)


def measure(folder: Path, rows: int, queries: int, ways: list[str]) -> list[dict[str, Any]]:
    """One table, indexed in several ways, each with a fresh index, which is gone afterwards."""
    table = folder / "vectors.parquet"
    asked, best = make(table, rows, queries)
    results = []
    for way in ways:
        place = folder / "index"
        start = time.perf_counter()
        build_index([table], place, approximate_from=1 if way == "RaBitQ" else rows + 1)
        if way in ("PQ", "HNSW"):
            make_other(place, way, rows)
        build = time.perf_counter() - start
        index = VideoIndex.open(place)
        start = time.perf_counter()
        index.search(asked[0], TOP)
        first = time.perf_counter() - start
        one = {"rows": rows, "way": way, "build_seconds": round(build, 1), "disk_mb": size_mb(place)}
        one |= {"first_search_ms": round(1e3 * first, 1)}
        results.append({**one, "threads": {str(n): ask(index, asked, best, n) for n in (1, 2)}})
        print(json.dumps(results[-1]), flush=True)
        del index
        shutil.rmtree(place)
    table.unlink()
    return results


def make_other(place: Path, way: str, rows: int) -> None:
    from lancedb.index import HnswSq, IvfPq

    table = video_index.connected(place).open_table(video_index.TABLE)
    config: Any = IvfPq(distance_type="cosine", num_partitions=max(1, rows // 4096), num_sub_vectors=DIM // 8)
    if way == "HNSW":
        config = HnswSq(distance_type="cosine", num_partitions=max(1, rows // 100_000))
    table.create_index("vector", config=config, replace=True)


def table(document: dict[str, Any]) -> str:
    """The figures as the page has them."""
    lines = [
        "| embeddings | way | index made in, s | on disk, MB | first search, ms | p50 / p99, ms | two threads: p50 / p99, ms | "
        "searches a second | of processor a search, ms | recall@10 |",
        "| --: | :-- |" + " --: |" * 8,
    ]
    for one in document["measured"]:
        alone, two = one["threads"]["1"], one["threads"]["2"]
        lines.append(
            f"| {one['rows']:,} | {NAMES[one['way']]} | {one['build_seconds']:,} | {one['disk_mb']:,} | "
            f"{one['first_search_ms']:,} | {alone['p50_ms']:,} / {alone['p99_ms']:,} | {two['p50_ms']:,} / {two['p99_ms']:,} | "
            f"{two['searches_a_second']:,} | {alone['processor_ms_a_search']:,} | {alone['recall_at_10']:.3f} |"
        )
    host = document["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"Vectors of {DIM} numbers, {document['queries']} queries for {TOP} videos each, on {host['processor']}, {host['cores']} "
            f"cores, LanceDB {host['lancedb']}; {document['note']}.",
            f"Made by `{document['command']}`.",
        ]
    )


def main() -> None:
    import lancedb

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--compare", action="store_true", help="other approximate indexes of a tenth of the rows, too")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    options = parser.parse_args()
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        measured += measure(folder, max(1, options.rows // 100), options.queries, ["all"])
        others = ["PQ", "HNSW"] if options.compare else []
        measured += measure(folder, max(1, options.rows // 10), options.queries, ["all", "RaBitQ", *others])
        measured += measure(folder, options.rows, options.queries, ["RaBitQ"])
    document = {
        "command": f"python benchmarks/search.py --rows {options.rows} --queries {options.queries}"
        + (" --compare" if options.compare else ""),
        "machine": {**machine(), "lancedb": lancedb.__version__},
        "note": options.note,
        "queries": options.queries,
        "measured": measured,
    }
    RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    PAGE.write_text(put_between(PAGE.read_text("utf-8"), BEGIN, END, table(document)), "utf-8")


if __name__ == "__main__":
    main()

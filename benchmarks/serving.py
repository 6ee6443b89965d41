"""Load a server: `python benchmarks/serving.py [--videos FOLDER] [--minutes 20]` writes docs/results/serving.json and its page's table.

A server is started (`m2clip serve`), asked by one client after another for a while, then by eight clients at once: good and bad
files, files and lists that are too large, and clients that leave in the middle. What each upload should be answered is known
beforehand: a video is good if this process can read it. Every ten seconds the memory of the server and of its processes is read
(PSS: pages that several share are counted once). Without --videos, small ones are made. Linux only.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from serving_load.answers import Answers
from serving_load.server import Server
from serving_load.uploads import MOST_MB, Upload, make_videos, uploads_of
from speed.markdown import put_between

from m2clip.study.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/serving.json"
PAGE = ROOT / "docs/serving.md"
BEGIN, END = "<!-- begin load -->", "<!-- end load -->"
CLIENTS = 8
PACKAGES = ("torch", "av", "fastapi", "uvicorn", "starlette")


def load(
    server: Server, good: Sequence[Upload], bad: Sequence[Upload], *, clients: int, seconds: float
) -> tuple[Answers, list[Any]]:
    """Ask for so long; also the memory while it lasts, [seconds, megabytes...]."""
    answers, memory = Answers(), []
    began = time.perf_counter()

    def client(number: int) -> None:
        rng = random.Random(number)
        while time.perf_counter() - began < seconds:
            upload = rng.choice(good if not bad or rng.random() < 0.7 else bad)
            started = time.perf_counter()
            got, words = server.ask(upload)
            answers.add(upload, got, time.perf_counter() - started, words)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append({"seconds": round(time.perf_counter() - began, 1), **server.memory()})
        time.sleep(min(10.0, seconds / 20))
    return answers, memory


def slope(memory: Sequence[dict[str, float]], name: str) -> float:
    """Megabytes a minute over the second half, by least squares."""
    half = memory[len(memory) // 2 :]
    if len(half) < 2:
        return 0.0
    return round(float(np.polyfit([one["seconds"] / 60 for one in half], [one[name] for one in half], 1)[0]), 2)


def table(document: dict[str, Any]) -> str:
    """The figures as the page has them."""
    alone, together, memory = document["one_client"], document["load"], document["memory"]
    rows = [
        f"| | one client after another | {document['settings']['clients']} clients at once |",
        "| :-- | --: | --: |",
        f"| minutes | {alone['minutes']:.1f} | {together['minutes']:.1f} |",
        f"| requests | {alone['requests']:,} | {together['requests']:,} |",
        f"| good ones a second | {alone['good_per_second']} | {together['good_per_second']} |",
        f"| half of the good ones within, s | {alone['good_p50_seconds']} | {together['good_p50_seconds']} |",
        f"| 99 % of the good ones within, s | {alone['good_p99_seconds']} | {together['good_p99_seconds']} |",
        f"| not answered as they should be | {alone['not_as_expected']} | {together['not_as_expected']} |",
        "",
        "| uploads under load | status: requests | p50, s | p99, s |",
        "| :-- | :-- | --: | --: |",
    ]
    for kind, found in together["kinds"].items():
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(found["statuses"].items()))
        rows.append(f"| {kind} | {statuses} | {found['p50_seconds']} | {found['p99_seconds']} |")
    course = memory["course"]
    own = [one["server_own_mb"] for one in course if one["seconds"] >= 60] or [course[-1]["server_own_mb"]]
    rows += [
        "",
        f"Memory of the server and its processes: {memory['first_mb']:,} MB at the start of the load, {memory['last_mb']:,} MB at its end, "
        f"{memory['most_mb']:,} MB at most; over the second half it changed by {memory['slope_mb_per_minute']} MB a minute "
        f"(decoders come and go). Of the server alone: {own[0]:,} MB a minute after the start, {own[-1]:,} MB at the end. "
        f"Clips that went through the model together: {document['clips_per_batch']} in the mean. Up after {document['start_seconds']} s, "
        f"stopped within {document['stop']['stop_seconds']} s.",
        f"{document['videos']} videos, model {document['settings']['checkpoint']}, on {document['machine']['processor']}, "
        f"{document['machine']['cores']} cores, which the clients share with the server; {document['note']}. "
        f"Regenerate: `{document['command']}`.",
    ]
    return "\n".join(rows)


def measure(checkpoint: str, videos: Path | None, *, minutes: float, clients: int = CLIENTS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if videos is None:
            videos = folder / "videos"
            videos.mkdir()
            make_videos(videos)
        good, bad = uploads_of(videos)
        (folder / "server").mkdir()
        server = Server(checkpoint, folder / "server")
        try:
            single = min(60.0, minutes * 12)
            load(server, good, [], clients=1, seconds=single / 4)  # the first requests pay for what is made once
            alone, _ = load(server, good, [], clients=1, seconds=single)
            before = server.counts()
            together, memory = load(server, good, bad, clients=clients, seconds=minutes * 60)
            after = server.counts()
        finally:
            stopped = server.stop()
    clips, batches = (
        after[f"m2clip_batch_clips_{name}"] - before[f"m2clip_batch_clips_{name}"] for name in ("sum", "count")
    )
    return {
        "machine": {**machine(), **{name: version(name) for name in PACKAGES}},
        "settings": {"checkpoint": Path(checkpoint).stem, "clients": clients, "most_mb": MOST_MB, "share_of_bad": 0.3},
        "videos": len({upload.content for upload in good}),
        "start_seconds": round(server.start_seconds, 1),
        "one_client": alone.document(single / 60),
        "load": together.document(minutes),
        "clips_per_batch": round(clips / max(batches, 1), 2),
        "decoders_lost": after["m2clip_decoders_lost"],
        "memory": {
            "first_mb": memory[0]["all_mb"],
            "last_mb": memory[-1]["all_mb"],
            "most_mb": max(one["all_mb"] for one in memory),
            "slope_mb_per_minute": slope(memory, "all_mb"),
            "server_own_slope_mb_per_minute": slope(memory, "server_own_mb"),
            "most_threads": max(one["threads"] for one in memory),
            "median_mb": statistics.median(one["all_mb"] for one in memory),
            "course": memory,
        },
        "stop": stopped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder with videos, read to any depth")
    parser.add_argument("--checkpoint", default="builtin")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=RESULT, help="another file leaves the page as it is")
    options = parser.parse_args()
    given = " --videos FOLDER" if options.videos else ""
    document = {
        "command": f"python benchmarks/serving.py{given} --minutes {options.minutes:g}",
        "note": options.note,
        **measure(options.checkpoint, options.videos, minutes=options.minutes),
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if options.out == RESULT:
        PAGE.write_text(put_between(PAGE.read_text("utf-8"), BEGIN, END, table(document)), "utf-8")
    print(table(document))


if __name__ == "__main__":
    main()

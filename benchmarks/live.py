"""Time live recognition: `python benchmarks/live.py [--seconds 30] [--windows 10]` writes docs/results/live.json and the page's tables.

A server in a process of its own sends 25 pictures a second (320x240, H.264 in MPEG-TS over HTTP on this machine) and notes when it
sent each. `recognize_live` reads it with the default windows (8 frames over 2 s, one every second). Latency is counted twice: from
when the newest picture of a window had arrived, which is what the program shows, and from when it was sent. Models have random
weights: the sizes of the demo's, and of ViT-B/16. The second table compares, in turn in one process, the two ways to read a window:
encoding its new frames and its unfinished end, or all of it as a clip.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from speed.markdown import put_between

from m2clip.checkpoint import create
from m2clip.data.live import LiveLimits
from m2clip.live import LiveWindow, recognize_live, window_frames
from m2clip.model.frame_stream import FrameStream
from m2clip.model.video_clip import VideoCLIP
from m2clip.recognizer import Recognizer
from m2clip.study.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/live.json"
PAGE = ROOT / "docs/live.md"
LATENCY = "<!-- begin latency -->", "<!-- end latency -->"
COST = "<!-- begin cost -->", "<!-- end cost -->"
RATE = 25
FEWEST_WINDOWS, MOST_TIMES = (
    10,
    6,
)  # a slow model is measured until it has so many, but no longer than so many times the seconds
MODELS = {"builtin": "the demo's (4 blocks, 64 pixels)", "ViT-B-16": "ViT-B/16 (12 blocks, 224 pixels)"}
LABELS = ["walking", "running", "jumping", "waving", "sitting down"]


def pictures(count: int) -> list[bytes]:
    """MPEG-TS, cut behind each picture."""
    content, cuts = io.BytesIO(), []
    with av.open(content, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"g": "25", "tune": "zerolatency", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for n in range(count):
            pixels = np.full((240, 320, 3), 60, np.uint8)
            pixels[80:160, 4 * n % 240 : 4 * n % 240 + 80] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            cuts.append(content.tell())
        container.mux(stream.encode())
    data = content.getvalue()
    return [data[start:stop] for start, stop in zip([0, *cuts[:-1]], [*cuts[:-1], len(data)], strict=True)]


def serve(count: int, to: Connection) -> None:
    """Answer one request, a picture every 40 ms; tell the port first, and at the end when each picture was sent."""
    parts = pictures(count)
    sent: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            start = time.monotonic()
            with contextlib.suppress(OSError):  # whoever asked has gone
                for n, part in enumerate(parts):
                    time.sleep(max(0.0, start + n / RATE - time.monotonic()))
                    sent.append(time.monotonic())
                    self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        to.send(server.server_port)
        server.handle_request()
    to.send(sent)


def latency(backbone: str, seconds: float, fewest_windows: int) -> dict[str, Any]:
    """Live recognition for so long, or longer where windows are few."""
    torch.manual_seed(0)
    recognizer = Recognizer(random_model(backbone))
    rate_fps, frames = window_frames(recognizer, 2.0, 1.0)
    recognizer.encode(torch.zeros(1, frames, 3, *2 * [recognizer.model.info.image_size], dtype=torch.uint8))  # warm
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(round((MOST_TIMES * seconds + 5) * RATE), there)
    )
    process.start()
    port = here.recv()
    found: list[tuple[LiveWindow, float]] = []
    limits = LiveLimits(stall_seconds=5)
    address = f"http://127.0.0.1:{port}/live"
    start = time.monotonic()
    for window in recognize_live(recognizer, address, LABELS, for_seconds=MOST_TIMES * seconds, limits=limits):
        found.append((window, time.monotonic()))
        if len(found) >= fewest_windows and time.monotonic() - start > seconds:
            break
    sent = here.recv()
    process.join()
    from_sending = []
    for window, done in found:
        moment = window.end_seconds - 0.5 / rate_fps
        from_sending.append(done - sent[int(moment * RATE + 1e-6)])
    came = (found[-1][1] - sent[0]) * rate_fps
    return {
        "model": MODELS[backbone],
        "windows": len(found),
        "seconds_between_windows": round(statistics.median(np.diff([done for _, done in found]).tolist()), 2),
        "latency_seconds": percentiles([window.latency_seconds for window, _ in found]),
        "from_sending_seconds": percentiles(from_sending),
        "dropped_share": round(found[-1][0].dropped_frames / came, 3),
    }


def random_model(backbone: str) -> VideoCLIP:
    """All adapters run, as trained ones do."""
    from m2clip.config import BACKBONES

    return create(BACKBONES[backbone]).eval()


def percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 3) for p in (50, 95)}


def cost(backbone: str, frames: int, rounds: int) -> dict[str, Any]:
    """A window of so many frames, four of them new."""
    model = random_model(backbone)
    size = model.info.image_size
    new, clip = torch.randn(4, 3, size, size), torch.randn(1, frames, 3, size, size)
    stream = FrameStream(model)
    stream.push(torch.randn(16, 3, size, size))
    seconds: dict[str, list[float]] = {"new_frames": [], "end": [], "clip": []}

    def alone() -> None:
        with torch.inference_mode():
            model.encode_video(clip)

    for _ in range(rounds):
        for name, call in (("new_frames", lambda: stream.push(new)), ("end", stream.peek), ("clip", alone)):
            seconds[name].append(timed(call))
    medians = {f"{name}_seconds": round(statistics.median(took), 4) for name, took in seconds.items()}
    ratios = [(a + b) / c for a, b, c in zip(*seconds.values(), strict=True)]
    return {"model": MODELS[backbone], "frames": frames, **medians, "ratio": round(statistics.median(ratios), 2)}


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def latency_table(document: dict[str, Any]) -> str:
    rows = [
        "| model | windows | one every | latency shown: half, 95 % | from sending: half, 95 % | frames dropped |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for one in document["latency"]:
        shown, sent = one["latency_seconds"], one["from_sending_seconds"]
        rows.append(
            f"| {one['model']} | {one['windows']} | {one['seconds_between_windows']:.2f} s | {shown['p50']:.2f}, {shown['p95']:.2f} s "
            f"| {sent['p50']:.2f}, {sent['p95']:.2f} s | {one['dropped_share']:.0%} |"
        )
    about = document["machine"]
    rows += [
        "",
        f"{about['processor']}, {about['threads']} threads, PyTorch {about['torch']}; {document['note']}.",
    ]
    return "\n".join(rows)


def cost_table(document: dict[str, Any]) -> str:
    rows = [
        "| model | frames of a window | 4 new frames | its end | as a clip | ratio |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for one in document["cost"]:
        rows.append(
            f"| {one['model']} | {one['frames']} | {one['new_frames_seconds']:.3f} s | {one['end_seconds']:.3f} s "
            f"| {one['clip_seconds']:.3f} s | {one['ratio']:.2f} |"
        )
    return "\n".join(rows)


def with_tables(page: str, document: dict[str, Any]) -> str:
    """The page with the tables of this measurement."""
    for (begin, end), table in ((LATENCY, latency_table(document)), (COST, cost_table(document))):
        page = put_between(page, begin, end, table)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each model's source")
    parser.add_argument(
        "--windows", type=int, default=10, help="of each model, at least: a slow one takes longer for them"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    options = parser.parse_args()
    document = {
        "command": f"python benchmarks/live.py --seconds {options.seconds:g} --windows {options.windows} --rounds {options.rounds}",
        "machine": {**machine(), "pyav": av.__version__},
        "note": options.note,
        "latency": [latency(backbone, options.seconds, options.windows) for backbone in MODELS],
        "cost": [cost(backbone, frames, options.rounds) for backbone in MODELS for frames in (8, 16, 40)],
    }
    RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), document), "utf-8")


if __name__ == "__main__":
    main()

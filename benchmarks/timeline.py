"""Measure timelines: `python benchmarks/timeline.py --demo FOLDER --video FILE` writes docs/results/timeline.json and the page's tables.

FOLDER is what `m2clip demo --out FOLDER` left (its trained model and test videos), FILE any real video. Measured are how far
frames that are encoded piece by piece differ from one pass, what a timeline costs beside windows that are encoded alone (in turn, in one
process; medians of the ratios within a round), the memory that a long video takes, and how well the windows recognise.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from speed.markdown import put_between
from speed.timing import PeakMemory, Timings, alternate, environment
from speed.videos import make_video

from m2clip import Recognizer, create
from m2clip.data.manifest import read_manifest
from m2clip.data.steady_frames import SteadyReader
from m2clip.data.timeline_reader import TimelineReader, WindowClips, WindowedFrames
from m2clip.data.transforms import PixelStatistics
from m2clip.data.video import Video
from m2clip.model.frame_stream import FrameStream
from m2clip.model.video_clip import VideoCLIP
from m2clip.video_scores import Classes

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/timeline.json"
PAGE = ROOT / "docs/timeline.md"
TABLES = ("exactness", "cost", "memory", "recognition")
WINDOW_SECONDS = 2.0
OVERLAPS = {"50 %": 1.0, "75 %": 0.5, "87.5 %": 0.25}
"""Step in seconds for each."""
LABELS = [f"action {number}" for number in range(20)]
CLIPS_A_VIDEO = 20

Chunks = Sequence[WindowedFrames | WindowClips]


def moved_vit(layers: int = 12) -> VideoCLIP:
    """A model of the size of ViT-B/16 with random weights, none of whose adapters is where it starts."""
    from m2clip.config import BACKBONES

    torch.manual_seed(0)
    sizes = BACKBONES["ViT-B-16"].model_copy(update={"vision_layers": layers, "text_layers": 1})
    model = create(sizes, class_names=LABELS).eval()
    with torch.no_grad():
        for name, parameter in model.trained_parameters().items():
            if name.startswith("vision_adapters"):
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def exactness(model: VideoCLIP, video: Path, *, frames: int) -> dict[str, Any]:
    """The largest difference of what a stream gives in uneven pieces from one pass over all frames, and the largest value."""
    reader = SteadyReader(8, model.info.image_size, frames)
    with Video(video) as opened:
        pixels = next(reader.read(opened)).pixels
    clip = PixelStatistics(model.info.sizes.mean, model.info.sizes.std).normalize(pixels)
    with torch.inference_mode():
        (embeddings,), (tokens,) = model.encode_frames(clip[None])
    stream = FrameStream(model)
    sizes = [size for _ in range(len(clip)) for size in (1, 7, 4, 12)]
    ends = np.minimum(np.cumsum(sizes), len(clip))
    parts = [
        *(stream.push(clip[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True) if b > a),
        stream.finish(),
    ]
    return {
        "frames": len(clip),
        "delay_frames": stream.delay_frames,
        "embeddings": float((torch.cat([part.embeddings for part in parts]) - embeddings).abs().max()),
        "embeddings_largest": float(embeddings.abs().max()),
        "class_tokens": float((torch.cat([part.class_tokens for part in parts]) - tokens).abs().max()),
        "class_tokens_largest": float(tokens.abs().max()),
    }


def read(reader: TimelineReader, video: Path) -> Chunks:
    with Video(video) as opened:
        return list(reader.read(opened))


def encoded_frames(chunks: Chunks) -> int:
    """Frames that go through the tower."""
    return sum(
        len(chunk.frames.pixels) if isinstance(chunk, WindowedFrames) else chunk.clips.pixels[..., 0, 0, 0].numel()
        for chunk in chunks
    )


def windows_of(recognizer: Recognizer, chunks: Chunks, classes: Classes) -> Callable[[], object]:
    return lambda: list(recognizer.windows(chunks, classes))


def whole(recognizer: Recognizer, reader: TimelineReader, video: Path, classes: Classes) -> Callable[[], object]:
    def run() -> None:
        with Video(video) as opened:
            list(recognizer.windows(reader.read(opened), classes))

    return run


def cost(recognizer: Recognizer, video: Path, *, overlaps: Sequence[str], rounds: int) -> dict[str, Any]:
    """For each overlap: frames encoded, seconds, and the ratio to windows that are encoded alone, with decoding and without."""
    classes = recognizer.prepare(LABELS)
    found: dict[str, Any] = {}
    for name in overlaps:
        shared = recognizer.timeline_reader(WINDOW_SECONDS, OVERLAPS[name])
        alone = replace(shared, alone=True)
        chunks = {"shared": read(shared, video), "alone": read(alone, video)}
        frames = {way: encoded_frames(some) for way, some in chunks.items()}
        cases = {way: windows_of(recognizer, some, classes) for way, some in chunks.items()}
        cases |= {"shared, read": whole(recognizer, shared, video, classes)}
        cases |= {"alone, read": whole(recognizer, alone, video, classes)}
        timings: Timings = alternate(cases, rounds=rounds, warmup=0)
        found[name] = {
            "frames": frames,
            "frames_ratio": round(frames["alone"] / frames["shared"], 2),
            "seconds": {case: round(timings.median(case), 2) for case in cases},
            "encoding_ratio": round(timings.ratio("alone", "shared"), 2),
            "whole_ratio": round(timings.ratio("alone, read", "shared, read"), 2),
        }
    return found


def memory(video: Path) -> dict[str, Any]:
    """The most that a timeline of the builtin model holds beyond what the process held before, in this process."""
    recognizer = Recognizer("builtin", device="cpu")
    classes = recognizer.prepare(LABELS)
    reader = recognizer.timeline_reader(WINDOW_SECONDS, OVERLAPS["75 %"])
    pixels = np.zeros((100, 240, 320, 3), np.uint8)
    with Video(pixels) as opened:  # what is loaded on first use does not count
        list(recognizer.windows(reader.read(opened), classes))
    windows = 0
    with PeakMemory() as peak, Video(video) as opened:
        for _ in recognizer.windows(reader.read(opened), classes):
            windows += 1
    return {"windows": windows, "peak_mib": None if peak.gib is None else round(peak.gib * 1024, 1)}


def joined_videos(demo: Path, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The test clips of the demo, 2 s each, in random order and 20 one behind another, without loss: files and their labels."""
    listed = read_manifest(demo / "data/base/test.csv", classes=demo / "data/base/classes.csv")
    order = np.random.default_rng(0).permutation(len(listed.samples))
    for number in range(len(order) // CLIPS_A_VIDEO):
        path, labels = folder / f"{number}.mkv", []
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=12)
            stream.pix_fmt = "bgr0"
            for place in order[number * CLIPS_A_VIDEO : (number + 1) * CLIPS_A_VIDEO]:
                sample = listed.samples[int(place)]
                labels.append(listed.class_names[sample.label])
                with Video(sample.path) as clip:
                    frames = clip.frames(np.arange(24))
                if not stream.codec_context.is_open:
                    stream.height, stream.width = frames.shape[1:3]
                for picture in frames:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        yield path, labels


def recognition(demo: Path) -> dict[str, Any]:
    """Top-1 of windows that lie in one clip (whole), and of those that lie in it by three quarters, both ways."""
    recognizer = Recognizer(demo / "run/best.safetensors", device="cpu")
    classes = recognizer.prepare()
    right = {way: {"whole": 0, "three quarters": 0} for way in ("shared", "alone")}
    count = {"whole": 0, "three quarters": 0}
    same = 0
    with tempfile.TemporaryDirectory() as temporary:
        for path, labels in joined_videos(demo, Path(temporary)):
            shared = recognizer.timeline_reader(2.0, 0.5)
            found = {}
            for way, reader in (("shared", shared), ("alone", replace(shared, alone=True))):
                with Video(path) as opened:
                    found[way] = list(recognizer.windows(reader.read(opened), classes, 1))
            for ours, theirs in zip(found["shared"], found["alone"], strict=True):
                offset = ours.start_seconds % 2.0
                if offset == 1.0:
                    continue  # half of one clip, half of the next
                kind = "whole" if offset == 0 else "three quarters"
                label = labels[min(int((ours.start_seconds + 1.0) // 2.0), len(labels) - 1)]
                count[kind] += 1
                same += ours.predictions[0].label == theirs.predictions[0].label
                for way, window in (("shared", ours), ("alone", theirs)):
                    right[way][kind] += window.predictions[0].label == label
    return {
        "classes": len(classes.names),
        "reading": classes.reading,
        "windows": count,
        "right": right,
        "top1": {
            way: {kind: round(100 * n / count[kind], 1) for kind, n in some.items()} for way, some in right.items()
        },
        "same_answer": round(100 * same / sum(count.values()), 1),
    }


def tables(document: dict[str, Any]) -> dict[str, str]:
    """The figures as the page has them."""
    rows = [
        "| model | frames | delay, frames | frame embeddings, difference | class tokens |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for name, one in document["exactness"].items():
        rows.append(
            f"| {name} | {one['frames']} | {one['delay_frames']} | {one['embeddings']:.1e} ({one['embeddings_largest']:.1f}) | "
            f"{one['class_tokens']:.1e} ({one['class_tokens_largest']:.1f}) |"
        )
    made = {"exactness": "\n".join(rows)}
    rows = [
        "| model, video | overlap | frames encoded | alone | frames, times less | encoding | with decoding | seconds |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, overlaps in document["cost"].items():
        for overlap, one in overlaps.items():
            rows.append(
                f"| {name} | {overlap} | {one['frames']['shared']:,} | {one['frames']['alone']:,} | {one['frames_ratio']} | "
                f"{one['encoding_ratio']} | {one['whole_ratio']} | {one['seconds']['shared, read']} |"
            )
    machine = document["environment"]["machine"]
    rows += [
        "",
        f"On {machine['processor']}, {machine['threads']} threads, PyTorch {machine['torch']}; {document['note']}.",
    ]
    made["cost"] = "\n".join(rows)
    rows = ["| length of the video | windows | memory at most, MiB |", "| :-- | --: | --: |"]
    rows += [f"| {name} | {one['windows']:,} | {one['peak_mib']} |" for name, one in document["memory"].items()]
    made["memory"] = "\n".join(rows)
    found = document["recognition"]
    rows = ["| windows | number | shared frames, top-1 | alone, top-1 |", "| :-- | --: | --: | --: |"]
    for kind, words in (
        ("whole", "the whole of one action"),
        ("three quarters", "three quarters of one action, a quarter of another"),
    ):
        shared, alone = (found["top1"][way][kind] for way in ("shared", "alone"))
        rows.append(f"| {words} | {found['windows'][kind]} | {shared} % | {alone} % |")
    rows += [
        "",
        f"{found['classes']} classes, reading {found['reading']}; {found['same_answer']} % of the windows get the same answer.",
    ]
    made["recognition"] = "\n".join(rows)
    return made


def with_tables(text: str, document: dict[str, Any]) -> str:
    """The page with the tables of this measurement."""
    for name, table in tables(document).items():
        text = put_between(text, f"<!-- begin {name} -->", f"<!-- end {name} -->", table)
    return text


def measured(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of the document that are asked for."""
    small = options.demo / "run/best.safetensors"
    if "exactness" in options.only:
        trained = Recognizer(small, device="cpu").model
        yield (
            "exactness",
            {
                "trained on MotionShapes (the demo's)": exactness(trained, options.video, frames=64),
                "of ViT-B/16's size, random": exactness(moved_vit(), options.video, frames=options.large_frames),
            },
        )
    if "cost" in options.only:
        minutes = make_video(folder, size=(320, 240), seconds=60 * options.minutes, gop_frames=60)
        recognizer = Recognizer(small, device="cpu")
        yield (
            "cost",
            {
                f"the demo's, {options.minutes} min": cost(
                    recognizer, minutes, overlaps=list(OVERLAPS), rounds=options.rounds
                )
            },
        )
        if options.large_seconds:
            large = make_video(folder, size=(320, 240), seconds=options.large_seconds, gop_frames=60)
            name = f"of ViT-B/16's size, {options.large_seconds} s"
            yield "cost", {name: cost(Recognizer(moved_vit()), large, overlaps=["75 %"], rounds=1)}
    if "memory" in options.only:
        found = {}
        for minutes in (1, 5, 30):
            video = make_video(folder, size=(320, 240), seconds=60 * minutes, gop_frames=60)
            program = [sys.executable, __file__, "--memory-of", str(video)]
            found[f"{minutes} min"] = json.loads(subprocess.run(program, capture_output=True, check=True).stdout)
        yield "memory", found
    if "recognition" in options.only:
        yield "recognition", recognition(options.demo)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="what `m2clip demo --out` left")
    parser.add_argument("--video", type=Path, help="a real video of 8 s or more")
    parser.add_argument("--videos", type=Path, help="where synthetic videos are kept; default: nowhere")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, help="measure these, keep the others")
    parser.add_argument("--minutes", type=int, default=5, help="length of the small model's video")
    parser.add_argument(
        "--large-seconds", type=int, default=60, help="length of the large model's video; 0: do without"
    )
    parser.add_argument(
        "--large-frames", type=int, default=48, help="frames that the large model's exactness is measured on"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(memory(options.memory_of)))
        return
    if options.demo is None or options.video is None:
        parser.error("--demo and --video are needed")
    document = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    document |= {
        "command": f"python benchmarks/timeline.py --demo FOLDER --video FILE --minutes {options.minutes} "
        f"--large-seconds {options.large_seconds} --rounds {options.rounds}",
        "environment": environment(),
        "note": options.note,
    }
    begun: set[str] = set()
    with tempfile.TemporaryDirectory() as temporary:
        for name, part in measured(options, options.videos or Path(temporary)):
            document[name] = document[name] | part if name in begun else part
            begun.add(name)
            print(name, json.dumps(part, indent=2), flush=True)
            RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")  # an interrupted run keeps what it has
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), document), "utf-8")


if __name__ == "__main__":
    main()

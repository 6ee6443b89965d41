"""Time exported models: `python benchmarks/export.py [--rounds 9]` writes docs/results/export.json and the table of the page.

One clip of 8 frames of pixels in memory (uint8, at the model's size) becomes an embedding: by PyTorch in fp32 and in bf16, by the ONNX
file in ONNX Runtime, and by the .pt2 program, in turn in one process, on one thread and on two. A ratio is the median over the rounds
of two neighbours' quotient. Random weights: the time is the same. Five minutes.
"""

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from speed.markdown import put_between
from speed.timing import Case, alternate

from m2clip import Recognizer, create
from m2clip.config import BackboneConfig
from m2clip.export import export_video
from m2clip.export.checking import made_clips
from m2clip.study.measure import machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/export.json"
PAGE = ROOT / "docs/export.md"
BEGIN, END = "<!-- begin export -->", "<!-- end export -->"
FRAMES = 8
THREADS = (1, 2)
MODELS: dict[str, str | BackboneConfig] = {"builtin": "builtin", "ViT-B-16": "ViT-B-16"}
CASES = {
    "fp32": "PyTorch, fp32",
    "bf16": "PyTorch, bf16",
    "onnx": "ONNX Runtime, fp32",
    "pt2": ".pt2 program, fp32",
}


def measure(backbone: str | BackboneConfig, folder: Path, *, rounds: int) -> dict[str, Any]:
    """The file sizes, how far each file is from PyTorch, and by threads the seconds and the ratios to PyTorch in fp32."""
    torch.manual_seed(0)
    plain = Recognizer(create(backbone), frames=FRAMES, device="cpu")
    files = {kind: folder / f"model.{kind}" for kind in ("onnx", "pt2")}
    differences = {
        kind: max(export_video(plain, path)["check"]["largest_difference"].values()) for kind, path in files.items()
    }
    rounded = Recognizer(plain.model, precision="bf16")
    pixels = made_clips(1, FRAMES, plain.model.info.image_size)
    planes = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).contiguous()
    program = torch.export.load(files["pt2"]).module()
    found: dict[str, Any] = {
        "megabytes": {kind: round(path.stat().st_size / 1e6, 1) for kind, path in files.items()},
        "largest_difference": differences,
        "threads": {},
    }
    for threads in THREADS:
        torch.set_num_threads(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(files["onnx"], options, providers=["CPUExecutionProvider"])

        def run_program() -> None:
            with torch.inference_mode():
                program(torch.from_numpy(pixels))

        def run_session(session: onnxruntime.InferenceSession = session) -> None:
            session.run(["embedding"], {"pixels": pixels})

        cases: dict[str, Case] = {
            "fp32": lambda: plain.encode(planes),
            "bf16": lambda: rounded.encode(planes),
            "onnx": run_session,
            "pt2": run_program,
        }
        timings = alternate(cases, rounds=rounds, warmup=2)
        found["threads"][str(threads)] = {
            case: {
                "milliseconds": round(1000 * timings.median(case), 1),
                "ratio": round(timings.ratio(case, "fp32"), 2),
            }
            for case in cases
        }
    return found


def table(document: dict[str, Any]) -> str:
    """The figures as the page has them."""
    rows = [
        "| one clip of 8 frames, ms (times PyTorch's fp32) | " + " | ".join(CASES.values()) + " |",
        "| :-- |" + " --: |" * len(CASES),
    ]
    for model, measured in document["models"].items():
        for threads, cases in measured["threads"].items():
            cells = [f"{cases[case]['milliseconds']:,} ({cases[case]['ratio']:.2f})" for case in CASES]
            plural = "" if threads == "1" else "s"
            rows.append(f"| {model}, {threads} thread{plural} | " + " | ".join(cells) + " |")
    sizes = [
        f"{model} {measured['megabytes']['onnx']:,} MB as ONNX and {measured['megabytes']['pt2']:,} MB as .pt2"
        for model, measured in document["models"].items()
    ]
    worst = max(max(measured["largest_difference"].values()) for measured in document["models"].values())
    used = document["machine"]
    rows += [
        "",
        f"{used['processor']}, {used['cores']} cores, PyTorch {used['torch']}, ONNX Runtime {used['onnxruntime']}; "
        f"{document['note']}.",
        f"Largest difference from PyTorch's fp32: {worst:.0e}. Files: {', '.join(sizes)}.",
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--note", default="nothing else ran", help="what else the machine did")
    options = parser.parse_args()
    document: dict[str, Any] = {
        "command": f"python benchmarks/export.py --rounds {options.rounds}",
        "machine": {**machine(), **{name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}},
        "note": options.note,
        "models": {},
    }
    for name, backbone in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            document["models"][name] = measure(backbone, Path(folder), rounds=options.rounds)
    RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    PAGE.write_text(put_between(PAGE.read_text("utf-8"), BEGIN, END, table(document)), "utf-8")


if __name__ == "__main__":
    main()

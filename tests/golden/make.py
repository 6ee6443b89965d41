"""Make the golden files of one version of the formats, with the code of that version; see README.md beside this file.

Usage: PYTHONPATH=OLD_CHECKOUT/src python tests/golden/make.py OUT METHOD|calibrated|tables|run ...
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

import m2clip
from m2clip.cli import app
from m2clip.config import RunConfig
from m2clip.train import train

CLASSES = ("bouncing", "moving")
SMALL = {
    "m2clip": {"ted_width": 2, "text_adapter_width": 2},
    "st-adapter": {"adapter_width": 2},
    "aim": {"adapter_width": 2},
}
"""Adapters that make a file of some tens of kB."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TOKENS = [[49406, 320, 1455, 539, 9426, 49407], [49406, 320, 1455, 539, 320, 49407]]  # any five words do


def clip(*, frames: int = 4, side: int = 64) -> torch.Tensor:
    """[1, T, 3, H, W]: a picture that arithmetic alone makes, the same with every release of every library."""
    t, h, w, c = np.ogrid[:frames, :side, :side, :3]
    pixels = (7 * h + 11 * w + 29 * t * c + h * w // 16) % 256
    normal = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(normal.astype(np.float32)).permute(0, 3, 1, 2)[None]


def outputs(path: Path) -> dict[str, Any]:
    """What the model of a checkpoint says to `clip()` and `TOKENS`, as plain numbers."""
    model = m2clip.load(path)
    with torch.no_grad():
        video = model.encode_video(clip())
        texts = model.encode_text(torch.tensor(TOKENS)).embedding
    logits = video.visual_logits
    cosines = torch.nn.functional.normalize(video.embedding, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T
    return {
        "cosines": cosines[0].tolist(),
        "embedding": video.embedding[0].tolist(),
        "visual_logits": None if logits is None else logits[0].tolist(),
    }


def write_outputs(path: Path) -> None:
    """Write what the model of a checkpoint says beside it."""
    path.with_suffix(".json").write_text(json.dumps(outputs(path)) + "\n", "utf-8")


def videos(folder: Path) -> Path:
    """Four small videos in two class folders."""
    for number, name in enumerate(CLASSES * 2):
        path = folder / name / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.height = stream.width = 64
            for shift in range(8):
                row = (np.arange(64) + 9 * shift * (number + 1)) % 256
                pixels = np.broadcast_to(row[None, :, None], (64, 64, 3)).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
            container.mux(stream.encode())
    return folder


def settings(out: str, method: str, source: str, *, epochs: int) -> RunConfig:
    """Of a run that ends after some of its two epochs."""
    model: dict[str, Any] = {"backbone": "builtin", **SMALL.get(method, {})}
    if method != "m2clip":
        model["method"] = method
    return RunConfig.model_validate(
        {
            "out": out,
            "data": {"train": source, "frames": 4, "workers": 0},
            "model": model,
            "train": {
                "epochs": 2, "stop_after_epoch": epochs, "warmup_epochs": 1, "batch_size": 2, "lr": 0.01, "precision": "fp32",
            },
        }
    )  # fmt: skip


def checkpoint(out: Path, method: str) -> None:
    """Train and keep the checkpoint, and what it says."""
    train(settings(str(out), method, str(videos(out.parent / "videos")), epochs=1), progress=False)
    write_outputs(out / "last.safetensors")


def run(out: Path) -> None:
    """A run that was left in the middle, and the end of an undisturbed one. Needs `tables` before."""
    os.chdir(out)
    train(settings("run", "linear-probe", "shards", epochs=1), progress=False)
    train(settings("whole", "linear-probe", "shards", epochs=2), progress=False)


def calibrated(checkpoint: Path, out: Path) -> None:
    """A copy that says how its scores are read, and a share of its adapters."""
    from m2clip.checkpoint.record import copy_with, read_record
    from m2clip.model.info import Calibration, texts_sha256

    texts = read_record(checkpoint).info.texts
    temperatures = {"similarity": 2.0, "visual": 0.5, "ensemble": 1.25}
    reading = Calibration(texts_sha256=texts_sha256(texts), temperatures=temperatures, threshold=0.125, strength=0.5)
    copy_with(checkpoint, out, calibration=reading, strength=0.5)
    write_outputs(out)


def tables(out: Path) -> None:
    """What other commands write and read again: shards with their index, and a table of embeddings."""
    videos(out / "videos")
    os.chdir(out)  # the tables hold paths as they were given
    for words in (
        ("data", "shard", "videos", "--out", "shards"),
        ("embed", "videos", "--out", "vectors.parquet", "--frames", "2", "--workers", "0"),
    ):
        app(words, standalone_mode=False)


if __name__ == "__main__":
    torch.manual_seed(0)
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for kind in sys.argv[2:]:
        if kind == "calibrated":
            calibrated(folder / "m2clip/last.safetensors", folder / "calibrated.safetensors")
        elif kind == "tables":
            tables(folder)
        elif kind == "run":
            run(folder)
        else:
            checkpoint(folder / kind, kind)

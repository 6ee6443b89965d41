"""A small good file of every kind that m2clip reads from others."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from m2clip import create
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.vector_table import table_schema
from m2clip.data.classes import ClassTable
from m2clip.data.shards.index import write_index
from m2clip.train.state import TrainingState

NAMES = ("jump", "run, fast", "swim")
ROWS = [(f"videos/{n}.mp4", NAMES[n % 3], float(n), n + 2.5) for n in range(12)]
SIZES = {
    "image_size": 32, "patch_size": 16, "vision_width": 32, "vision_layers": 1, "vision_heads": 1,
    "embed_dim": 16, "text_width": 32, "text_layers": 1, "text_heads": 1, "vocab_size": 64,
}  # fmt: skip


def make_good_files(folder: Path) -> dict[str, Path]:
    """Write one file of each kind below the folder -> kind: file."""
    folder.mkdir(parents=True)
    (folder / "one.txt").write_text("a.mp4 0\n")  # a list to read with the classes
    (folder / "classes.csv").write_text("id,name\n" + "".join(f'{n},"{name}"\n' for n, name in enumerate(NAMES)))
    made: dict[str, Path] = {}
    for kind, (name, write) in _WRITERS.items():
        place = folder / kind.replace(" ", "-")
        place.mkdir()
        write(place / name)
        made[kind] = place / name
    return made


def _weights(path: Path, **options: Any) -> None:
    tensors = {f"visual.block.{n}.weight": torch.zeros(4, n + 1) for n in range(6)}
    torch.save({"epoch": 1, "state_dict": tensors, "note": ["a", {"b": (1.5, None)}]}, path, **options)


def _archive(path: Path) -> None:
    class Tree(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = torch.nn.Linear(3, 2)
            self.register_buffer("input_resolution", torch.tensor(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.save(torch.jit.trace(Tree(), torch.zeros(1)), str(path))


def _state(path: Path) -> None:
    weights = {"a": torch.zeros(3, 2)}
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3, 2)}}, "param_groups": [{"lr": 0.1}]}
    TrainingState(
        1, 2, weights, weights, 1, optimizer, {"epoch": 0}, 0.5, {"train": {"epochs": 3}}, {"train": "0"}
    ).write(path)


def _table(path: Path) -> None:
    columns = zip(*ROWS, strict=True)
    pq.write_table(
        pa.table(dict(zip(("path", "label", "start_seconds", "end_seconds"), map(list, columns), strict=True))), path
    )


def _csv() -> bytes:
    lines = [f'{path},"{label}",{start},{end}\n' for path, label, start, end in ROWS]
    return ("path,label,start_seconds,end_seconds\n" + "".join(lines)).encode()


def _json() -> bytes:
    return json.dumps(
        [{"path": p, "label": label, "start_seconds": s, "end_seconds": e} for p, label, s, e in ROWS]
    ).encode()


def _shard(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for n, (_, label, *_) in enumerate(ROWS):
            for suffix, content in (
                ("mp4", b"video" * 20),
                ("json", json.dumps({"label": label, "start_seconds": n}).encode()),
            ):
                info = tarfile.TarInfo(f"{n:04d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _index(path: Path) -> None:
    count = len(ROWS)
    columns: dict[str, list[Any]] = {
        "shard": [0] * count, "member": [f"{n}.mp4" for n in range(count)], "offset": [512 * (n + 1) for n in range(count)],
        "size": [100] * count, "label": [n % 3 for n in range(count)], "start_seconds": [None] * count, "end_seconds": [None] * count,
        "source": ["x"] * count, "sha256": ["0" * 64] * count,
    }  # fmt: skip
    with path.open("wb") as file:
        write_index(file, columns, [{"name": "a.tar", "size": 10240, "sha256": "0" * 64}], ClassTable(NAMES))


def _vectors(path: Path) -> None:
    source = SourceModel(model_id="0" * 64, checkpoint="/x", dim=4, strength=1.0, precision="fp32", frames=8)
    schema = table_schema(source)
    columns: dict[str, Any] = {field.name: [None] * len(ROWS) for field in schema}
    columns |= {
        "path": [row[0] for row in ROWS],
        "model_id": [source.model_id] * len(ROWS),
        "vector": [[0.1, 0.2, 0.3, 0.4]] * len(ROWS),
    }
    pq.write_table(pa.table(columns, schema=schema), path)


def _config(path: Path) -> None:
    path.write_text(
        "out: runs/first\ndata:\n  train: videos/train\n  frames: 4\n  flip: no\nmodel:\n  backbone: builtin\n  ted: both\n"
        "  ted_layers: [0, 1]\nloss:\n  mlm: 0.25\ntrain:\n  epochs: 3\n  batch_size: 8\n  lr: 1e-4\n  seed: 7\n"
    )


def _report(path: Path) -> None:
    run = {
        "command": "evaluate", "settings": {"checkpoint": "best.safetensors", "data": "list.csv", "views": 2}, "folder": "/data",
        "inputs": [{"setting": "data", "path": "list.csv", "sha256": "0" * 64}], "versions": {"torch": "2.6"}, "processes": 1,
        "threads": 1, "seed": 0,
    }  # fmt: skip
    path.write_text(json.dumps({"top1": 0.5, "classes": list(NAMES), "run": run}))


def _video(path: Path, codec: str, pix_fmt: str = "yuv420p") -> None:
    ground = np.mgrid[:48, :64].sum(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for n in range(20):
            picture = np.stack(
                [(ground * 3 + n * 5) % 256, (ground * 2 + n) % 256, (ground + n * 9) % 256], axis=-1
            ).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


_WRITERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "checkpoint": ("model.safetensors", lambda path: create(SIZES, class_names=NAMES, masked_words=False).save(path)),
    "weights of PyTorch": ("weights.pth", _weights),
    "weights before 1.6": ("old.pt", lambda path: _weights(path, _use_new_zipfile_serialization=False)),
    "TorchScript archive": ("script.pt", _archive),
    "training state": ("last.state.pt", _state),
    "list as CSV": ("list.csv", lambda path: path.write_bytes(_csv())),
    "list as lines": (
        "list.txt",
        lambda path: path.write_text("".join(f"{path} {n % 3}\n" for n, (path, *_) in enumerate(ROWS))),
    ),
    "list as JSON": ("list.json", lambda path: path.write_bytes(_json())),
    "list as .csv.gz": ("list.csv.gz", lambda path: path.write_bytes(gzip.compress(_csv()))),
    "list as Parquet": ("list.parquet", _table),
    "class file": (
        "names.csv",
        lambda path: path.write_text("id,name,text_1\n" + "".join(f'{n},"{c}",a\n' for n, c in enumerate(NAMES))),
    ),
    "class file as JSON": (
        "names.json",
        lambda path: path.write_text(json.dumps({name: n for n, name in enumerate(NAMES)})),
    ),
    "texts of classes": (
        "texts.json",
        lambda path: path.write_text(json.dumps({name: [name, "a text"] for name in NAMES})),
    ),
    "shard": ("a.tar", _shard),
    "index of shards": ("shards.parquet", _index),
    "table of embeddings": ("vectors.parquet", _vectors),
    "settings": ("run.yaml", _config),
    "report to run again": ("report.json", _report),
    "video as mp4": ("a.mp4", lambda path: _video(path, "libx264")),
    "video as avi": ("a.avi", lambda path: _video(path, "mpeg4")),
    "video as webm": ("a.webm", lambda path: _video(path, "libvpx-vp9")),
    "video as gif": ("a.gif", lambda path: _video(path, "gif", "rgb8")),
    "video as mjpeg": ("a.mkv", lambda path: _video(path, "mjpeg", "yuvj420p")),
    "array of frames": ("a.npy", lambda path: np.save(path, np.zeros((4, 48, 64, 3), np.uint8))),
}

"""Predict training on many GPUs: `python benchmarks/capacity.py` writes docs/results/capacity.json and the tables of docs/cluster.md.

Measured are the bytes of a step's gradient (from the real configuration), what it costs a core to read a training clip, and how fast one
GPU learns (`benchmarks/gpu.py`). The links between machines are assumptions: this is arithmetic, and no measurement of a cluster.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speed.markdown import number, put_between, table
from speed.timing import environment
from speed.videos import make_video

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs/results/capacity.json"
MEASURED_GPU = ROOT / "docs/results/gpu.json"
PAGE = ROOT / "docs/cluster.md"
GPUS = (1, 8, 16, 32, 64, 128, 256, 512)
LINKS = {"200 Gbit/s": 25e9, "25 Gbit/s": 3.125e9}
"""Bytes a second between machines."""
VIDEOS, BATCH_A_GPU = 240_000, 32
"""Of an epoch, and of a GPU in a step."""
SLOWER_GPU = 50.0
"""Videos/s of a GPU of about a fifth of the measured one's speed; an assumption."""


@dataclass(frozen=True)
class Cluster:
    """Machines and what joins them. Bytes a second are those of one direction."""

    gpus_a_machine: int = 8
    cores_a_gpu: int = 12
    inside_bytes_a_second: float = 200e9
    """Between the GPUs of a machine, for each of them."""
    between_bytes_a_second: float = 25e9
    """Of a machine's link to the others, for all of its GPUs together."""
    latency_seconds: float = 20e-6
    """Of each message in a ring."""

    def machines(self, gpus: int) -> int:
        """How many are needed."""
        return -(-gpus // self.gpus_a_machine)

    def all_reduce_seconds(self, size: float, gpus: int) -> float:
        """Sum `size` bytes over all: a ring in each machine, and one of the machines; each byte passes a link about twice."""
        inside, machines = min(gpus, self.gpus_a_machine), self.machines(gpus)
        return (
            _ring(size, inside, self.inside_bytes_a_second, self.latency_seconds)
            + _ring(size, machines, self.between_bytes_a_second, self.latency_seconds)
        )  # fmt: skip


def _ring(size: float, members: int, bytes_a_second: float, latency: float) -> float:
    """Patarasuk and Yuan 2009, section 4: 2 (n - 1) messages of size / n."""
    return 2 * (members - 1) * (size / members / bytes_a_second + latency)


@dataclass(frozen=True)
class Work:
    """What a step has to do."""

    videos: int
    """Of an epoch."""
    batch_a_gpu: int
    videos_a_second: float
    """Of one GPU by itself, reading left out."""
    gradient_bytes: int
    embed_dim: int
    read_core_seconds: float
    """To decode and cut one training clip."""
    loss_operations_a_second: float = 20e12
    """At which a GPU multiplies the gathered embeddings, in float32."""

    def loss_seconds(self, batch: int) -> float:
        """Each process compares all videos with all texts of the batch, forward and (twice) backward."""
        return 3 * 2 * batch**2 * self.embed_dim / self.loss_operations_a_second


def predict(work: Work, cluster: Cluster, gpus: int) -> dict[str, float]:
    """Seconds of a step and its parts, videos a second, the share of `gpus` times one GPU, and minutes of an epoch.

    Nothing of the exchange hides behind the arithmetic, which is the worse case; reading does, for it is done by other cores.
    """
    batch = gpus * work.batch_a_gpu
    compute = work.batch_a_gpu / work.videos_a_second
    read = work.batch_a_gpu * work.read_core_seconds / cluster.cores_a_gpu
    embeddings = batch * work.embed_dim * 4
    exchange = 0.0
    if gpus > 1:
        # The gradient, and the embeddings: gathered on the way there (half a sum's way), summed on the way back.
        exchange = cluster.all_reduce_seconds(work.gradient_bytes, gpus) + 1.5 * cluster.all_reduce_seconds(
            embeddings, gpus
        )
    loss = work.loss_seconds(batch)
    step = max(compute + exchange + loss, read)
    alone = max(compute + work.loss_seconds(work.batch_a_gpu), read)
    return {
        "step_seconds": step,
        "exchange_seconds": exchange,
        "loss_seconds": loss,
        "videos_a_second": batch / step,
        "efficiency": alone / step,
        "reading_decides": float(read > compute + exchange + loss),
        "epoch_minutes": work.videos / batch * step / 60,
    }


def gradient_bytes(backbone: str = "ViT-B-16", classes: str = "kinetics-400") -> dict[str, int]:
    """Bytes of the trained tensors, which are those of a step's gradient, and of all tensors, of M2-CLIP as it is for these classes."""
    import torch

    from m2clip import create
    from m2clip.config import BACKBONES

    names = (ROOT / f"src/m2clip/protocol/shipped/classes/{classes}.csv").read_text("utf-8").splitlines()[1:]
    with torch.device("meta"):
        model = create(BACKBONES[backbone], class_names=[name.partition(",")[2] for name in names])
    trained = sum(p.numel() * 4 for p in model.trained_parameters().values())  # float32 in any case
    return {
        "trained": trained,
        "all": sum(p.numel() * 4 for p in model.parameters()),
        "embed_dim": model.info.sizes.embed_dim,
    }


def measured_gpu() -> tuple[str, float]:
    """The card of docs/results/gpu.json, and from how many videos it learns in a second where nothing keeps it waiting."""
    document = json.loads(MEASURED_GPU.read_text("utf-8"))
    return document["card"], round(document["training"]["plain"]["videos_a_second"])


def read_core_seconds(*, clips: int) -> float:
    """Of one core, for a training clip of eight frames from ten seconds of video with short sides of 256: the median."""
    from m2clip.data.dataset import VideoDataset
    from m2clip.data.manifest import read_manifest

    with tempfile.TemporaryDirectory() as folder:
        make_video(Path(folder) / "action", size=(340, 256), seconds=10, gop_frames=250)
        dataset = VideoDataset(
            read_manifest(folder), frames=8, size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), train=True, seed=0
        )
        seconds = []
        for epoch in range(clips):
            dataset.set_epoch(epoch)
            started = time.process_time()
            dataset[0]
            seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def measure(*, clips: int) -> dict[str, Any]:
    """All figures of the page."""
    size, read = gradient_bytes(), read_core_seconds(clips=clips)
    card, fast = measured_gpu()
    predictions = []
    for link, between in LINKS.items():
        for speed in (SLOWER_GPU, fast):
            cluster = Cluster(between_bytes_a_second=between)
            work = Work(VIDEOS, BATCH_A_GPU, speed, size["trained"], size["embed_dim"], read)
            for gpus in GPUS:
                predictions.append({"link": link, "speed": speed, "gpus": gpus, **predict(work, cluster, gpus)})
    return {
        "command": "python benchmarks/capacity.py",
        "environment": environment(),
        "gradient": size,
        "read_core_seconds": read,
        "gpu": {"card": card, "videos_a_second": fast},
        "work": {"videos": VIDEOS, "batch_a_gpu": BATCH_A_GPU},
        "cluster": asdict(Cluster()),
        "predictions": predictions,
    }


def tables(document: dict[str, Any]) -> dict[str, str]:
    """What stands between the page's marks."""
    size, cluster, work = document["gradient"], document["cluster"], document["work"]
    machine, gpu = document["environment"]["machine"], document["gpu"]
    speeds = (SLOWER_GPU, gpu["videos_a_second"])
    inputs = [
        ["bytes of a step's gradient: M2-CLIP, ViT-B/16, 400 classes", f"{size['trained'] / 1e6:.1f} MB", "measured"],
        ["all weights of that model", f"{size['all'] / 1e6:.0f} MB", "measured"],
        [
            "a training clip: 8 of 300 frames, 340x256, h264",
            f"{1e3 * document['read_core_seconds']:.0f} ms of a core",
            f"measured on {machine['processor']}",
        ],
        ["videos of an epoch (Kinetics-400)", f"{work['videos']:,}", "assumed"],
        ["videos of a GPU in a step", f"{work['batch_a_gpu']}", "chosen"],
        ["videos/s of a GPU that never waits", f"{gpu['videos_a_second']:.0f}", f"measured on one {gpu['card']}"],
        ["videos/s of a slower GPU", f"{SLOWER_GPU:.0f}", "assumed"],
        ["GPUs and cores of a machine", f"{cluster['gpus_a_machine']}, {cluster['gpus_a_machine'] * cluster['cores_a_gpu']}", "assumed"],
        ["link of a GPU inside a machine", f"{cluster['inside_bytes_a_second'] / 1e9:.0f} GB/s", "assumed"],
        ["link of a machine", " or ".join(LINKS), "assumed"],
        ["latency of a message", f"{1e6 * cluster['latency_seconds']:.0f} µs", "assumed"],
    ]  # fmt: skip
    rows = []
    for gpus in GPUS:
        row = [str(gpus)]
        for speed in speeds:
            for link in LINKS:
                one = next(
                    p for p in document["predictions"] if (p["gpus"], p["speed"], p["link"]) == (gpus, speed, link)
                )
                waits = " (reading)" if one["reading_decides"] else ""
                row.append(f"{100 * one['efficiency']:.0f} %, {number(one['epoch_minutes'])} min{waits}")
        rows.append(row)
    head = ["GPUs", *(f"{speed:.0f} videos/s, {link}" for speed in speeds for link in LINKS)]
    measured = json.loads(MEASURED_GPU.read_text("utf-8"))
    cases = [
        [name, number(case["videos_a_second"]), number(case["with_reading"]), f"{number(case['peak_gib'])} GiB"]
        for name, case in measured["training"].items()
    ]
    return {
        "gpu": table([measured["card"], "videos/s", "with waiting for data", "most memory held"], cases),
        "inputs": table(["what", "value", "from"], inputs),
        "predictions": table(head, rows),
    }


def with_tables(page: str, document: dict[str, Any]) -> str:
    """The page with these tables."""
    for name, made in tables(document).items():
        page = put_between(page, f"<!-- begin {name} -->", f"<!-- end {name} -->", made)
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="how many clips are read")
    options = parser.parse_args(arguments)
    document = measure(clips=options.clips)
    RESULT.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), document), "utf-8")


if __name__ == "__main__":
    main()

"""Several processes: how much faster two of them learn than one, what they exchange, and whether they stay the same to the last bit.

A step is a real one (the loss of the global batch, clipping, AdamW) on random pictures that lie in memory, so that neither files nor
their decoding are measured. Each process has one thread and a batch of the same size, so two of them at best do twice the work.
Runs of one and of two processes take turns; a factor is the median over the rounds.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed.markdown import table

from torturing.ranks import free_port

BENCHMARKS = Path(__file__).resolve().parents[1]
WAYS = {"one": (1, "off"), "DDP": (2, "off"), "FSDP2": (2, "full")}
"""Processes and `train.sharding` of each way."""
LABELS = tuple(f"action {number}" for number in range(10))


def measure(folder: Path, *, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Videos a second of one and two processes, bytes of a step, and whether the processes agree afterwards."""
    rounds, steps = (1, 2) if short else (5, 12)
    found: dict[str, list[list[dict[str, Any]]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way, ranks in _run(folder, steps=steps, seed=seed, short=short).items():
            found[way].append(ranks)
        say(
            f"round {number + 1} of {rounds}: "
            + ", ".join(f"{way} {_rate(found[way][-1]):.1f} videos/s" for way in WAYS)
        )
    ways = {
        way: {
            "processes": WAYS[way][0],
            "videos_a_second": statistics.median(map(_rate, runs)),
            "factor": statistics.median(_rate(two) / _rate(one) for two, one in zip(runs, found["one"], strict=True)),
            "held_share": runs[-1][0]["held_share"],
            "gradient_bytes": runs[-1][0]["gradient_bytes"],
            "exchanged_bytes": runs[-1][0]["exchanged_bytes"],
            "agree": all(len({one["weights"] for one in ranks}) == 1 for ranks in runs),
            "same_as_one": all(
                abs(ranks[0]["first_loss"] - alone[0]["first_loss"]) <= 1e-4 * abs(alone[0]["first_loss"])
                for ranks, alone in zip(runs, found["one"], strict=True)
            ),
        }
        for way, runs in found.items()
    }
    return {"steps": steps, "rounds": rounds, "cores": os.cpu_count(), "ways": ways}


def tables(figures: dict[str, Any]) -> str:
    """A row for each way."""
    head = ("", "processes", "videos/s", "factor", "weights a process holds", "gradient", "exchanged in a step")
    rows = [
        [
            "one process" if way == "one" else way,
            str(one["processes"]),
            f"{one['videos_a_second']:.1f}",
            f"{one['factor']:.2f}",
            f"{100 * one['held_share']:.0f} %",
            *(f"{one[what] / 1e6:.2f} MB" for what in ("gradient_bytes", "exchanged_bytes")),
        ]
        for way, one in figures["ways"].items()
    ]
    told = f"Median of {figures['rounds']} rounds of {figures['steps']} steps on {figures['cores']} cores, one thread a process."
    return f"{table(head, rows)}\n\n{told}"


def faults(figures: dict[str, Any]) -> list[str]:
    """Processes that have come to other weights than each other, or to another loss than one process; gradients not exchanged."""
    told = []
    for way, one in figures["ways"].items():
        if not one["agree"]:
            told.append(f"{way}: the processes' weights differ after the last step")
        if way == "DDP" and one["exchanged_bytes"] != one["gradient_bytes"]:
            told.append(
                f"{way}: {one['exchanged_bytes']} bytes were exchanged for a gradient of {one['gradient_bytes']}"
            )
    if not figures["ways"]["FSDP2"]["same_as_one"] or not figures["ways"]["DDP"]["same_as_one"]:
        told.append("the first loss of two processes is not that of one process with their batch")
    return told


def _rate(ranks: list[dict[str, Any]]) -> float:
    """The slowest process decides."""
    return sum(one["videos"] for one in ranks) / max(one["seconds"] for one in ranks)


def _run(folder: Path, *, steps: int, seed: int, short: bool) -> dict[str, list[dict[str, Any]]]:
    """What each process measured, way after way; all are forked from a process of their own, which has loaded all and has no threads."""
    settings = {"folder": str(folder), "steps": steps, "seed": seed, "short": short}
    path = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "torturing.scaling", json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the processes failed: {done.stderr[-2000:]}")
    return {
        way: [json.loads((folder / f"{way}-{rank}.json").read_text()) for rank in range(ranks)]
        for way, (ranks, _) in WAYS.items()
    }


def _fork(settings: dict[str, Any]) -> int:
    import lightning.fabric.strategies  # noqa: F401  once, not in each process
    import torch.distributed.fsdp
    import torch.distributed.tensor  # noqa: F401

    import m2clip.train.learner  # noqa: F401

    fork = multiprocessing.get_context("fork")
    for way, (ranks, _) in WAYS.items():
        port = free_port()
        processes = [fork.Process(target=_learn, args=(settings, way, rank, port)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            return 1
    return 0


def _learn(settings: dict[str, Any], way: str, rank: int, port: int) -> None:
    """The steps of one process."""
    import hashlib

    import torch

    from m2clip import create
    from m2clip.config import BackboneConfig, RunConfig
    from m2clip.data.dataset import Batch
    from m2clip.train.objective import Objective, Step
    from m2clip.train.preparation import start_fabric
    from m2clip.train.sharding import clip_gradients, set_up, whole

    ranks, sharding = WAYS[way]
    if ranks > 1:
        numbers = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": ranks,
            "LOCAL_WORLD_SIZE": ranks,
            "MASTER_PORT": port,
        }
        os.environ.update({name: str(value) for name, value in numbers.items()}, MASTER_ADDR="127.0.0.1")
    fabric = start_fabric("fp32", sharding=sharding)  # type: ignore[arg-type]
    width, layers, batch_size = (32, 2, 2) if settings["short"] else (256, 6, 8)
    backbone = BackboneConfig(
        image_size=64, patch_size=16, vision_width=width, vision_layers=layers, vision_heads=4,
        embed_dim=width, text_width=width, text_layers=layers, text_heads=4,
    )  # fmt: skip
    torch.manual_seed(settings["seed"])
    model = create(backbone, class_names=LABELS)
    assert model.visual_head is not None
    everyone = torch.randint(0, 256, (2 * batch_size, 1, 8, 3, 64, 64)) / 128 - 1
    labels = torch.arange(2 * batch_size) % len(LABELS)
    objective = Objective(model, config=RunConfig(out="unused"), largest=2 * batch_size, device=fabric.device)
    module = set_up(fabric, Step(model), model)
    exchanged = _count_exchange(module)
    optimizer = torch.optim.AdamW(model.parameter_groups(lr=1e-3, text_lr_scale=0.5, weight_decay=0.01), fused=True)
    stepper = fabric.setup_optimizers(optimizer)
    parameters = list(model.parameters())
    held = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in parameters) / sum(p.numel() for p in parameters)
    gradient_bytes = sum(p.numel() * p.element_size() for p in model.trained_parameters().values())

    def step(rows: torch.Tensor) -> float:
        losses = objective(fabric, module, Batch(everyone[rows], labels[rows], rows), epoch=0)
        fabric.backward(losses.total)
        clip_gradients(fabric, module, stepper, most=1.0)
        stepper.step()
        stepper.zero_grad()
        return float(losses.total)

    # All of them in the first step, cut among the processes: its loss is one and the same. Each its own batch afterwards.
    first = torch.tensor([step(torch.arange(2 * batch_size)[rank::ranks])])
    first_loss = float(fabric.all_reduce(first, reduce_op="mean"))
    own = torch.arange(batch_size) + rank * batch_size
    step(own)
    exchanged[0] = 0
    fabric.barrier()
    started = time.perf_counter()
    for _ in range(settings["steps"]):
        step(own)
    fabric.barrier()
    seconds = time.perf_counter() - started
    with whole(model) as plain:
        digest = hashlib.sha256()
        for tensor in plain.trained_state().values():
            digest.update(tensor.contiguous().numpy().tobytes())
    found = {
        "videos": settings["steps"] * batch_size,
        "seconds": seconds,
        "first_loss": first_loss,
        "weights": digest.hexdigest(),
        "held_share": held,
        "gradient_bytes": gradient_bytes,
        "exchanged_bytes": exchanged[0] // settings["steps"],
    }
    (Path(settings["folder"]) / f"{way}-{rank}.json").write_text(json.dumps(found))


def _count_exchange(module: Any) -> list[int]:
    """Where the bytes add up that this process puts into exchanges: of gradients (DDP), or of weights and gradients (FSDP2)."""
    import torch
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
    from torch.nn.parallel import DistributedDataParallel

    counted = [0]

    def sum_bucket(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        counted[0] += bucket.buffer().nbytes
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]

    def counting(exchange: Callable[..., Any]) -> Callable[..., Any]:
        def counted_exchange(*args: Any, **options: Any) -> Any:
            counted[0] += max(tensor.nbytes for tensor in (*args, *options.values()) if hasattr(tensor, "nbytes"))
            return exchange(*args, **options)

        return counted_exchange

    for part in module.modules():
        if isinstance(part, DistributedDataParallel):
            part.register_comm_hook(None, sum_bucket)
    # FSDP2 calls them by these names, newer versions of PyTorch by the first two.
    for name in ("all_gather_single", "reduce_scatter_single", "all_gather_into_tensor", "reduce_scatter_tensor"):
        if hasattr(dist, name):
            setattr(dist, name, counting(getattr(dist, name)))
    return counted


if __name__ == "__main__":
    sys.exit(_fork(json.loads(sys.argv[1])))

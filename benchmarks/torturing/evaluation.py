"""Evaluation on several processes: every video counted once, and the report of one process to the last bit.

A grid of videos x processes x batch sizes, lists with broken files among them (a process that has only broken ones; nothing but broken
ones), each report held against that of one process; worker counts and start methods; a process that is killed while the others wait for it.
"""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from speed.markdown import table

from m2clip.builtin.shapes import render_motion, write_video
from torturing.ranks import free_port

NAMES = ("growing", "shrinking", "moving right")
COUNTS = (1, 2, 3, 5, 8)
LISTS = (*map(str, COUNTS), "one process has only broken files", "all files are broken")
FULL = {
    "processes": (2, 3, 4),
    "batches": (1, 2, 3, 8),
    "workers": (1, 2, 3),
    "starts": ("fork", "spawn", "forkserver"),
}
SHORT: dict[str, Any] = {"processes": (2,), "batches": (1,), "workers": (1,), "starts": ("fork",)}
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class _Cell:
    listed: str
    batch_size: int


def measure(folder: Path, *, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All cells of the grid; what a cell says is the text of its report, or of the error, without the seconds."""
    make_inputs(folder, seed=seed)
    form = SHORT if short else FULL
    cells = [_Cell(name, size) for name in LISTS for size in form["batches"]]
    (alone,) = _together(folder, cells, processes=1)
    expected = {cell.listed: text for cell, text in zip(cells, alone, strict=True) if cell.batch_size == 1}
    grid: dict[str, dict[str, list[int]]] = {name: {} for name in LISTS}

    def note(processes: int, told: Sequence[Sequence[str]]) -> None:
        for n, cell in enumerate(cells):
            same = all(texts[n] == expected[cell.listed] for texts in told)
            counts = grid[cell.listed].setdefault(str(processes), [0, 0])
            counts[0] += same
            counts[1] += 1

    note(1, [alone])
    for processes in form["processes"]:
        note(processes, _together(folder, cells, processes=processes))
        say(f"{processes} processes: {len(cells)} reports")
    readers = {}
    for start, workers in [(start, workers) for start in form["starts"] for workers in form["workers"]]:
        (told,) = _together(folder, [_Cell("8", 3)], processes=1, workers=workers, start=start)
        readers[f"{workers} by {start}"] = told == [expected["8"]]
    say(f"workers: {sum(readers.values())} of {len(readers)} reports are the same")
    return {
        "videos": {name: _counted(expected[name]) for name in LISTS},
        "grid": grid,
        "readers": readers,
        "killed": _killed(folder),
    }


def tables(figures: dict[str, Any]) -> str:
    """The grid, and what else was tried."""
    processes = list(figures["grid"][LISTS[0]])
    rows = [
        [f"{name} video{'' if name == '1' else 's'}" if name.isdigit() else name, figures["videos"][name]]
        + ["{} of {}".format(*row[count]) for count in processes]
        for name, row in figures["grid"].items()
    ]
    head = ["list", "counted", *(f"{count} process{'es' if count != '1' else ''}" for count in processes)]
    readers, killed = figures["readers"], figures["killed"]
    return "\n\n".join(
        [
            table(head, rows),
            f"Reports equal to the last bit, over batch sizes. With workers that decode ({', '.join(readers)}): "
            f"{sum(readers.values())} of {len(readers)} the same.",
            f"One of two processes killed: the other noticed it, and ended {killed['seconds']:.1f} s after both were started.",
        ]
    )


def faults(figures: dict[str, Any]) -> list[str]:
    """What differed, or hung."""
    found = [
        f"{name}, {processes} processes: {tried - same} of {tried} reports are not those of one process"
        for name, row in figures["grid"].items()
        for processes, (same, tried) in row.items()
        if same != tried
    ]
    found += [f"workers, {name}: another report" for name, same in figures["readers"].items() if not same]
    wanted = {str(count): f"{count} scored" for count in COUNTS}
    found += [
        f"{name} videos: {figures['videos'][name]}"
        for name, right in wanted.items()
        if figures["videos"][name] != right
    ]
    killed = figures["killed"]
    if "by peer" not in killed["said"]:  # what the program has a sentence for
        found.append(f"a killed process: the other said {killed['said']!r}")
    return found


def make_inputs(folder: Path, *, seed: int) -> None:
    """Videos, lists and a model without training, whose scores are as sensitive to the last bit as a trained one's."""
    import torch

    from m2clip import create

    for n in range(max(COUNTS)):
        frames = render_motion("red star", "growing", seed=seed + n, frames=8, size=64)
        write_video(folder / f"{n}.mp4", frames)
    (folder / "broken.mp4").write_text("no video")
    good = {str(count): [f"{n}.mp4" for n in range(count)] for count in COUNTS}
    broken = {
        # Two processes take every second file, three every third, four every fourth: the second never gets a good one.
        LISTS[-2]: [f"{n}.mp4" if n in (0, 2, 3, 6) else "broken.mp4" for n in range(8)],
        LISTS[-1]: ["broken.mp4", "missing.mp4", "broken.mp4"],
    }
    for name, files in {**good, **broken}.items():
        (folder / f"{name}.txt").write_text("".join(f"{file} {k % len(NAMES)}\n" for k, file in enumerate(files)))
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    torch.manual_seed(seed)
    model = create("builtin", class_names=NAMES)
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.02 * torch.randn_like(parameter)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": seed}})
    model.save(folder / "model.safetensors")


def _together(
    folder: Path,
    cells: Sequence[_Cell],
    *,
    processes: int,
    workers: int = 0,
    start: str | None = None,
    killed: int | None = None,
) -> list[list[str]]:
    """What each of these processes, started as one group, says of each cell."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["m2clip.evaluate", "m2clip.checkpoint", "torch.distributed"])
    port = free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    started = [
        context.Process(
            target=_share, args=(rank, processes, port, folder, cells, workers, start, rank == killed, pipes[rank][1])
        )
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for _, theirs in pipes:
        theirs.close()
    try:
        # Cell by cell: one whose pipe is full would wait for us, and the others for it.
        told = [[_answer(ours) for ours, _ in pipes] for _ in cells]
        return [list(of_process) for of_process in zip(*told, strict=True)]
    finally:
        for process in started:
            process.join(10)
            process.kill()


def _answer(pipe: Connection) -> str:
    try:
        return str(pipe.recv()) if pipe.poll(_PATIENCE_SECONDS) else "no answer"
    except EOFError:
        return "the process has ended"


def _share(
    rank: int,
    processes: int,
    port: int,
    folder: Path,
    cells: Iterable[_Cell],
    workers: int,
    start: str | None,
    killed: bool,
    answers: Connection,
) -> None:
    """One process of a group."""
    import torch
    import torch.distributed as dist

    from m2clip import load
    from m2clip.data.manifest import read_manifest
    from m2clip.evaluate import evaluate

    torch.set_num_threads(1)
    if start is not None:
        multiprocessing.set_start_method(start, force=True)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    model = load(folder / "model.safetensors")
    for cell in cells:
        manifest = read_manifest(folder / f"{cell.listed}.txt", classes=folder / "classes.txt")
        try:
            document = evaluate(
                model, manifest, batch_size=cell.batch_size, workers=workers, frames=2, views_temporal=2, per_view=True
            ).document
            del document["seconds"]
            answers.send(json.dumps(document))
        except Exception as error:
            answers.send(f"{type(error).__name__}: {error}")
    if processes > 1:
        dist.destroy_process_group()


def _counted(text: str) -> str:
    """How many videos a report counts, in words."""
    if not text.startswith("{"):
        return "refused"
    data = json.loads(text)["protocol"]["data"]
    bad = data["bad"] + data["missing"]
    return f"{data['scored']} scored" + (f", {bad} bad" if bad else "")


def _killed(folder: Path) -> dict[str, Any]:
    """Two processes, of which one gets kill -9 when it would begin: what the other says when it puts the shares together, and when."""
    began = time.perf_counter()
    said = _together(folder, [_Cell("8", 3)], processes=2, killed=1)[0][0]
    return {
        "said": said[:200] if said.startswith("RuntimeError") else "no error",
        "seconds": round(time.perf_counter() - began, 1),
    }

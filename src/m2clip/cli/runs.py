"""Commands that work on whole data sets: demo, train, evaluate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2clip.cli.options import (
    Classes,
    Device,
    Frames,
    Json,
    OnBadFile,
    Protocol,
    Root,
    Strength,
    Views,
    Weights,
    view_counts,
)
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.errors import ManifestError

if TYPE_CHECKING:
    import torch

    from m2clip.data.manifest import Manifest
    from m2clip.model.video_clip import VideoCLIP


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the report, the model and the videos.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of data, weights and order.")] = 0,
    json: Json = False,
) -> None:
    """Make moving shapes, adapt the builtin CLIP to them, evaluate on known and never-seen classes. Needs no network."""
    from m2clip.builtin.demo import run_demo

    report = run_demo(out, seed=seed, tell=say)
    if json:
        print_json(report)
    else:
        show(f"{out / 'report.html'}")


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As in train.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the same folder stopped.")] = False,
    json: Json = False,
) -> None:
    """Train adapters and heads on labelled videos; CLIP stays frozen."""
    from m2clip.config import load_config

    settings = load_config(config, overrides or ())
    from m2clip.train import train as run

    best = run(settings, resume=resume)
    if json:
        print_json({"best": str(best), "out": settings.out})
    else:
        show(str(best))


def evaluate(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, hub id or backbone name.")],
    data: Annotated[Path, typer.Option("--data", help="Folder with one folder a class, CSV path,label, or list file.")],
    classes: Classes = None,
    root: Root = None,
    protocol: Annotated[
        Protocol, typer.Option("--protocol", help="supervised: the checkpoint's classes; zero-shot: any classes.")
    ] = Protocol.supervised,
    views: Views = "1x1",
    frames: Frames = None,
    strength: Strength = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Videos at a time.")] = 8,
    workers: Annotated[int, typer.Option("--workers", min=0, max=256, help="Processes that decode; 0: this one.")] = 0,
    on_bad_file: Annotated[
        OnBadFile, typer.Option("--on-bad-file", help="skip: name, count, go on; stop: end with an error.")
    ] = OnBadFile.skip,
    per_view: Annotated[bool, typer.Option("--per-view", help="Keep the scores of each view in the report.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report, scores and figures.")] = None,
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled videos. Under torchrun each process takes its share."""
    with _process_group(device) as (own_device, is_first):
        from m2clip.evaluate import evaluate as run
        from m2clip.recognizer import find_model
        from m2clip.report.files import results_folder

        temporal, spatial = view_counts(views)
        model = find_model(checkpoint, weights=weights).to(own_device)
        if strength is not None:
            model.set_strength(strength)
        manifest = _manifest(model, data, classes=classes, root=root, protocol=protocol.value)
        if out is not None and is_first:
            results_folder(out)  # before the work, which would be lost
        with progress_bar("evaluating") as progress:
            result = run(
                model,
                manifest,
                protocol=protocol.value,
                views_temporal=temporal,
                views_spatial=spatial,
                frames=frames,
                batch_size=batch_size,
                workers=workers,
                on_bad_file=on_bad_file.value,
                per_view=per_view,
                checkpoint=checkpoint,
                tell=say,
                progress=progress,
            )
        if is_first:
            if out is not None:
                say(f"{out}: " + ", ".join(result.write(out)))
            if json:
                print_json(result.document)
            else:
                show(*result.summary().splitlines())


@contextmanager
def _process_group(name: str | None) -> Iterator[tuple["torch.device", bool]]:
    """This process's device, and whether it is the first of torchrun's processes (alone without torchrun)."""
    from m2clip.recognizer import find_device

    device = find_device(name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device, True
        return
    import torch
    import torch.distributed as dist

    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device, dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def _manifest(model: "VideoCLIP", data: Path, *, classes: Path | None, root: Path | None, protocol: str) -> "Manifest":
    """Labels mean the classes of the file given, else the checkpoint's (supervised), else what the data itself names."""
    from m2clip.data.manifest import ClassTable, read_manifest

    if classes is not None or protocol == "zero-shot" or not model.info.class_names:
        return read_manifest(data, classes=classes, root=root)
    try:
        return read_manifest(data, classes=ClassTable(model.info.class_names), root=root)
    except ManifestError as error:
        try:
            read_manifest(data, root=root)
        except ManifestError:
            raise error from None
        raise ManifestError(f"{error} (the checkpoint's); --protocol zero-shot takes other classes") from None

"""Commands that work on whole data sets: demo, train, evaluate."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from m2clip.cli.options import (
    BadFilePolicy,
    BatchSize,
    Classes,
    ClipSeconds,
    Compile,
    Device,
    FileSeconds,
    Fps,
    Frames,
    Json,
    LocalRank,
    MostLost,
    OnBadFile,
    Precision,
    PrecisionName,
    Root,
    Strength,
    StrideFrames,
    Templates,
    Texts,
    Weights,
    Workers,
    sampling_options,
    text_source,
    view_counts,
)
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.cli.protocols import Choose, PlainData, find_protocol
from m2clip.cli.protocols import dry_run as show_dry_run
from m2clip.cli.reported import reported
from m2clip.cli.sharing import process_group
from m2clip.errors import ConfigError
from m2clip.launcher import read_launcher


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
    auto_resume: Annotated[
        bool,
        typer.Option(
            "--auto-resume", help="As --resume, or begin where there is no run yet: for jobs that start again."
        ),
    ] = False,
    json: Json = False,
    local_rank: LocalRank = None,
) -> None:
    """Train adapters and heads on labelled videos; CLIP stays frozen."""
    from m2clip.config import load_config

    if resume and auto_resume:
        raise ConfigError("--resume needs a run and --auto-resume needs none; give one of them")
    settings = load_config(config, overrides or ())
    from m2clip.train import train as run

    best = run(settings, resume="auto" if auto_resume else resume)
    if read_launcher(os.environ).rank > 0:
        return
    if json:
        print_json({"best": str(best), "out": settings.out})
    else:
        show(str(best))


def evaluate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, hub id or backbone name.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Folder with one folder a class, CSV path,label, list file, or shards; a protocol's folder."
        ),
    ] = None,
    classes: Classes = None,
    root: Root = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="supervised: the checkpoint's classes; zero-shot: any classes; a name of `m2clip data protocols`; a YAML file.",
        ),
    ] = "supervised",
    choose: Choose = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be evaluated: videos, missing files, texts, views.")
    ] = False,
    views: Annotated[
        str | None,
        typer.Option(
            "--views", help="Temporal x spatial views of each video, as in 4x3; default: the protocol's, or 1x1."
        ),
    ] = None,
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    precision: Precision = PrecisionName.fp32,
    compiled: Compile = False,
    templates: Templates = None,
    texts: Texts = None,
    batch_size: BatchSize = 8,
    workers: Workers = 0,
    on_bad_file: BadFilePolicy = OnBadFile.skip,
    most_lost: MostLost = 0.5,
    file_seconds: FileSeconds = 300.0,
    per_view: Annotated[bool, typer.Option("--per-view", help="Keep the scores of each view in the report.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for report, scores and figures.")] = None,
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
    local_rank: LocalRank = None,
) -> None:
    """Measure a model on labelled videos. Under torchrun or srun each process takes its share."""
    plan = find_protocol(protocol, data=data, classes=classes, root=root, choose=choose)
    view_pair = None if views is None else view_counts(views)
    sampling = sampling_options(frames, stride_frames, fps, clip_seconds)
    source = text_source(templates, texts)
    if dry_run:
        show_dry_run(checkpoint, plan, views=view_pair, sampling=sampling, strength=strength, texts=source, json=json)
        return
    with process_group(device) as (own_device, is_first):
        from m2clip.evaluate import Evaluation
        from m2clip.evaluate import evaluate as run
        from m2clip.model.compiled import compile_images
        from m2clip.model.precision import for_inference
        from m2clip.protocol.run import ProtocolResult, run_protocol
        from m2clip.recognizer import find_model
        from m2clip.report.files import results_folder

        model = for_inference(find_model(checkpoint, weights=weights).to(own_device), precision.value, in_place=True)
        if strength is not None:
            model.set_strength(strength)
        if compiled:
            compile_images(model, frames=frames or model.info.frames, tell=say)
        if out is not None and is_first:
            results_folder(out)  # before the work, which would be lost
        made = None
        if is_first:
            lists = None if isinstance(plan, PlainData) else plan.files()
            made = reported(context, seed=model.info.training.get("seed"), lists=lists)
        result: Evaluation | ProtocolResult
        with progress_bar("evaluating") as progress:
            settings: dict[str, Any] = {
                **sampling,
                "texts": source,
                "batch_size": batch_size,
                "workers": workers,
                "on_bad_file": on_bad_file.value,
                "most_lost": most_lost,
                "file_seconds": file_seconds,
                "per_view": per_view,
                "checkpoint": checkpoint,
                "tell": say,
                "progress": progress,
            }
            if isinstance(plan, PlainData):
                manifest = plan.manifest(model.info.class_names)
                temporal, spatial = view_pair or (1, 1)
                result = run(
                    model, manifest, protocol=plan.kind, views_temporal=temporal, views_spatial=spatial, **settings
                )
            else:
                result = run_protocol(model, plan, views=view_pair, **settings)
        if made is not None:
            result.document["run"] = made
            if out is not None:
                say(f"{out}: " + ", ".join(result.write(out)))
            if json:
                print_json(result.document)
            else:
                show(*result.summary().splitlines())

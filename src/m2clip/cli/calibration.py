"""The command calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import (
    BadFilePolicy,
    BatchSize,
    Classes,
    ClipSeconds,
    Device,
    FileSeconds,
    Fps,
    Frames,
    Json,
    LocalRank,
    MostLost,
    OnBadFile,
    Root,
    StrideFrames,
    Templates,
    Texts,
    Views,
    Weights,
    Workers,
    sampling_options,
    text_source,
    view_counts,
)
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.cli.reported import reported
from m2clip.cli.sharing import process_group
from m2clip.errors import ManifestError


def calibrate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, hub id or backbone name.")],
    data: Annotated[
        Path, typer.Option("--data", help="Validation videos, as for evaluate; none that it was trained on.")
    ],
    classes: Classes = None,
    root: Root = None,
    reject: Annotated[
        float | None,
        typer.Option(
            "--reject",
            help='Share of these videos to answer with "none of these", as in 0.05; default: no such answer.',
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The calibrated checkpoint to write (its own path: in place).")
    ] = None,
    views: Views = "1x1",
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    templates: Templates = None,
    texts: Texts = None,
    batch_size: BatchSize = 8,
    workers: Workers = 0,
    on_bad_file: BadFilePolicy = OnBadFile.skip,
    most_lost: MostLost = 0.5,
    file_seconds: FileSeconds = 300.0,
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
    local_rank: LocalRank = None,
) -> None:
    """Set on validation videos how sure a checkpoint is of its answers, and when it answers "none of these".

    Top-1 stays as it is, and so do all weights. What is set holds for the labels of --data: the checkpoint's own classes, or
    those of --classes. Under torchrun or srun each process takes its share.
    """
    temporal, spatial = view_counts(views)
    sampling = sampling_options(frames, stride_frames, fps, clip_seconds)
    source = text_source(templates, texts)
    with process_group(device) as (own_device, is_first):
        from m2clip.calibration import calibrate as run
        from m2clip.checkpoint.record import copy_with
        from m2clip.config import BACKBONES
        from m2clip.data.manifest import ClassTable, read_manifest
        from m2clip.recognizer import find_model
        from m2clip.report.files import results_file

        model = find_model(checkpoint, weights=weights).to(own_device)
        if classes is None and model.info.class_names:
            try:
                videos = read_manifest(data, classes=ClassTable(model.info.class_names), root=root)
            except ManifestError as error:
                raise ManifestError(
                    f"{error} (the checkpoint's classes are meant; name other labels with --classes)"
                ) from None
        else:
            videos = read_manifest(data, classes=classes, root=root)
        if out is not None and is_first:
            results_file(out)  # before the work, which would be lost
        made = reported(context, seed=model.info.training.get("seed")) if is_first else None
        with progress_bar("calibrating") as progress:
            found = run(
                model,
                videos,
                reject=reject,
                texts=source,
                views_temporal=temporal,
                views_spatial=spatial,
                **sampling,
                batch_size=batch_size,
                workers=workers,
                on_bad_file=on_bad_file.value,
                most_lost=most_lost,
                file_seconds=file_seconds,
                checkpoint=checkpoint,
                tell=say,
                progress=progress,
            )
        if made is None:
            return
        found.document["run"] = made
        if out is not None:
            if checkpoint in BACKBONES and not Path(checkpoint).is_file():
                model.info = model.info.model_copy(update={"calibration": found.calibration})
                model.save(out)
            else:
                copy_with(checkpoint, out, calibration=found.calibration)
            say(f"{out}: calibrated")
        if json:
            print_json(found.document)
        else:
            show(*found.summary().splitlines())

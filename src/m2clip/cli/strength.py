"""The command that chooses the strength of a model's adapters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Views,
    Weights,
    Workers,
    sampling_options,
    view_counts,
)
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.cli.reported import reported
from m2clip.cli.sharing import process_group
from m2clip.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    from m2clip.data.manifest import Manifest
    from m2clip.model.video_clip import VideoCLIP


def tune_strength(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A trained checkpoint, or its hub id.")],
    data: Annotated[Path, typer.Option("--data", help="Validation videos of the trained classes, as for evaluate.")],
    classes: Classes = None,
    root: Root = None,
    novel: Annotated[
        Path | None, typer.Option("--novel", help="Validation videos of other classes, read by their names.")
    ] = None,
    novel_classes: Annotated[Path | None, typer.Option("--novel-classes", help="Class table of --novel.")] = None,
    novel_root: Annotated[Path | None, typer.Option("--novel-root", help="Folder of the paths in --novel.")] = None,
    strengths: Annotated[str | None, typer.Option("--strengths", help="Default: 0,0.1,0.2 and so on to 1.")] = None,
    views: Views = "1x1",
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    batch_size: BatchSize = 8,
    workers: Workers = 0,
    on_bad_file: BadFilePolicy = OnBadFile.skip,
    most_lost: MostLost = 0.5,
    file_seconds: FileSeconds = 300.0,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write a copy of the checkpoint that is used at the best strength.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for strength.json, .csv and the curve.")] = None,
    weights: Weights = None,
    device: Device = None,
    json: Json = False,
    local_rank: LocalRank = None,
) -> None:
    """Measure a model between the frozen CLIP (strength 0) and what it learned (1), and say which strength is best.

    Best is top-1 on --data or, with --novel, the harmonic mean of both; of equals the stronger. Under torchrun or srun
    each process takes its share.
    """
    wanted = _numbers(strengths)
    temporal, spatial = view_counts(views)
    sampling = sampling_options(frames, stride_frames, fps, clip_seconds)
    for name, value in (("--novel-classes", novel_classes), ("--novel-root", novel_root)):
        if value is not None and novel is None:
            raise typer.BadParameter("it speaks of --novel, which is not given", param_hint=name)
    with process_group(device) as (own_device, is_first):
        from m2clip.checkpoint.record import copy_with
        from m2clip.data.manifest import read_manifest
        from m2clip.recognizer import find_model
        from m2clip.report.files import results_folder
        from m2clip.strength import STRENGTHS
        from m2clip.strength import tune_strength as run

        model = find_model(checkpoint, weights=weights).to(own_device)
        trained = _of_trained_classes(model, data, classes=classes, root=root)
        others = None if novel is None else read_manifest(novel, classes=novel_classes, root=novel_root)
        for folder in (out, None if save is None else save.parent):
            if folder is not None and is_first:
                results_folder(folder)  # before the work, which would be lost
        made = reported(context, seed=model.info.training.get("seed")) if is_first else None
        with progress_bar("tuning the strength") as progress:
            curve = run(
                model,
                trained,
                others,
                strengths=STRENGTHS if wanted is None else wanted,
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
        curve.document["run"] = made
        if out is not None:
            say(f"{out}: " + ", ".join(curve.write(out)))
        if save is not None:
            say(
                f"{copy_with(checkpoint, save, strength=curve.best.strength)}: used at strength {curve.best.strength:g}"
            )
        if json:
            print_json(curve.document)
        else:
            show(*curve.summary().splitlines())


def _numbers(text: str | None) -> list[float] | None:
    """'0,0.5,1' -> [0.0, 0.5, 1.0]."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not of the form 0,0.5,1", param_hint="--strengths") from None


def _of_trained_classes(model: "VideoCLIP", data: Path, *, classes: Path | None, root: Path | None) -> "Manifest":
    """Labels mean the classes of the file given, else the checkpoint's."""
    from m2clip.data.manifest import ClassTable, read_manifest

    names = model.info.class_names
    if not names:
        raise ConfigError("the model has no classes of its own, so there is nothing to tune on; train it first")
    try:
        return read_manifest(data, classes=ClassTable(names) if classes is None else classes, root=root)
    except ManifestError as error:
        if classes is not None:
            raise
        raise ManifestError(f"{error} (the checkpoint's classes are meant; videos of others go to --novel)") from None

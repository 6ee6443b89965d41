"""The command embed."""

from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import (
    BatchSize,
    Checkpoint,
    Classes,
    ClipSeconds,
    Compile,
    Device,
    FileSeconds,
    Fps,
    Frames,
    Json,
    MostLost,
    Precision,
    PrecisionName,
    Root,
    Strength,
    StrideFrames,
    Views,
    Weights,
    Workers,
    sampling_options,
)
from m2clip.cli.output import print_json, progress_bar, say
from m2clip.cli.recognizing import for_each_video, make_recognizer, model_facts

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Videos, and with --out also folders of videos, lists (CSV, Parquet, JSON, lines) and shards.",
    ),
]


def embed(
    sources: Sources,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The Parquet file to write, or to bring up to date: path, times, vector."),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", min=0.1, help="Seconds: an embedding of each stretch this long, so that moments are found."
        ),
    ] = None,
    checkpoint: Checkpoint = "builtin",
    weights: Weights = None,
    views: Views = "1x1",
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    precision: Precision = PrecisionName.fp32,
    compiled: Compile = False,
    device: Device = None,
    batch_size: BatchSize = 8,
    workers: Workers = 2,
    file_seconds: FileSeconds = 300.0,
    most_lost: MostLost = 0.5,
    root: Root = None,
    classes: Classes = None,
    json: Json = False,
) -> None:
    """Turn videos into embeddings of unit norm: many into a table (--out), a few onto the screen (--json).

    With --out, what is in the table already and has not changed is skipped, also after a run that was killed.
    """
    if out is None and not json:
        raise typer.BadParameter("say where the embeddings go: --out FILE.parquet, or --json", param_hint="--out")
    if out is None:
        given = {"--every": every, "--root": root, "--classes": classes}
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter("is for tables: give --out FILE.parquet", param_hint=name)
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views=views,
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    if out is None:
        results, code = for_each_video(
            sources, lambda _, opened: {"embedding": recognizer.embed(opened).tolist()}, bar=True
        )
        print_json({**model_facts(recognizer, checkpoint), "unit_norm": True, "videos": results})
        raise typer.Exit(code)

    from m2clip.bulk.embedding import embed_videos
    from m2clip.bulk.source_model import SourceModel
    from m2clip.bulk.wanted_videos import wanted_videos

    wanted = wanted_videos(sources, classes=classes, root=root)
    source = SourceModel.of(recognizer, checkpoint, weights=weights, every_seconds=every)
    with progress_bar("videos") as progress:
        done = embed_videos(
            recognizer,
            wanted,
            out,
            source,
            workers=workers,
            batch_size=batch_size,
            file_seconds=file_seconds,
            most_lost=most_lost,
            tell=say,
            progress=progress,
        )
    parts = [f"{done.videos} embedded", f"{done.done_before} there already", f"{done.dropped} gone"]
    say(f"{out}: {done.rows} embeddings of unit norm; videos: {', '.join(parts)}, {len(done.bad)} could not be read")
    for name in done.tables:
        say(f"{out.parent / name} names all such files")
    if json:
        bad = [{"path": str(file.path), "where": file.where, "reason": file.reason} for file in done.bad]
        counts = {"rows": done.rows, "embedded": done.videos, "done_before": done.done_before, "dropped": done.dropped}
        print_json(
            {
                **model_facts(recognizer, checkpoint),
                "model_id": source.model_id,
                "out": str(out),
                **counts,
                "bad_files": bad,
            }
        )
    raise typer.Exit(1 if done.bad else 0)

"""The command embed."""

from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.bulk import EngineName, EngineOption, RayAddress, chosen_engine, make_table, model_device
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
from m2clip.cli.output import print_json
from m2clip.cli.recognizing import for_each_video, make_recognizer, model_facts

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Videos, and with --out also folders of videos, lists (CSV, Parquet, JSON, lines) and shards.",
    ),
]


def embed(
    context: typer.Context,
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
    engine: EngineOption = EngineName.local,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Turn videos into embeddings of unit norm: many into a table (--out), a few onto the screen (--json).

    With --out, what is in the table already and has not changed is skipped, also after a run that was killed.
    """
    if out is None and not json:
        raise typer.BadParameter("say where the embeddings go: --out FILE.parquet, or --json", param_hint="--out")
    chosen = chosen_engine(context)
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views=views,
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        device=model_device(engine, device, precision),
        precision=precision,
        compiled=compiled and engine is EngineName.local,
    )
    if out is None or chosen is None:
        results, code = for_each_video(
            sources, lambda _, opened: {"embedding": recognizer.embed(opened).tolist()}, bar=True
        )
        print_json({**model_facts(recognizer, checkpoint), "unit_norm": True, "videos": results})
        raise typer.Exit(code)

    from m2clip.bulk.source_model import SourceModel
    from m2clip.bulk.work import EmbeddingWork

    source = SourceModel.of(recognizer, checkpoint, weights=weights, every_seconds=every)
    facts = {**model_facts(recognizer, checkpoint), "model_id": source.model_id} if json else None
    work = EmbeddingWork(recognizer, source)
    code = make_table(
        work,
        sources,
        out,
        chosen,
        root=root,
        classes=classes,
        what="embeddings of unit norm",
        verb="embedded",
        document=facts,
    )
    raise typer.Exit(code)

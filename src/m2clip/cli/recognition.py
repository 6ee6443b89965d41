"""The command classify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    LabelsFile,
    LabelsOption,
    MostLost,
    Precision,
    PrecisionName,
    Root,
    Strength,
    StrideFrames,
    Templates,
    Texts,
    Top,
    Views,
    Weights,
    Workers,
    sampling_options,
    split_labels,
    text_source,
)
from m2clip.cli.output import print_json, show
from m2clip.cli.recognizing import asked_labels, for_each_video, make_recognizer, model_facts

if TYPE_CHECKING:
    from m2clip.data.video import Video


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="VIDEO...",
        help="Video files, folders of images, .npy files, http:// or https:// addresses, or - for standard input; "
        "with --out also folders of videos, lists and shards.",
    ),
]


def classify(
    context: typer.Context,
    videos: Sources,
    labels: LabelsOption = None,
    labels_file: LabelsFile = None,
    checkpoint: Checkpoint = "builtin",
    weights: Weights = None,
    top: Top = 5,
    views: Views = "1x1",
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    precision: Precision = PrecisionName.fp32,
    compiled: Compile = False,
    templates: Templates = None,
    texts: Texts = None,
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The Parquet file to write, or to bring up to date: path, times, labels, scores."),
    ] = None,
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
    """Name the action in each video: the most probable of the labels (default: the checkpoint's own classes).

    With --out, of many videos; what is in the table already and has not changed is skipped, also after a run that was killed.
    """
    table_engine = chosen_engine(context)
    names = split_labels(labels)
    source = text_source(templates, texts)
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views=views,
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        texts=source,
        device=model_device(engine, device, precision),
        precision=precision,
        compiled=compiled and engine is EngineName.local,
    )
    chosen = asked_labels(recognizer.model, names, labels_file, source)
    prepared = recognizer.prepare(chosen)
    read_as = {
        "reading": prepared.reading,
        "temperature": prepared.temperature,
        "threshold": prepared.threshold(strength=recognizer.model.strength),
        "texts": dict(zip(prepared.names, prepared.texts, strict=True)),
    }
    if out is not None and table_engine is not None:
        from m2clip.bulk.label_table import LabelSource
        from m2clip.bulk.source_model import SourceModel
        from m2clip.bulk.work import LabelWork

        model = SourceModel.of(recognizer, checkpoint, weights=weights)
        work = LabelWork(recognizer, prepared, LabelSource.of(recognizer, prepared, model, top=top))
        facts = {**model_facts(recognizer, checkpoint), "model_id": model.model_id, **read_as} if json else None
        code = make_table(
            work,
            videos,
            out,
            table_engine,
            root=root,
            classes=classes,
            what="videos with labels",
            verb="classified",
            document=facts,
        )
        raise typer.Exit(code)

    def one(video: str, opened: "Video") -> dict[str, Any]:
        read = recognizer.score(opened, chosen)
        by_label = dict(zip(prepared.names, read.views.T.tolist(), strict=True))
        best = read.top(top)
        if not json:
            lines = [f"  {found.score:.4f}  {found.label}" for found in best]
            show(video, *(["  none of these; the nearest:"] if read.none_of_these else []), *lines)
        return {
            "none_of_these": read.none_of_these,
            "predictions": [{**vars(found), "views": by_label[found.label]} for found in best],
            "frame_indices": read.frame_indices.tolist(),
            "frame_seconds": read.frame_seconds.tolist(),
        }

    results, code = for_each_video(videos, one, bar=json)
    if json:
        print_json(
            {
                **model_facts(recognizer, checkpoint),
                **read_as,
                "videos": results,
            }
        )
    raise typer.Exit(code)

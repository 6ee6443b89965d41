"""The command classify."""

from typing import TYPE_CHECKING, Any

import typer

from m2clip.cli.options import (
    Checkpoint,
    ClipSeconds,
    Compile,
    Device,
    Fps,
    Frames,
    Json,
    LabelsFile,
    LabelsOption,
    Precision,
    PrecisionName,
    Strength,
    StrideFrames,
    Templates,
    Texts,
    Top,
    Videos,
    Views,
    Weights,
    sampling_options,
    split_labels,
    text_source,
)
from m2clip.cli.output import print_json, show
from m2clip.cli.recognizing import asked_labels, for_each_video, make_recognizer, model_facts

if TYPE_CHECKING:
    from m2clip.data.video import Video


def classify(
    videos: Videos,
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
    json: Json = False,
) -> None:
    """Name the action in each video: the most probable of the labels (default: the checkpoint's own classes)."""
    names = split_labels(labels)
    source = text_source(templates, texts)
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views=views,
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        texts=source,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    chosen = asked_labels(recognizer.model, names, labels_file, source)
    classes = recognizer.prepare(chosen)

    def one(video: str, opened: "Video") -> dict[str, Any]:
        read = recognizer.score(opened, chosen)
        by_label = dict(zip(classes.names, read.views.T.tolist(), strict=True))
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
                "reading": classes.reading,
                "temperature": classes.temperature,
                "threshold": classes.threshold(strength=recognizer.model.strength),
                "texts": dict(zip(classes.names, classes.texts, strict=True)),
                "videos": results,
            }
        )
    raise typer.Exit(code)

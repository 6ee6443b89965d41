"""The command timeline."""

from typing import TYPE_CHECKING, Annotated

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
    OneVideo,
    Precision,
    PrecisionName,
    Strength,
    StrideFrames,
    Templates,
    Texts,
    Top,
    Weights,
    open_video,
    sampling_options,
    split_labels,
    text_source,
)
from m2clip.cli.output import print_json, say, show
from m2clip.cli.recognizing import asked_labels, make_recognizer, model_facts, tell_lost_frames

if TYPE_CHECKING:
    pass


def timeline(
    video: OneVideo,
    labels: LabelsOption = None,
    labels_file: LabelsFile = None,
    window_seconds: Annotated[float, typer.Option("--window", help="Length of a window, seconds.")] = 2.0,
    step_seconds: Annotated[float, typer.Option("--step", help="From one window's start to the next, seconds.")] = 1.0,
    checkpoint: Checkpoint = "builtin",
    weights: Weights = None,
    top: Top = 1,
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
    """Say what a video shows when, window by window."""
    names = split_labels(labels)
    source = text_source(templates, texts)
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views="1x1",
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        texts=source,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    chosen = asked_labels(recognizer.model, names, labels_file, source)
    with open_video(video) as opened:
        windows = recognizer.timeline(opened, chosen, window_seconds, step_seconds, top)
        lost = tell_lost_frames(opened)
        span = recognizer.sampling.span_seconds(opened.info.fps)
    if len(windows) > 1 and span > window_seconds:
        say(
            f"a clip spans {span:.3g} s, more than a window of {window_seconds:g} s, whose last frame is repeated; give a longer --window"
        )
    if json:
        found = [{**vars(window), "predictions": [vars(one) for one in window.predictions]} for window in windows]
        reading = recognizer.prepare(chosen).reading
        facts = model_facts(recognizer, checkpoint)
        print_json({**facts, "reading": reading, "video": video, "lost_frames": lost, "windows": found})
        return
    for window in windows:
        best = "  ".join(f"{found.score:.4f} {found.label}" for found in window.predictions)
        show(f"{window.start_seconds:8.2f} - {window.end_seconds:8.2f} s  {best}")

"""Commands that look at single videos: classify, timeline, embed."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Videos,
    Views,
    Weights,
    open_video,
    sampling_options,
    split_labels,
    text_source,
)
from m2clip.cli.output import print_json, say, show
from m2clip.cli.recognizing import asked_labels, for_each_video, make_recognizer, model_facts, tell_lost_frames

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
            show(video, *(f"  {found.score:.4f}  {found.label}" for found in best))
        return {
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
                "texts": dict(zip(classes.names, classes.texts, strict=True)),
                "videos": results,
            }
        )
    raise typer.Exit(code)


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


def embed(
    videos: Videos,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write an .npz: videos [N], embeddings float32 [N, D] of unit norm.")
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
    json: Json = False,
) -> None:
    """Turn videos into embeddings of unit norm; say with --out or --json where they go."""
    if out is None and not json:
        raise typer.BadParameter("say where the embeddings go: --out FILE.npz, --json, or both", param_hint="--out")
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
    if out is not None:
        from m2clip.report.files import results_folder

        results_folder(out.parent)  # before the work, which would be lost
    results, code = for_each_video(videos, lambda _, opened: {"embedding": recognizer.embed(opened).tolist()}, bar=True)
    if out is not None:
        _write_embeddings(out, [result for result in results if "embedding" in result], checkpoint)
    if json:
        print_json({**model_facts(recognizer, checkpoint), "unit_norm": True, "videos": results})
    raise typer.Exit(code)


def _write_embeddings(out: Path, results: Sequence[Mapping[str, Any]], checkpoint: str) -> None:
    import numpy as np

    from m2clip.report import write_whole

    buffer = io.BytesIO()
    embeddings = np.array([result["embedding"] for result in results], np.float32)
    np.savez(
        buffer, videos=np.array([result["video"] for result in results]), embeddings=embeddings, checkpoint=checkpoint
    )
    write_whole(out, buffer.getvalue())
    say(f"{out}: {len(embeddings)} embeddings, each of unit norm")

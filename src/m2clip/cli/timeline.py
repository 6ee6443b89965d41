"""The command timeline."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.live import ForSeconds, Stream, check_stream, stream_timeline
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
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.cli.recognizing import asked_labels, make_recognizer, model_facts, tell_lost_frames, window_line
from m2clip.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from m2clip.data.video import Video
    from m2clip.recognizer import Recognizer
    from m2clip.timeline import Window

PICTURED_LABELS = 5


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
    alone: Annotated[
        bool,
        typer.Option(
            "--alone", help="Encode each window as a clip of its own: slower, better where scenes change abruptly."
        ),
    ] = False,
    compiled: Compile = False,
    templates: Templates = None,
    texts: Texts = None,
    device: Device = None,
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", help="Write a file, too: .json, .csv, .vtt (subtitles) or .png. Can be given again."),
    ] = None,
    stream: Stream = False,
    for_seconds: ForSeconds = None,
    json: Json = False,
) -> None:
    """Say what a video shows when, window by window; with --stream what a camera or a stream shows now."""
    files = out or []
    if stream:
        if alone:
            raise typer.BadParameter("the windows of a live source share their frames", param_hint="--alone")
        check_stream(video, files, compiled=compiled)
    elif for_seconds is not None:
        raise typer.BadParameter("only a live source ends by the clock; give --stream, too", param_hint="--for")
    elif files:
        from m2clip.report.timeline_files import check_ending

        for path in files:
            check_ending(path)
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
        compiled=False,
    )
    chosen = asked_labels(recognizer.model, names, labels_file, source)
    if stream:
        stream_timeline(
            recognizer,
            video,
            chosen,
            checkpoint=checkpoint,
            window_seconds=window_seconds,
            step_seconds=step_seconds,
            top=top,
            for_seconds=math.inf if for_seconds is None else for_seconds,
            files=files,
            json=json,
        )
        return
    classes, reader = recognizer.prepare(chosen), recognizer.timeline_reader(window_seconds, step_seconds, alone=alone)
    windows: list[Window] = []
    stopped: VideoError | KeyboardInterrupt | None = None
    with open_video(video) as opened:
        duration = opened.info.duration_seconds
        if compiled:
            if reader.shares_frames(duration):
                raise ConfigError(
                    "--compile is for clips, but the frames that windows share are encoded one after another: leave it out, or "
                    "give --alone, too"
                )
            recognizer.compile(tell=say)
        pictured = any(path.suffix.lower() == ".png" for path in files)
        found = recognizer.windows(reader.read(opened), classes, max(top, PICTURED_LABELS) if pictured else top)
        try:
            with progress_bar("seconds", shown=json or not sys.stdout.isatty()) as progress:
                for window in found:
                    windows.append(window)
                    progress(math.floor(window.end_seconds), math.ceil(duration))
                    if not json:
                        show(window_line(window, top))
        except (VideoError, KeyboardInterrupt) as error:  # what was found is not lost
            if not windows:
                raise
            stopped = error
        lost = tell_lost_frames(opened)
        _tell_short_windows(recognizer, opened, windows, window_seconds, shared=reader.shares_frames(duration))
    document: dict[str, Any] = {
        **model_facts(recognizer, checkpoint),
        "reading": classes.reading,
        "temperature": classes.temperature,
        "threshold": classes.threshold(strength=recognizer.model.strength),
        "video": video,
        "lost_frames": lost,
        "windows": [
            {**vars(window), "predictions": [vars(one) for one in window.predictions[:top]]} for window in windows
        ],
    }
    if stopped is not None:
        document["error"] = str(stopped) or "interrupted"
    if files:
        from m2clip.report.timeline_files import write_timeline
        from m2clip.timeline import moments

        stretches = list(moments(windows))
        title = Path(video).name + (" (incomplete)" if stopped is not None else "")
        for path in files:
            write_timeline(path, document=document, windows=windows, moments=stretches, top=top, title=title)
    if json:
        print_json(document)
    if stopped is not None:
        say(f"{video} breaks off: the {len(windows)} windows until {windows[-1].end_seconds:.2f} s are kept")
        raise stopped


def _tell_short_windows(
    recognizer: "Recognizer", opened: "Video", windows: "list[Window]", window_seconds: float, *, shared: bool
) -> None:
    """Say so where a window is shorter than the clips that the model knows."""
    span = recognizer.sampling.span_seconds(opened.info.fps)
    if len(windows) > 1 and span > window_seconds:
        has = "which has fewer frames" if shared else "whose last frame is repeated"
        say(f"a clip spans {span:.3g} s, more than a window of {window_seconds:g} s, {has}; give a longer --window")

"""The command that writes a model's video side as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import (
    ClipSeconds,
    Fps,
    Frames,
    Json,
    LabelsFile,
    LabelsOption,
    PrecisionName,
    Strength,
    StrideFrames,
    Templates,
    Texts,
    Weights,
    open_video,
    sampling_options,
    split_labels,
    text_source,
)
from m2clip.cli.output import print_json, say, show
from m2clip.cli.recognizing import asked_labels, make_recognizer


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, hf-hub:owner/name, or a backbone.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .onnx, or .pt2 for torch.export.")],
    labels: LabelsOption = None,
    labels_file: LabelsFile = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", help="A video that the file must read as PyTorch does; may be given again."),
    ] = None,
    weights: Weights = None,
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    templates: Templates = None,
    texts: Texts = None,
    json: Json = False,
) -> None:
    """Write the video side of a model with the labels inside (default: the model's classes), checked against PyTorch.

    Pixels go in as uint8 [batch, frames, size, size, 3]; a JSON beside the file tells labels, size and sampling.
    """
    names = split_labels(labels)
    source = text_source(templates, texts)
    from m2clip.export.writing import export_video, file_format
    from m2clip.report.files import results_file

    file_format(out)  # before the work, which would be lost
    results_file(out.absolute())
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views="1x1",
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        texts=source,
        device="cpu",
        precision=PrecisionName.fp32,
        compiled=False,
    )
    chosen = asked_labels(recognizer.model, names, labels_file, source)
    clips = []
    for video in check or ():
        with open_video(video) as opened:
            clips.append(recognizer.reader.read(opened).pixels[0])
    description = export_video(recognizer, out, labels=chosen, clips=clips, tell=say)
    if json:
        print_json(description)
    else:
        worst = max(description["check"]["largest_difference"].values())
        show(str(out), str(out.with_suffix(".json")), f"largest difference from PyTorch: {worst:.1e}")

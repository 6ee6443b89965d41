"""The command explain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.cli.options import (
    Checkpoint,
    ClipSeconds,
    Device,
    Fps,
    Frames,
    Json,
    LabelsFile,
    LabelsOption,
    OneVideo,
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
from m2clip.cli.recognizing import asked_labels, make_recognizer, model_facts, tell_lost_frames
from m2clip.errors import ConfigError

if TYPE_CHECKING:
    from m2clip.explanations import Explanation
    from m2clip.recognizer import Recognizer

_MOST_PIXELS = 2**27  # of a picture: 2,675 frames of 224 x 224, those of each row counted


def explain(
    video: OneVideo,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="What to look for, again for more; default: the best label.")
    ] = None,
    labels: LabelsOption = None,
    labels_file: LabelsFile = None,
    out: Annotated[Path | None, typer.Option("--out", help="Draw the maps over the frames, as a PNG.")] = None,
    checkpoint: Checkpoint = "builtin",
    weights: Weights = None,
    frames: Frames = None,
    stride_frames: StrideFrames = None,
    fps: Fps = None,
    clip_seconds: ClipSeconds = None,
    strength: Strength = None,
    templates: Templates = None,
    texts: Texts = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Show where and when in a video the model finds what speaks for a label, among all that it chooses from."""
    names = split_labels(labels)
    if out is not None:
        from m2clip.report.files import results_file

        results_file(out, ending=".png")  # before the work, which would be lost
    source = text_source(templates, texts)
    recognizer = make_recognizer(
        checkpoint,
        weights=weights,
        views="1x1",
        sampling=sampling_options(frames, stride_frames, fps, clip_seconds),
        strength=strength,
        texts=source,
        device=device,
        precision=PrecisionName.fp32,
        compiled=False,
    )
    chosen = asked_labels(recognizer.model, names, labels_file, source)
    if out is not None:
        _check_size(recognizer, rows=2 + (1 if label is None else len(label)))
    from m2clip.explanations import explain as explained

    classes = recognizer.prepare(chosen)
    with open_video(video) as opened:
        clips = recognizer.reader.read(opened)
        lost = tell_lost_frames(opened)
    asked = label or [recognizer.score_clips(clips, classes)[0].top(1)[0].label]
    found = [explained(recognizer, clips, name, classes) for name in asked]
    if out is not None:
        from m2clip.report.files import write_whole
        from m2clip.report.heat_strip import heat_strip

        write_whole(out, heat_strip(*found))
        say(f"{out}: {len(found[0].time)} frames, {len(found)} label{'s' * (len(found) > 1)}")
    if json:
        facts = model_facts(recognizer, checkpoint)
        print_json({**facts, "reading": classes.reading, "video": video, "lost_frames": lost, **_document(found)})
        return
    for one in found:
        show(f"{one.score:.4f}  {one.label}")
        for index, seconds, share in zip(one.frame_indices, one.frame_seconds, one.time, strict=True):
            show(f"  {100 * share:5.1f} %  {seconds:8.3f} s  frame {index}")


def _check_size(recognizer: "Recognizer", *, rows: int) -> None:
    from m2clip.report.heat_strip import drawn_side

    frames, side = recognizer.sampling.frames, drawn_side(recognizer.model.info.image_size)
    if rows * frames * side**2 > _MOST_PIXELS:
        raise ConfigError(
            f"{rows} rows of {frames} frames are too many for one picture; ask for fewer with --label or --frames"
        )


def _document(found: "list[Explanation]") -> dict[str, Any]:
    """Maps in the grid of the patches: what is finer is interpolated."""
    first = found[0]
    change = first.patch_difference
    return {
        "frame_indices": first.frame_indices.tolist(),
        "frame_seconds": first.frame_seconds.tolist(),
        "explanations": [
            {"label": one.label, "score": one.score, "time": one.time.tolist(), "heat": one.patch_heat.tolist()}
            for one in found
        ],
        "difference": None if change is None else change.tolist(),
    }

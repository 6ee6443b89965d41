"""What the commands that look at single videos share: the model that options ask for, and its work on each video."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m2clip.cli.options import PrecisionName, open_video, view_counts
from m2clip.cli.output import progress_bar, say
from m2clip.errors import VideoError

if TYPE_CHECKING:
    from m2clip.data.text.descriptions import TextSource
    from m2clip.data.video import Video
    from m2clip.labels import Labels
    from m2clip.model.video_clip import VideoCLIP
    from m2clip.recognizer import Recognizer
    from m2clip.timeline import Window


def make_recognizer(
    checkpoint: str,
    *,
    weights: str | None,
    views: str,
    sampling: Mapping[str, Any],
    strength: float | None,
    device: str | None,
    precision: PrecisionName,
    compiled: bool,
    texts: "TextSource | None" = None,
    web: bool = True,
) -> "Recognizer":
    """The recognizer that these options ask for; where its clips are not as in training, a sentence says so.

    `web`: whether it fetches videos from web addresses.
    """
    temporal, spatial = view_counts(views)
    from m2clip.data.web import DEFAULT_LIMITS
    from m2clip.recognizer import Recognizer

    if checkpoint == "builtin":
        say("the builtin model knows coloured shapes, not the world; choose another with --checkpoint")
    recognizer = Recognizer(
        checkpoint,
        weights=weights,
        **sampling,
        views_temporal=temporal,
        views_spatial=spatial,
        device=device,
        strength=strength,
        precision=precision.value,
        texts=texts,
        web=DEFAULT_LIMITS if web else None,
    )
    if compiled:
        recognizer.compile(tell=say)
    info = recognizer.model.info
    for sentence in recognizer.sampling.departures(info.sampling) if info.trained else ():
        say(sentence)
    return recognizer


def model_facts(recognizer: "Recognizer", checkpoint: str) -> dict[str, Any]:
    """What a document says about the model that made it, and how it was used."""
    from m2clip.model.precision import precision_of

    info = recognizer.model.info
    return {
        "checkpoint": checkpoint,
        "backbone": info.backbone,
        "trained": info.trained,
        "loaded_tensors": recognizer.model.loaded_tensors,
        **recognizer.sampling.document(),
        "trained_frames": info.frames if info.trained else None,
        "trained_sampling": info.sampling.document() if info.trained else None,
        "strength": recognizer.model.strength,
        "precision": precision_of(recognizer.model),
        "views": {"temporal": recognizer.views_temporal, "spatial": recognizer.views_spatial},
    }


def window_line(window: "Window", top: int) -> str:
    """A window of a timeline as a line of text."""
    best = "  ".join(f"{found.score:.4f} {found.label}" for found in window.predictions[:top])
    none = "none of these; the nearest: " if window.none_of_these else ""
    return f"{window.start_seconds:8.2f} - {window.end_seconds:8.2f} s  {none}{best}"


def for_each_video(
    videos: Sequence[str], work: "Callable[[str, Video], dict[str, Any]]", *, bar: bool
) -> tuple[list[dict[str, Any]], int]:
    """Results in the order of the videos and the exit code: a bad video is named, and the others are still done."""
    results, code = [], 0
    with progress_bar("videos", shown=bar and len(videos) > 1) as progress:
        for video in videos:
            try:
                with open_video(video) as opened:
                    result = work(video, opened)
                    results.append({"video": video, "lost_frames": tell_lost_frames(opened), **result})
            except VideoError as error:
                say(str(error))
                results.append({"video": video, "error": str(error)})
                code = 1
            progress(len(results), len(videos))
    return results, code


def tell_lost_frames(opened: "Video") -> int:
    """How many frames damage has taken, as far as they were looked for; it is told, for the result is of the others."""
    info = opened.info
    if info.lost_frames:
        say(
            f"{opened.name}: {info.lost_frames} of {info.frame_count + info.lost_frames} frames are lost; the others are used"
        )
    return info.lost_frames


def asked_labels(
    model: "VideoCLIP", names: list[str] | None, file: Path | None, source: "TextSource | None"
) -> "Labels | None":
    """What the user asks for; a file with further texts gives a mapping from names to texts."""
    if names is not None and file is not None:
        raise typer.BadParameter("give --labels or --labels-file, not both", param_hint="--labels")
    if file is None:
        return names
    from m2clip.data.manifest import read_classes
    from m2clip.data.text.prompts import class_texts

    table = read_classes(file)
    if not table.texts:
        return table.names
    if source is not None:
        texts = source.texts(table.names, further=table.texts)
    else:
        info = model.info
        texts = class_texts(
            table.names, template=info.template, more_templates=info.more_templates, further=table.texts
        )
    return dict(zip(table.names, texts, strict=True))

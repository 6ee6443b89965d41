"""Options that several commands share, and what their texts mean."""

import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2clip.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from m2clip.data.text.descriptions import TextSource
    from m2clip.data.video import Video


class OnBadFile(StrEnum):
    """What a file that cannot be read does."""

    skip = "skip"
    stop = "stop"


class PrecisionName(StrEnum):
    """What recognition and evaluation compute in."""

    fp32 = "fp32"
    bf16 = "bf16"
    auto = "auto"


def _check_local_rank(given: int | None) -> None:
    """Launchers put the rank into the environment, and some of them into the arguments as well."""
    if given is not None and os.environ.get("LOCAL_RANK") != str(given):
        raise typer.BadParameter("ranks are read from the environment (LOCAL_RANK); start the processes with torchrun")


LocalRank = Annotated[int | None, typer.Option("--local-rank", "--local_rank", hidden=True, callback=_check_local_rank)]
_MOST_VIEWS = 256  # the clips of one video are encoded together: 8 frames of 224 pixels are 5 MB a view

_VIDEO = "video files, folders of images, .npy files, http:// or https:// addresses, or - for standard input"
Videos = Annotated[list[str], typer.Argument(metavar="VIDEO...", help=f"{_VIDEO[0].upper()}{_VIDEO[1:]}.")]
OneVideo = Annotated[str, typer.Argument(metavar="VIDEO", help=f"One of {_VIDEO}.")]
LabelsOption = Annotated[str | None, typer.Option("--labels", help='Names, separated by commas: "running,\\"a, b\\"".')]
LabelsFile = Annotated[
    Path | None, typer.Option("--labels-file", help="Class table: CSV id,name[,text_1...] or one name a line.")
]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        help="A checkpoint, hf-hub:owner/name, or a backbone with fresh adapters (builtin knows coloured shapes only).",
    ),
]
Weights = Annotated[str | None, typer.Option("--weights", help="The CLIP's weight file, if it is not found by itself.")]
Views = Annotated[str, typer.Option("--views", help="Temporal x spatial views of each video, as in 4x3.")]
Frames = Annotated[int | None, typer.Option("--frames", min=1, max=1024, help="Frames of a clip; default: as trained.")]
StrideFrames = Annotated[
    int | None,
    typer.Option(
        "--stride-frames",
        min=0,
        max=2**31 - 1,
        help="Gap between a clip's frames, in frames of the video; 0: uniform segments.",
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps", min=1e-6, max=1e6, help="Frames that a clip takes of each second, whatever the video's rate."
    ),
]
ClipSeconds = Annotated[
    float | None,
    typer.Option("--clip-seconds", min=1e-6, max=1e6, help="Seconds from a clip's first frame to its last."),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        min=0,
        max=1,
        help="Share of the adapters' effect, 0 (frozen CLIP) to 1; default: the checkpoint's.",
    ),
]
Precision = Annotated[
    PrecisionName,
    typer.Option("--precision", help="fp32: exact; bf16: faster where the hardware has it; auto: bf16 if it has."),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Run compiled code: the first time takes about a minute, later starts a second or two."
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one.")]
Top = Annotated[int, typer.Option("--top", min=1, help="How many labels to give.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Templates = Annotated[
    Path | None,
    typer.Option("--templates", help="Text file of sentences with {}, one a line, instead of the checkpoint's."),
]
Texts = Annotated[
    Path | None,
    typer.Option("--texts", help='JSON {"class": ["text", ...]}: instead of the checkpoint\'s, or behind --templates.'),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Videos at a time.")]
Workers = Annotated[int, typer.Option("--workers", min=0, max=256, help="Processes that decode; 0: this one.")]
BadFilePolicy = Annotated[
    OnBadFile, typer.Option("--on-bad-file", help="skip: name, count, go on; stop: end with an error.")
]
MostLost = Annotated[
    float,
    typer.Option("--most-lost", min=0, max=1, help="Share of its frames that a video may have lost before it is bad."),
]
FileSeconds = Annotated[
    float, typer.Option("--file-seconds", min=1e-3, help="How long a video may keep a worker busy before it is bad.")
]
Root = Annotated[Path | None, typer.Option("--root", help="Folder that paths in a list are relative to.")]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class table: CSV id,name or one name a line.")]


def open_video(name: str) -> "Video":
    """The video of this name, - being standard input; VideoError as of Video."""
    from m2clip.data.video import Video

    if name != "-":
        return Video(name)
    if sys.stdin is None or sys.stdin.isatty():
        raise VideoError("- is standard input, and nothing is piped into it: write `cat clip.mp4 | m2clip classify -`")
    return Video(sys.stdin.buffer)


def text_source(templates: Path | None, texts: Path | None) -> "TextSource | None":
    """What --templates and --texts name, read; None without them."""
    from m2clip.data.text.descriptions import read_text_source

    return read_text_source(templates=templates, descriptions=texts)


def view_counts(views: str) -> tuple[int, int]:
    """'4x3' -> (4, 3)."""
    match = re.fullmatch(r"([1-9][0-9]?)x([1-9][0-9]?)", views)
    if match is None:
        raise typer.BadParameter(
            f"{views!r} is not of the form 4x3 (temporal x spatial, up to 99 each)", param_hint="--views"
        )
    temporal, spatial = int(match[1]), int(match[2])
    if temporal * spatial > _MOST_VIEWS:
        raise typer.BadParameter(f"{views} are more than {_MOST_VIEWS} views of a video", param_hint="--views")
    return temporal, spatial


def sampling_options(
    frames: int | None, stride_frames: int | None, fps: float | None, clip_seconds: float | None
) -> dict[str, Any]:
    """What --frames and the three ways to take frames ask for, as keywords of `ClipSampling.changed`; one way at most."""
    ways = {"--stride-frames": stride_frames, "--fps": fps, "--clip-seconds": clip_seconds}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"give only one of {' and '.join(given)}", param_hint=given[0])
    return {"frames": frames, "stride_frames": stride_frames, "fps": fps, "clip_seconds": clip_seconds}


def split_labels(text: str | None) -> list[str] | None:
    """'a, "b, c"' -> ["a", "b, c"]."""
    if text is None:
        return None
    from m2clip.labels import listed_labels

    try:
        return listed_labels(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--labels") from None

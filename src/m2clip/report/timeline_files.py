"""The timeline of a video as a file: JSON, CSV, WebVTT (subtitles that players show) or a picture."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2clip.errors import ConfigError
from m2clip.report import figures
from m2clip.report.files import results_file, write_csv, write_json, write_whole
from m2clip.report.timeline_figure import timeline_figure

if TYPE_CHECKING:
    from m2clip.timeline import Moment, Window

ENDINGS = (".json", ".csv", ".vtt", ".png")
SUBTITLES_HEAD = "WEBVTT\n"


def check_ending(path: Path) -> None:
    """ConfigError, before any work, for a file that cannot be written: unknown ending, no matplotlib for a picture, no such folder."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"a timeline cannot be written to {path}: its name must end in {', '.join(ENDINGS)}")
    if ending == ".png" and not figures.available():
        raise ConfigError(f"to draw {path} matplotlib is needed: pip install 'm2clip[train]'")
    results_file(path)


def write_timeline(
    path: Path,
    *,
    document: Mapping[str, Any],
    windows: Sequence["Window"],
    moments: Sequence["Moment"],
    top: int,
    title: str,
) -> None:
    """Write windows in the form that the ending names: all of `document`, a row a prediction, or (subtitles, picture) the moments."""
    ending = path.suffix.lower()
    if ending == ".json":
        write_json(path, document)
    elif ending == ".csv":
        _write_table(path, windows, top)
    elif ending == ".vtt":
        write_whole(path, subtitles(moments))
    else:
        write_whole(path, timeline_figure(windows, moments, title=title))


def _write_table(path: Path, windows: Sequence["Window"], top: int) -> None:
    rows = (
        (window.start_seconds, window.end_seconds, rank, one.label, one.score, str(window.none_of_these).lower())
        for window in windows
        for rank, one in enumerate(window.predictions[:top], 1)
    )
    write_csv(path, ("start_seconds", "end_seconds", "rank", "label", "score", "none_of_these"), rows)


def subtitles(moments: Sequence["Moment"]) -> str:
    """WebVTT (W3C, "The Web Video Text Tracks Format"): a cue for each moment, with its label and score."""
    return SUBTITLES_HEAD + "".join(
        cue(moment.start_seconds, moment.end_seconds, moment.label, moment.score) for moment in moments
    )


def cue(start_seconds: float, end_seconds: float, label: str, score: float) -> str:
    """One cue, to be put behind the head or another cue; nothing for what is gone within a millisecond and cannot be shown."""
    start, end = _milliseconds(start_seconds), _milliseconds(end_seconds)
    # A line feed or "-->" in a name would end the cue; < and & begin tags and escapes.
    name = escape(" ".join(label.replace("\0", "").split()), quote=False)
    return f"\n{_clock(start)} --> {_clock(end)}\n{name} ({score:.2f})\n" if end > start else ""


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{thousandths:03d}"

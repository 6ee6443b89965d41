"""The timeline of a video as a picture: a row for each action, darker where its score is higher, underlined where it is the best."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from m2clip.report.figures import new_figure, png_bytes, short_name

if TYPE_CHECKING:
    from matplotlib.ticker import MultipleLocator

    from m2clip.timeline import Moment, Window

MOST_ROWS = 12
COLUMNS = 1400
# Colours of Okabe and Ito, which the colour-blind can tell apart; yellow is left out, for it is hardly seen on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
_BAND, _LINE, _GAP = 8, 3, 3  # heights within a row: the scores, the line under the best, what is left free


def timeline_figure(windows: Sequence["Window"], moments: Sequence["Moment"], *, title: str) -> bytes:
    """PNG of a video of any length: of many windows that fall into one column of the picture, the highest score is seen.

    Of many actions the 12 that are the best for longest, then those with the highest scores.
    """
    from matplotlib.colors import to_rgb

    rows, left_out = _rows(windows, moments)
    end = windows[-1].end_seconds
    columns = int(np.clip(4 * len(windows), 200, COLUMNS))
    height = _BAND + _LINE + _GAP
    picture = np.ones((len(rows) * height, columns, 3))
    number = {label: row for row, label in enumerate(rows)}
    scores = np.zeros((len(rows), columns))
    for window in windows:
        place = _columns(window.start_seconds, window.end_seconds, end, columns)
        for one in window.predictions:
            if one.label in number:
                band = scores[number[one.label], place]
                np.maximum(band, one.score, out=band)
    best = np.zeros((len(rows), columns), dtype=bool)
    for moment in moments:
        if moment.label in number:
            best[number[moment.label], _columns(moment.start_seconds, moment.end_seconds, end, columns)] = True
    for row in range(len(rows)):
        colour = np.array(to_rgb(_COLOURS[row % len(_COLOURS)]))
        top = row * height
        picture[top : top + _BAND] = 1 - scores[row][:, None] * (1 - colour)
        picture[top + _BAND : top + _BAND + _LINE][:, best[row]] = colour * 0.75
    figure = new_figure(12, 1.5 + 0.42 * len(rows))
    axes = figure.add_subplot()
    axes.imshow(picture, aspect="auto", interpolation="nearest", extent=(0, end, len(rows) * height, 0))
    middles = [row * height + _BAND / 2 for row in range(len(rows))]
    axes.set_yticks(middles, [short_name(label) for label in rows], fontsize=9, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(_clock_ticks(end))
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds, end))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time; the darker, the higher the score; underlined: the best")
    more = f", {left_out} more actions are the best at some time" if left_out else ""
    axes.set_title(short_name(title, 90) + more, fontsize=10, parse_math=False)
    return png_bytes(figure)


def clock(seconds: float, end_seconds: float) -> str:
    """A time as players write it: 1:05, in a video of an hour or more 0:01:05; in a short one with tenths, 5.5."""
    if end_seconds < 10:
        return f"{seconds:.1f}"
    whole = round(seconds)
    if end_seconds < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _rows(windows: Sequence["Window"], moments: Sequence["Moment"]) -> tuple[list[str], int]:
    """The actions that get a row, in the order in which they are first the best, and how many more are the best somewhere."""
    seconds: dict[str, float] = defaultdict(float)
    for moment in moments:
        seconds[moment.label] += moment.end_seconds - moment.start_seconds
    highest: dict[str, float] = defaultdict(float)
    for window in windows:
        for one in window.predictions:
            highest[one.label] = max(highest[one.label], one.score)
    order = sorted(highest, key=lambda label: (-seconds.get(label, 0.0), -highest[label], label))
    # What is never the best and hardly likely would be an empty row.
    order = [label for label in order if label in seconds or highest[label] >= 0.1] or order[:1]
    shown = order[:MOST_ROWS]
    first = {moment.label: moment.start_seconds for moment in reversed(moments)}
    return sorted(shown, key=lambda label: first.get(label, math.inf)), sum(
        label in seconds for label in order[MOST_ROWS:]
    )


def _columns(start: float, end: float, whole: float, columns: int) -> slice:
    """The columns of a stretch, one at least."""
    first = min(int(start / whole * columns), columns - 1)
    return slice(first, max(first + 1, round(end / whole * columns)))


def _clock_ticks(end_seconds: float) -> "MultipleLocator":
    from matplotlib.ticker import MultipleLocator

    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    return MultipleLocator(next((step for step in steps if end_seconds / step <= 14), end_seconds / 10))

"""What answers look like: HTML made of numbers and of escaped text."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2clip.app.page.names import clock, percent
from m2clip.app.page.pictures import frame_picture, heat_picture
from m2clip.scoring import Prediction

if TYPE_CHECKING:
    from m2clip.explanations import Explanation


def empty(title: str, text: str, *, commands: Sequence[str] = ()) -> str:
    """A place that has nothing to show yet, and what brings something there."""
    shown = "".join(f"<pre><code>{escape(line)}</code></pre>" for line in commands)
    return f'<div class="m2-empty"><p class="m2-title">{escape(title)}</p><p>{escape(text)}</p>{shown}</div>'


def loading(text: str) -> str:
    """Something is under way."""
    return f'<p class="m2-status m2-busy"><span class="m2-spin" aria-hidden="true"></span>{escape(text)}</p>'


def skeleton(rows: int = 5) -> str:
    """Grey bars where an answer will stand."""
    return f'<div class="m2-skeleton" aria-hidden="true">{"<span></span>" * rows}</div>'


def done(text: str) -> str:
    """What was done, in a line."""
    return f'<p class="m2-status m2-done">{escape(text)}</p>'


def trouble(sentence: str, *, remedy: str = "") -> str:
    """What went wrong, in the server's own sentence, and what to do."""
    if "." not in sentence.split(" ")[0]:  # a file's name stays as it is
        sentence = sentence[:1].upper() + sentence[1:]
    more = f'<p class="m2-remedy">{escape(remedy)}</p>' if remedy else ""
    return f'<div class="m2-trouble"><p>{escape(sentence)}</p>{more}</div>'


def bars(
    predictions: Sequence[Prediction],
    *,
    total: int,
    chosen: str | None = None,
    none_of_these: bool = False,
    choose: bool = True,
) -> str:
    """Scores best first, each a bar with its number; with `choose`, each a button that picks the label of the map."""
    rows = []
    for place, one in enumerate(predictions):
        inside = (
            f'<span class="m2-name">{escape(one.label)}</span><span class="m2-value">{percent(one.score)}</span>'
            f'<span class="m2-track" aria-hidden="true"><span style="width:{100 * one.score:.2f}%"></span></span>'
        )
        if choose:
            pressed = "true" if one.label == chosen else "false"
            inside = (
                f'<button type="button" class="m2-bar" data-place="{place}" aria-pressed="{pressed}">{inside}</button>'
            )
        else:
            inside = f'<div class="m2-bar">{inside}</div>'
        rows.append(f"<li>{inside}</li>")
    notice = (
        '<p class="m2-none"><strong>None of these.</strong> The best score is below the threshold that was set for this model.</p>'
        if none_of_these
        else ""
    )
    rest = total - len(predictions)
    more = f'<p class="m2-note">and {rest} more, each lower</p>' if rest > 0 and predictions else ""
    return f'{notice}<ol class="m2-bars{" m2-unsure" if none_of_these else ""}">{"".join(rows)}</ol>{more}'


def strip(
    pixels: NDArray[np.uint8],
    indices: NDArray[np.int64],
    seconds: NDArray[np.float64],
    found: "Explanation | None" = None,
) -> str:
    """Frames uint8 [T, 3, S, S] with their numbers and times [T] below; over them, where there is one, what an explanation marks."""
    cells = []
    for t, picture in enumerate(pixels):
        layers = f'<img src="{frame_picture(picture)}" alt="Frame {indices[t]}, at {seconds[t]:.2f} seconds">'
        bar = ""
        if found is not None:
            layers += f'<img class="m2-heat" src="{heat_picture(found.heat[t])}" alt="">'
            if found.difference is not None:
                layers += f'<img class="m2-change" src="{heat_picture(found.difference[t])}" alt="">'
            share = float(found.time[t])
            width = share / max(float(np.max(found.time)), 1e-12)  # full is the largest share
            bar = (
                f'<span class="m2-share" title="{percent(share)} of all that is marked" aria-hidden="true">'
                f'<span style="width:{100 * width:.0f}%"></span></span>'
            )
        cells.append(
            f'<li><figure><div class="m2-frame">{layers}</div>{bar}<figcaption>{seconds[t]:.2f} s'
            f'<span class="m2-faint"> #{indices[t]}</span></figcaption></figure></li>'
        )
    return f'<ol class="m2-strip" aria-label="The {len(pixels)} frames that the model sees">{"".join(cells)}</ol>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Short facts in a row."""
    return (
        '<dl class="m2-facts">'
        + "".join(f"<div><dt>{escape(a)}</dt><dd>{escape(b)}</dd></div>" for a, b in pairs)
        + "</dl>"
    )


def moment(start: float, end: float) -> str:
    """A stretch of a video for people."""
    return f"{clock(start)} – {clock(end)}"

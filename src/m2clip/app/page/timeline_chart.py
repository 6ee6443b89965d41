"""The timeline of a video: a lane for each of its best actions, and its moments one after the other; both lead into the player."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from m2clip.app.page.markup import moment
from m2clip.app.page.names import clock, percent
from m2clip.timeline import moments

if TYPE_CHECKING:
    from m2clip.timeline import Window

MOST_LANES = 5
LEAST_SCORE = 0.05
MOST_MOMENTS = 60
_HEIGHT = 30  # of a lane's drawing, in its own units


def timeline_chart(windows: Sequence["Window"], *, note: str = "") -> str:
    """Windows in their order, each with predictions of the same labels -> lanes of scores over time, and the list of moments."""
    duration = windows[-1].end_seconds
    middles = [(window.start_seconds + window.end_seconds) / 2 for window in windows]
    scores = [{one.label: one.score for one in window.predictions} for window in windows]
    best: dict[str, float] = {}
    for window in windows:
        for one in window.predictions:
            best[one.label] = max(best.get(one.label, 0.0), one.score)
    found = list(moments(windows))
    first = {one.label for one in found}
    # What is best somewhere stands before what never is; what never comes near has no lane.
    shown = [label for label in best if label in first or best[label] >= LEAST_SCORE]
    labels = sorted(shown, key=lambda label: (label not in first, -best[label]))[:MOST_LANES]
    lanes = "".join(
        f'<div class="m2-lane"><p><span class="m2-name">{escape(label)}</span> '
        f'<span class="m2-faint">up to {percent(best[label])}</span></p>'
        f"{_curve([row.get(label, 0.0) for row in scores], middles, duration)}</div>"
        for label in labels
    )
    parts = 4 if duration >= 0.4 else 1  # times have tenths of a second
    ticks = "".join(f"<span>{clock(duration * k / parts)}</span>" for k in range(parts + 1))
    rows = "".join(
        f'<li><button type="button" class="m2-moment" data-seek="{one.start_seconds:.3f}" data-end="{one.end_seconds:.3f}">'
        f'<span class="m2-when">{moment(one.start_seconds, one.end_seconds)}</span>'
        f'<span class="m2-name">{escape(one.label)}</span><span class="m2-value">{percent(one.score)}</span></button></li>'
        for one in found[:MOST_MOMENTS]
    )
    rest = len(found) - MOST_MOMENTS
    more = f'<p class="m2-note">and {rest} later moments</p>' if rest > 0 else ""
    if not found:
        more = '<p class="m2-note">None of these actions at any time, by the threshold that was set for this model.</p>'
    step = windows[1].start_seconds - windows[0].start_seconds if len(windows) > 1 else duration
    return (
        f'<p class="m2-note">{escape(note)}</p>'
        f'<div class="m2-lanes" tabindex="0" role="slider" aria-label="Place in the video" aria-valuemin="0" '
        f'aria-valuemax="{duration:.1f}" aria-valuenow="0" aria-valuetext="0:00.0" data-duration="{duration:.3f}" data-step="{step:.3f}">'
        f'{lanes}<span class="m2-head" aria-hidden="true"></span></div><div class="m2-ticks" aria-hidden="true">{ticks}</div>'
        f'<ol class="m2-moments" aria-label="Moments">{rows}</ol>{more}'
    )


def _curve(scores: Sequence[float], middles: Sequence[float], duration: float) -> str:
    """Scores over time as a filled curve, as wide as the page lets it be."""
    # The first and the last window speak for the video's ends.
    points = [(0.0, scores[0]), *zip(middles, scores, strict=True), (duration, scores[-1])]
    line = " ".join(f"{1000 * x / max(duration, 1e-9):.1f},{_HEIGHT * (1 - y):.2f}" for x, y in points)
    return (
        f'<svg viewBox="0 0 1000 {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="0,{_HEIGHT} {line} 1000,{_HEIGHT}"/><polyline points="{line}"/></svg>'
    )

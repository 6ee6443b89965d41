"""Figures as PNG bytes. matplotlib is imported on first use and never through pyplot, so no global state changes.

Class names are set as plain text: with matplotlib's own reading of "$" a class "$5 to $6" would become a formula.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2clip.report.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES_WITH_NAMES = 60
"""Above this, names on the axes of a confusion matrix cannot be read any more."""
BARS = 40
NAME_LETTERS = 40


def available() -> bool:
    """Whether matplotlib is installed (it comes with the extra `train`)."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def confusion_figure(confusion: NDArray[np.int64], class_names: Sequence[str], title: str) -> bytes:
    """[K, K] counts -> the shares of each true class (row); with up to 15 classes the counts stand in the cells."""
    count = len(class_names)
    side = min(4 + 0.3 * count, 16)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, parse_math=False)
    if count <= CLASSES_WITH_NAMES:
        names = [short_name(name) for name in class_names]
        axes.set_xticks(range(count), names, rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(count), names, fontsize=8, parse_math=False)
    if count <= 15:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8)
    return png_bytes(figure)


def class_bars(metrics: Metrics, title: str) -> bytes:
    """Accuracy of each class that has videos, worst at the top; of many classes the worst 40."""
    rows = [(row.accuracy, row) for row in metrics.classes if row.accuracy is not None]
    shown = sorted(rows, key=lambda pair: pair[0])[:BARS]
    figure = new_figure(8, 1.5 + 0.25 * len(shown))
    axes = figure.add_subplot()
    positions = range(len(shown))
    axes.barh(positions, [accuracy for accuracy, _ in shown], color="#3b6ea5")
    mean_label = f"mean of all classes {metrics.mean_class:.3f}"
    axes.axvline(metrics.mean_class, color="#c0392b", linewidth=1, label=mean_label)
    axes.set_yticks(
        positions, [f"{short_name(row.name)} ({row.videos})" for _, row in shown], fontsize=8, parse_math=False
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy (number of videos in brackets)")
    more = f",\nthe {len(shown)} worst of {len(rows)} classes" if len(shown) < len(rows) else ""
    axes.set_title(title + more, parse_math=False)
    figure.legend(loc="outside lower right", fontsize=8)
    return png_bytes(figure)


def reliability_figure(metrics: Metrics, title: str) -> bytes:
    """The share of right answers by how sure the model was, beside the line of a model that keeps its word; below, how many videos."""
    bins = [row for row in metrics.reliability if row.accuracy is not None]
    middles = [(row.low + row.high) / 2 for row in bins]
    width = 0.92 * (metrics.reliability[0].high - metrics.reliability[0].low)
    figure = new_figure(5.5, 5.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.bar(middles, [row.accuracy or 0.0 for row in bins], width=width, color="#3b6ea5", label="right answers")
    confidences = [row.confidence or 0.0 for row in bins]
    upper.plot(confidences, confidences, "o", color="#D55E00", label="what its probabilities promise")
    upper.plot([0, 1], [0, 1], color="#555555", linewidth=1, linestyle=":")
    upper.set_ylim(0, 1.03)
    upper.set_ylabel("share of right answers")
    upper.set_title(f"{title}\nECE {100 * metrics.ece:.1f} %, {metrics.videos} videos", parse_math=False)
    lower.bar(middles, [row.videos for row in bins], width=width, color="#999999")
    lower.set_ylabel("videos")
    lower.set_xlim(0, 1)
    lower.set_xlabel("probability of the best class")
    upper.legend(loc="upper left", fontsize=9)
    return png_bytes(figure)


def strength_figure(
    strengths: Sequence[float],
    lines: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    harmonic: Sequence[float] | None,
    best: float,
) -> bytes:
    """Accuracy by adapter strength: for each line the values with their 95 % intervals (value, low, high), as bands."""
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    # Colours of Okabe and Ito, which the colour-blind can tell apart; marks differ, too.
    for (name, points), colour, mark in zip(lines.items(), ("#0072B2", "#D55E00"), ("o", "s"), strict=False):
        values, low, high = zip(*points, strict=True)
        axes.plot(strengths, values, color=colour, marker=mark, label=name)
        axes.fill_between(strengths, low, high, color=colour, alpha=0.15, linewidth=0)
    if harmonic is not None:
        axes.plot(strengths, harmonic, color="#009E73", marker="^", linestyle="--", label="harmonic mean")
    axes.axvline(best, color="#555555", linewidth=1, linestyle=":", label=f"best: {best:g}")
    axes.set_xlabel("adapter strength (0: frozen CLIP, 1: as trained)")
    axes.set_ylabel("top-1 (band: 95 % interval)")
    axes.set_ylim(0, 1.03)  # a mark at 1 is seen whole
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return png_bytes(figure)


def short_name(name: str, most: int = NAME_LETTERS) -> str:
    """A name, cut where it has more letters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def new_figure(width_inches: float, height_inches: float) -> "Figure":
    """An empty figure that draws without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables carry it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()

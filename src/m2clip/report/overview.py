"""Figures of a whole run: accuracies side by side, training curves, and a strip of frames with what was said of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2clip.report.figures import new_figure, png_bytes
from m2clip.scoring import Prediction

COLOURS = ("#9aa5b1", "#3b6ea5", "#c0392b", "#2e8b57")


def accuracy_bars(accuracies: Mapping[str, Mapping[str, float]], *, chance: Mapping[str, float], title: str) -> bytes:
    """Bars of `accuracies[model][data set]` (0..1), grouped by data set; `chance[data set]` is a dashed line across its group."""
    models, groups = list(accuracies), list(next(iter(accuracies.values())))
    figure = new_figure(1.5 + 2.2 * len(groups), 4)
    axes = figure.add_subplot()
    width = 0.8 / len(models)
    for m, model in enumerate(models):
        heights = [accuracies[model][group] for group in groups]
        places = [g - 0.4 + width * (m + 0.5) for g in range(len(groups))]
        bars = axes.bar(places, heights, width, color=COLOURS[m % len(COLOURS)], label=model)
        axes.bar_label(bars, [f"{100 * height:.1f} %" for height in heights], padding=2, fontsize=9)
    for g, group in enumerate(groups):
        axes.hlines(chance[group], g - 0.45, g + 0.45, colors="black", linestyles="dashed", linewidth=1)
    axes.plot([], [], color="black", linestyle="dashed", linewidth=1, label="chance")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("top-1")
    axes.set_title(title, parse_math=False)
    axes.legend(loc="upper center", fontsize=9, ncols=len(models) + 1)
    return png_bytes(figure)


def training_curves(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss terms by step (smoothed over an epoch) and validation top-1 by epoch, from the lines of a run's log."""
    steps = [record for record in records if record["kind"] == "step"]
    epochs = [record for record in records if record["kind"] == "epoch"]
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    window = max(len(steps) // max(len(epochs), 1), 1)
    for term in ("total", "contrastive", "cross_modal", "visual", "mlm"):
        values = np.array([record[term] for record in steps if isinstance(record.get(term), int | float)])
        if len(values) >= window:
            smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
            left.plot(np.arange(len(smooth)) + window, smooth, label=term, linewidth=2 if term == "total" else 1)
    left.set_xlabel("step")
    left.set_ylabel(f"loss (mean of {window} steps)")
    left.set_ylim(bottom=0)
    if left.get_lines():
        left.legend(fontsize=9)
    for name in ("similarity", "visual", "ensemble"):
        points = [(record["epoch"], record[f"{name}_top1"]) for record in epochs if f"{name}_top1" in record]
        if points:
            right.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    right.set_xlabel("epoch")
    right.set_ylabel("validation top-1")
    right.set_ylim(0, 1)
    if right.get_lines():
        right.legend(fontsize=9)
    return png_bytes(figure)


def frame_strip(
    frames: NDArray[np.uint8], predictions: Mapping[str, Sequence[Prediction]], *, truth: str | None = None
) -> bytes:
    """Frames [T, H, W, 3] in a row; below them one panel of score bars for each model in `predictions`, best first."""
    figure = new_figure(1.4 * len(frames) + 1, 1.9 + 0.32 * max(len(p) for p in predictions.values()))
    rows = figure.add_gridspec(2, 1, height_ratios=[1.3, 0.32 * max(len(p) for p in predictions.values())])
    pictures = rows[0].subgridspec(1, len(frames))
    for t, frame in enumerate(frames):
        axes = figure.add_subplot(pictures[0, t])
        axes.imshow(frame)
        axes.set_axis_off()
        axes.set_title(f"frame {t + 1}", fontsize=8)
    panels = rows[1].subgridspec(1, len(predictions))
    for m, (model, best) in enumerate(predictions.items()):
        axes = figure.add_subplot(panels[0, m])
        colours = ["#2e8b57" if p.label == truth else "#9aa5b1" for p in best]
        axes.barh(range(len(best)), [p.score for p in best], color=colours)
        for row, prediction in enumerate(best):
            # Inside the axes, so that long names never run out of the figure.
            text = f"{prediction.label}  {100 * prediction.score:.0f} %"
            axes.text(0.01, row, text, va="center", fontsize=8, parse_math=False)
        axes.set_yticks([])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_title(model, fontsize=9, parse_math=False)
    return png_bytes(figure)

"""The figures of a study: one test part against another, and accuracy along a number. PNG bytes."""

from collections.abc import Sequence

from m2clip.report.figures import new_figure, png_bytes
from m2clip.study.config import StudyConfig
from m2clip.study.page_config import FigureConfig, LineConfig, ScatterConfig
from m2clip.study.results import Record, spreads
from m2clip.study.tables import parameters

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
"""Told apart by the colour-blind, too (Okabe and Ito 2008, with grey in the place of yellow)."""
MARKERS = "osD^vPX*"


def figure(config: StudyConfig, wanted: FigureConfig, records: Sequence[Record]) -> bytes | None:
    """The figure that the settings describe; None where none of its measurements is there yet."""
    if isinstance(wanted, ScatterConfig):
        return scatter(config, wanted, records)
    return lines(config, wanted, records)


def scatter(config: StudyConfig, wanted: ScatterConfig, records: Sequence[Record]) -> bytes | None:
    """A circle for each row, at its mean top-1 of two test parts in percent; bars are standard deviations over the seeds.

    The circle's area is proportional to the trained parameters; a row without any is a cross.
    """
    found, (across, up) = spreads(records, wanted.reading), wanted.parts
    sizes = {record.row: record.trained_parameters for record in records if record.data == wanted.data}
    rows = [row for row in wanted.rows if {across, up} <= found.get((row, wanted.data), {}).keys()]
    if not rows:
        return None
    drawing = new_figure(8, 5)
    axes = drawing.add_subplot()
    largest = max(sizes[row] for row in rows) or 1
    for number, row in enumerate(rows):
        x, y = found[(row, wanted.data)][across], found[(row, wanted.data)][up]
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(
            100 * x.mean, 100 * y.mean, xerr=100 * (x.std or 0), yerr=100 * (y.std or 0), color=colour, linewidth=1, capsize=2,
        )  # fmt: skip
        label = f"{config.row_title(row)} ({parameters(sizes[row])})"
        if sizes[row]:
            area = 900 * sizes[row] / largest
            axes.scatter(100 * x.mean, 100 * y.mean, s=area, color=colour, alpha=0.45, edgecolors=colour)
            axes.scatter([], [], s=60, color=colour, alpha=0.45, edgecolors=colour, label=label)
        else:
            axes.scatter(100 * x.mean, 100 * y.mean, s=60, color=colour, marker="x", label=label)
    axes.set_xlabel(f"{across}, top-1 in %")
    axes.set_ylabel(f"{up}, top-1 in %")
    axes.margins(0.15)
    axes.set_title(wanted.title, parse_math=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    drawing.legend(
        loc="outside right upper", fontsize=9, title="area: trained parameters", title_fontsize=9, frameon=False
    )
    return png_bytes(drawing)


def lines(config: StudyConfig, wanted: LineConfig, records: Sequence[Record]) -> bytes | None:
    """For each line and test part the mean top-1 in percent along x; bars are standard deviations over the seeds."""
    found = spreads(records, wanted.reading)
    drawing = new_figure(7.5, 4.5)
    axes = drawing.add_subplot()
    drawn = 0
    for name, points in wanted.lines.items():
        for part in wanted.parts:
            measured = []
            for point in points:
                spread = found.get((point[1], wanted.data_of(point)), {}).get(part)
                if spread is not None:
                    measured.append((point[0], spread))
            if not measured:
                continue
            measured.sort(key=lambda pair: pair[0])
            axes.errorbar(
                [x for x, _ in measured],
                [100 * spread.mean for _, spread in measured],
                yerr=[100 * (spread.std or 0) for _, spread in measured],
                color=COLOURS[drawn % len(COLOURS)],
                marker=MARKERS[drawn % len(MARKERS)],
                capsize=3,
                label=part if len(wanted.lines) == 1 else f"{name}, {part}",
            )
            drawn += 1
    if not drawn:
        return None
    places = sorted({point[0] for points in wanted.lines.values() for point in points})
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xlabel(wanted.x)
    axes.set_ylabel("top-1 in %")
    axes.set_title(wanted.title, parse_math=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    drawing.legend(loc="outside right upper", fontsize=9, frameon=False)
    return png_bytes(drawing)

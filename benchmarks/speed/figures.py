"""The figures of docs/performance.md, as PNG bytes."""

from matplotlib.ticker import EngFormatter

from m2clip.report.figures import new_figure, png_bytes
from m2clip.study.figures import COLOURS
from speed.page import Documents

_SHORT = EngFormatter(sep="")  # 920000 is 920k


def draw(documents: Documents) -> dict[str, bytes]:
    """File name -> figure, of what was measured."""
    return {"performance-scale.png": scale(documents)} if "scale" in documents else {}


def scale(documents: Documents) -> bytes:
    """One panel a curve: time and the work's memory, relative to the smallest size, and a thin line for linear growth."""
    curves = documents["scale"]["values"]["curves"]
    drawing = new_figure(10, 5.5)
    panels = drawing.subplots(2, 3).flatten()
    for axes, curve in zip(panels, curves.values(), strict=True):
        points = curve["points"]
        sizes = [point["x"] / points[0]["x"] for point in points]
        axes.plot(sizes, sizes, color="#bbbbbb", linewidth=1, label="linear growth")
        for key, label, colour, marker in (
            ("seconds", "time", COLOURS[0], "o"),
            ("work_gib", "memory of the work", COLOURS[1], "s"),
        ):
            first = points[0][key]
            if first:
                axes.plot(sizes, [point[key] / first for point in points], color=colour, marker=marker, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(sizes, [_SHORT(float(f"{point['x']:.2g}")) for point in points], minor=False)
        axes.set_xlabel(curve["x"])
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("smallest = 1")
    panels[3].set_ylabel("smallest = 1")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return png_bytes(drawing)

"""docs/performance.md: the text between the marks is made from the JSON files; what stands around it is written by hand."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Documents = Mapping[str, dict[str, Any]]
"""What was measured, by section; sections that were not are absent."""

ABSENT = "Not measured yet."
END = "<!-- end -->"


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals."""

    title: str
    section: str
    key: str
    """Of the section's ratios, values or medians of seconds."""
    limit: float
    at_least: bool = False
    percent: bool = False
    unit: str = ""

    def row(self, documents: Documents) -> list[str]:
        """Title, goal, measured, and whether that is enough."""
        sign = "≥" if self.at_least else "≤"
        value = self.value(documents)
        if value is None:
            return [self.title, f"{sign} {self._shown(self.limit)}", "", ""]
        met = value >= self.limit if self.at_least else value <= self.limit
        return [self.title, f"{sign} {self._shown(self.limit)}", self._shown(value), "yes" if met else "no"]

    def value(self, documents: Documents) -> float | None:
        """What was measured."""
        document = documents.get(self.section)
        if document is None:
            return None
        for group in ("ratios", "values"):
            if self.key in document[group]:
                return document[group][self.key]
        return document["seconds"][self.key]["median"]

    def _shown(self, value: float) -> str:
        return f"{100 * value:.0f} %" if self.percent else f"{number(value)}{self.unit}"


GOALS = (
    Goal("inference, bf16, one video: ours / CLIP's image tower", "inference", "ours / tower, bf16, batch 1", 1.0),
    Goal("inference, bf16, four videos: the same", "inference", "ours / tower, bf16, batch 4", 0.85),
    Goal("inference, fp32, one video: the same", "inference", "ours / tower, fp32, batch 1", 1.1),
    Goal("inference, fp32, four videos: the same", "inference", "ours / tower, fp32, batch 4", 1.1),
    Goal(
        "a video in a batch of four / a video alone, bf16",
        "inference",
        "a video in a batch of 4 / alone, bf16",
        1.0,
    ),
    Goal(
        "share of `torch.mm`'s rate, bf16, four videos",
        "inference",
        "share of torch.mm, bf16, batch 4",
        0.85,
        at_least=True,
        percent=True,
    ),
    Goal("training step, bf16, four videos: ours / the tower's forward pass", "training", "step / tower", 1.8),
    Goal("peak memory of `m2clip train` with that step", "training", "peak_gib", 3.5, unit=" GiB"),
    Goal("test item, 3x4 views: ours / resizing everything", "reading", "ours / resizing everything, test item", 0.12),
    Goal("8 frames of 60 s, 720p, GOP 30: ours / decoding everything", "reading", "ours / decoding everything, 60 s, GOP 30", 0.15),
    Goal("the same, GOP 250", "reading", "ours / decoding everything, 60 s, GOP 250", 0.6),
    Goal("8 frames of a 10-minute file / of a 10-second file, GOP 30", "reading", "ours / short file, 600 s, GOP 30", 3.0),
    Goal("`classify`, whole process", "startup", "m2clip classify", 4.0, unit=" s"),
    Goal("`m2clip --help`, whole process", "startup", "m2clip --help", 0.4, unit=" s"),
    Goal("`import m2clip`, beyond Python's own start", "startup", "import m2clip alone, seconds", 0.1, unit=" s"),
)  # fmt: skip


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents of a folder."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def performance_page(text: str, documents: Documents) -> str:
    """The page with its marked parts made anew. A part without a mark, or a mark without a part, is a mistake."""
    marked = re.findall(r"<!-- (\w+): made by benchmarks/bench.py -->", text)
    if sorted(marked) != sorted(PARTS):
        raise ValueError(f"the page has the marks {sorted(marked)}; it needs {sorted(PARTS)}, each once")
    for name, make in PARTS.items():
        begin = f"<!-- {name}: made by benchmarks/bench.py -->"
        before, rest = text.split(begin)
        needed = name if name != "goals" else next(iter(documents), "")
        made = make(documents) if needed in documents else ABSENT
        text = f"{before}{begin}\n\n{made}\n\n{END}{rest.split(END, 1)[1]}"
    return text


def number(value: float) -> str:
    """Three digits: 0.0123, 1.23, 12.3, 123."""
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 2
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.{max(digits, 0)}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _machine(document: Mapping[str, Any]) -> str:
    machine, versions = document["machine"], document["versions"]
    bf16 = ", ".join(machine["bf16_instructions"]) or "none"
    return (
        f"{machine['processor']}, {machine['cores']} cores (bf16 instructions: {bf16}), {machine['memory_gib']:.0f} GiB; torch "
        f"{versions['torch']}, transformers {versions['transformers']}, PyAV {versions['av']}, Python {versions['python']}; "
        f"load before the start {machine['load_before']:.1f}. Regenerate: `{document['command']}`."
    )


def _goals(documents: Documents) -> str:
    return table(("", "goal", "measured", "met"), [goal.row(documents) for goal in GOALS])


def _inference(documents: Documents) -> str:
    document = documents["inference"]
    ratios, values, seconds = document["ratios"], document["values"], document["seconds"]
    batch = document["settings"]["batch"]
    columns = [f"{precision}, batch {size}" for precision in ("fp32", "bf16") for size in (1, batch)]
    videos = {column: 1 if column.endswith("batch 1") else batch for column in columns}
    rows = []
    for title, prefix in (
        ("ours / tower", "ours / tower"),
        ("compiled / tower", "compiled / tower"),
        ("ours / plain form", "ours / plain"),
    ):
        found = [ratios.get(f"{prefix}, {column}") for column in columns]
        if any(value is not None for value in found):
            rows.append([title, *("" if value is None else number(value) for value in found)])
    rows.append(
        ["share of `torch.mm`'s rate", *(f"{100 * values[f'share of torch.mm, {column}']:.0f} %" for column in columns)]
    )
    for title, case in (("*ours, ms a video*", "ours"), ("*tower, ms a video*", "tower")):
        rows.append(
            [title, *(f"*{1000 * seconds[f'{case}, {column}']['median'] / videos[column]:.0f}*" for column in columns)]
        )
    gflop = values["gflop"]
    rates: dict[str, dict[str, float]] = {}
    for name, rate in values["gflop_per_second"].items():
        shape, precision = name.removeprefix("torch.mm ").split(", ")
        rates.setdefault(shape, {})[precision] = rate
    return "\n\n".join(
        [
            table(("", *columns), rows),
            f"A video is {gflop['ours']:.0f} GFLOP for us and {gflop['plain']:.0f} for the plain form (a multiply-add is two). What "
            "`torch.mm` reaches at the shapes of the layers:",
            table(
                ("rows x inner x outer", "fp32, GFLOP/s", "bf16, GFLOP/s"),
                [[shape, f"{rate['fp32']:.0f}", f"{rate['bf16']:.0f}"] for shape, rate in rates.items()],
            ),
            _machine(document),
        ]
    )


def ratio_table(document: Mapping[str, Any]) -> str:
    """Each ratio "A / B" or "A / B, where", and the median seconds of A and B behind it."""
    seconds = document["seconds"]
    rows = []
    for name, value in document["ratios"].items():
        pair, _, where = name.partition(", ")
        own, yardstick = (seconds[f"{case}, {where}" if where else case]["median"] for case in pair.split(" / "))
        title = f"{where}: {pair}" if where else pair
        rows.append([title, number(value), f"*{number(own)} / {number(yardstick)} s*"])
    return table(("", "ratio", "*medians, for context*"), rows)


def _section(document: Mapping[str, Any]) -> str:
    return f"{ratio_table(document)}\n\n{_machine(document)}"


def _training(documents: Documents) -> str:
    document = documents["training"]
    values = document["values"]
    peak = f"`m2clip train` with {values['videos']} videos a step and {values['classes']} classes held {number(values['peak_gib'])} GiB."
    return f"{peak}\n\n{_section(document)}"


def _text(documents: Documents) -> str:
    document = documents["text"]
    tokens = document["values"]["tokens"]
    return (
        f"{document['values']['classes']} class texts: the longest has {tokens['longest text']} tokens, the context "
        f"{tokens['full context']}.\n\n{_section(document)}"
    )


def _startup(documents: Documents) -> str:
    document = documents["startup"]
    rows = [[f"`{name}`", f"{number(value['median'])} s"] for name, value in document["seconds"].items()]
    return "\n\n".join([table(("whole process", "median"), rows), _machine(document)])


def _scale(documents: Documents) -> str:
    document = documents["scale"]
    parts = ["![Time and memory along each size, relative to the smallest](images/performance-scale.png)"]
    rows = []
    for name, curve in document["values"]["curves"].items():
        first = curve["points"][0]
        rows += [
            [
                name if point is first else "",
                f"{point['x']:g}",
                number(point["seconds"] / first["seconds"]),
                "" if point["work_gib"] is None else number(point["work_gib"]),
                number(point["process_gib"]),
                number(curve["exponent"]) if point is first else "",
            ]
            for point in curve["points"]
        ]
    head = (
        "along",
        "size",
        "time, first = 1",
        "memory of the work, GiB",
        "of the process, GiB",
        "exponent p of time ~ size^p",
    )
    return "\n\n".join([*parts, table(head, rows), _machine(document)])


PARTS: Mapping[str, Callable[[Documents], str]] = {
    "goals": _goals,
    "inference": _inference,
    "training": _training,
    "reading": lambda documents: _section(documents["reading"]),
    "text": _text,
    "startup": _startup,
    "scale": _scale,
}

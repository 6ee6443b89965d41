"""docs/performance.md: the text between the marks is made from the JSON files; what stands around it is written by hand."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from speed.goals import GOALS, Documents
from speed.markdown import number, table

ABSENT = "Not measured yet."
END = "<!-- end -->"


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


def _machine(document: Mapping[str, Any]) -> str:
    machine, versions = document["machine"], document["versions"]
    bf16 = ", ".join(machine["bf16_instructions"]) or "none"
    return (
        f"{machine['processor']}, {machine['cores']} cores (bf16 instructions: {bf16}), {machine['memory_gib']:.0f} GiB; torch "
        f"{versions['torch']}, transformers {versions['transformers']}, PyAV {versions['av']}, Python {versions['python']}; "
        f"load before the start {machine['load_before']:.1f}. Regenerate: `{document['command']}`."
    )


def _goals(documents: Documents) -> str:
    return table(("", "goal", "measured", "compiled", "met"), [goal.row(documents) for goal in GOALS])


def _inference(documents: Documents) -> str:
    document = documents["inference"]
    ratios, values, seconds = document["ratios"], document["values"], document["seconds"]
    batch = document["settings"]["batch"]
    columns = [f"{precision}, batch {size}" for precision in ("fp32", "bf16") for size in (1, batch)]
    videos = {column: 1 if column.endswith("batch 1") else batch for column in columns}

    def row(title: str, key: str, show: Callable[[float], str]) -> list[str]:
        """A row over the columns; what was not measured stays empty."""
        shown = []
        for column in columns:
            name = f"{key}, {column}"
            value = ratios.get(name, values.get(name, seconds.get(name, {}).get("median")))
            shown.append("" if value is None else show(value / videos[column] if name in seconds else value))
        return [title, *shown]

    def percent(value: float) -> str:
        return f"{100 * value:.0f} %"

    def milliseconds(value: float) -> str:
        return f"*{1000 * value:.0f}*"

    rows = [
        row("ours / tower", "ours / tower", number),
        row("compiled / tower", "compiled / tower", number),
        row("ours / plain form", "ours / plain", number),
        row("share of `torch.mm`'s rate", "ours: share of torch.mm", percent),
        row("the same, compiled", "compiled: share of torch.mm", percent),
        row("page faults a video, ours", "ours: page faults", "{:.0f}".format),
        row("page faults a video, tower", "tower: page faults", "{:.0f}".format),
        *(row(f"*{case}, ms a video*", case, milliseconds) for case in ("ours", "compiled", "tower")),
    ]
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
            f"Compiling took {number(values['compile_seconds'][0])} s, and {number(values['compile_seconds'][1])} s in the next start."
            if "compile_seconds" in values
            else "Compiling was not possible here.",
            _kept(documents, batch),
            _machine(document),
        ]
    )


def _kept(documents: Documents, batch: int) -> str:
    """The same where freed memory is kept."""
    if "kept" not in documents:
        return f"Where freed memory is kept: {ABSENT[0].lower()}{ABSENT[1:]}"
    ratios = documents["kept"]["ratios"]
    shown = [
        f"at batch {size} {number(ratios[f'ours / tower, bf16, batch {size}'])}"
        + (f" (compiled {number(ratios[key])})" if (key := f"compiled / tower, bf16, batch {size}") in ratios else "")
        for size in (1, batch)
    ]
    return (
        "These are processes as Python starts them. In one that keeps freed memory, as `m2clip`'s own commands do, the tower gains, too: "
        f"ours / tower in bf16 is {' and '.join(shown)} there (`{documents['kept']['command']}`)."
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
    step, tower = values["gflop"]["step"], values["gflop"]["tower"]
    work = (
        f"The image side of a step is {step:.0f} GFLOP a video, forward and back, the tower's forward pass {tower:.0f}: "
        f"{number(step / tower)} times as much arithmetic in {number(document['ratios']['step / tower'])} times the time."
    )
    return f"{peak} {work}\n\n{_section(document)}"


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
                f"{point['x']:.0f}",
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

"""A protocol's parts evaluated one after another, and their accuracies put together."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from m2clip.config import Precision
from m2clip.data.dataset import MOST_LOST
from m2clip.data.readers import FILE_SECONDS
from m2clip.data.text.descriptions import TextSource
from m2clip.evaluate import Evaluation, evaluate
from m2clip.evaluate.classes import evaluated_classes
from m2clip.model.precision import for_inference
from m2clip.model.video_clip import VideoCLIP
from m2clip.protocol.loading import Protocol, need_some_video
from m2clip.report import Metrics
from m2clip.report.files import results_folder, write_json, write_whole
from m2clip.report.page import Section, Table, page
from m2clip.terminal import aligned

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ProtocolResult:
    """What a model reached in each part, and over all of them."""

    document: dict[str, Any]
    """What report.json holds: name, title, source, choices, parts (an evaluation's document each), summary."""
    parts: Mapping[str, Evaluation]
    """The evaluation of each part."""

    def summary(self) -> str:
        """The accuracies of each part and over all parts, as lines of text."""
        lines = [self.document["title"]]
        for name, evaluation in self.parts.items():
            lines += ["", f"{name}: {evaluation.summary()}"]
        if len(self.parts) > 1:
            table = _table(self.document["summary"])
            lines += ["", table.caption, *aligned([table.header, *table.rows])]
        return "\n".join(lines)

    def write(self, out: str | Path) -> list[str]:
        """Write report.json, report.html and a folder for each part (as `Evaluation.write`); returns the names."""
        folder = results_folder(Path(out))
        names = [f"{part}/{name}" for part, one in self.parts.items() for name in one.write(folder / part)]
        write_json(folder / "report.json", self.document)
        write_whole(folder / "report.html", _page(self.document))
        return ["report.json", "report.html", *names]


def run_protocol(
    model: VideoCLIP,
    protocol: Protocol,
    *,
    views: tuple[int, int] | None = None,
    frames: int | None = None,
    stride_frames: int | None = None,
    fps: float | None = None,
    clip_seconds: float | None = None,
    texts: TextSource | None = None,
    precision: Precision = "fp32",
    batch_size: int = 8,
    workers: int = 0,
    on_bad_file: Literal["skip", "stop"] = "skip",
    most_lost: float = MOST_LOST,
    file_seconds: float = FILE_SECONDS,
    per_view: bool = False,
    checkpoint: str | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProtocolResult:
    """Evaluate every part with `evaluate`, and put the accuracies together as the protocol says.

    `views` (temporal, spatial), `frames` and `texts` take the place of the protocol's own; the rest is as in `evaluate`. All
    lists and classes are looked at before the first video. Raises ManifestError for lists and for a part of which not one video
    is there, ConfigError where a supervised part has other classes than the model, VideoError where none can be read.
    """
    manifests = {name: protocol.manifest(name, class_names=model.info.class_names) for name in protocol.tests}
    texts = texts or protocol.texts
    for name, manifest in manifests.items():  # what does not fit ends the run here, not after an hour
        head = model.visual_head is not None
        evaluated_classes(model.info, manifest, protocol.tests[name].kind, visual_head=head, texts=texts)
        need_some_video(manifest, part=name)
    model = for_inference(model, precision)  # once for all parts
    temporal, spatial = views or protocol.views
    results: dict[str, Evaluation] = {}
    for name, manifest in manifests.items():
        kind = protocol.tests[name].kind
        results[name] = evaluate(
            model,
            manifest,
            protocol=kind,
            texts=texts,
            views_temporal=temporal,
            views_spatial=spatial,
            frames=frames or protocol.written.frames,
            stride_frames=stride_frames,
            fps=fps,
            clip_seconds=clip_seconds,
            batch_size=batch_size,
            workers=workers,
            on_bad_file=on_bad_file,
            most_lost=most_lost,
            file_seconds=file_seconds,
            per_view=per_view,
            checkpoint=checkpoint,
            tell=tell,
            progress=progress,
        )
    document = {
        "format_version": FORMAT_VERSION,
        "name": protocol.name,
        "title": protocol.title,
        "source": protocol.written.source,
        "choices": dict(protocol.chosen),
        "parts": {name: evaluation.document for name, evaluation in results.items()},
        "summary": summarise({n: one.metrics for n, one in results.items()}, rule=protocol.written.summary),
    }
    return ProtocolResult(document, results)


def summarise(parts: Mapping[str, Mapping[str, Metrics]], *, rule: Literal["mean", "harmonic"]) -> dict[str, Any]:
    """The accuracies over parts (part -> reading -> metrics), for each reading that any part has.

    A part without a reading counts with its similarity: novel classes have no visual head. `top1` and `top5` hold the value of
    each part and, after the rule, `mean` and `std` (of a sample: n - 1; None for one part) or `harmonic`. `top5` is None where
    a part has fewer than 5 classes. `reading` names the one to quote: ensemble where there is one.
    """
    readings = list(dict.fromkeys(reading for metrics in parts.values() for reading in metrics))
    found: dict[str, Any] = {}
    for reading in readings:
        used = {part: reading if reading in metrics else "similarity" for part, metrics in parts.items()}
        top1 = {part: parts[part][name].top1 for part, name in used.items()}
        top5 = {part: parts[part][name].top5 for part, name in used.items()}
        known = {part: value for part, value in top5.items() if value is not None}
        found[reading] = {
            "used": used,
            "top1": {"parts": top1, **_over_parts(list(top1.values()), rule)},
            "top5": {"parts": known, **_over_parts(list(known.values()), rule)} if len(known) == len(top5) else None,
        }
    return {"rule": rule, "reading": "ensemble" if "ensemble" in readings else "similarity", "readings": found}


def _over_parts(values: Sequence[float], rule: str) -> dict[str, float | None]:
    if rule == "harmonic":
        return {"harmonic": statistics.harmonic_mean(values)}
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def _table(summary: Mapping[str, Any]) -> Table:
    """One row a reading and accuracy: each part, then what they come to together."""
    harmonic = summary["rule"] == "harmonic"
    rows = []
    for reading, found in summary["readings"].items():
        for name, what in (("top1", "top-1"), ("top5", "top-5")):
            if found[name] is not None:
                values = [*found[name]["parts"].values(), *(found[name][key] for key in _KEYS[summary["rule"]])]
                rows.append([reading, what, *("none" if v is None else f"{100 * v:.1f} %" for v in values)])
    together = ["harmonic mean"] if harmonic else ["mean", "std"]
    caption = "Harmonic mean of the parts" if harmonic else "Mean and standard deviation (n - 1) over the parts"
    used = [found["used"] for found in summary["readings"].values()]
    if any(len(set(one.values())) > 1 for one in used):
        caption += "; a part without a reading counts with its similarity"
    return Table(["reading", "accuracy", *used[0], *together], rows, caption=caption)


_KEYS = {"harmonic": ("harmonic",), "mean": ("mean", "std")}


def _page(document: Mapping[str, Any]) -> str:
    settings = [["protocol", document["name"]], ["source", document["source"]]]
    settings += [[f"choice: {name}", value] for name, value in document["choices"].items()]
    rows = []
    for name, part in document["parts"].items():
        used, data = part["protocol"], part["protocol"]["data"]
        views = f"{used['views']['temporal']}x{used['views']['spatial']}"
        rows.append(
            [name, used["name"], used["classes"], views, used["frames"], data["listed"], data["scored"], data["source"]]
        )
    header = ["part", "kind", "classes", "views", "frames", "videos listed", "scored", "list"]
    return page(
        document["title"],
        [
            Section("Accuracy", [_table(document["summary"])]),
            Section("Parts", [Table(header, rows), "Each part has a folder with its own report."]),
            Section("Protocol", [Table(["setting", "value"], settings)]),
        ],
    )

"""The files that an evaluation leaves in its folder: report.json, scores.csv, figures, report.html."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2clip.report import figures
from m2clip.report.files import results_folder, write_csv, write_json, write_whole
from m2clip.report.masked_words import masked_word_section
from m2clip.report.metrics import Metrics
from m2clip.report.page import Picture, Section, Table, page


def write_evaluation(
    out: Path,
    document: Mapping[str, Any],
    metrics: Mapping[str, Metrics],
    *,
    class_names: Sequence[str],
    score_rows: Iterable[Sequence[Any]],
) -> list[str]:
    """Write all files of an evaluation into `out` (made if absent) and return their names.

    `document` has "protocol" and "metrics" (one document for each reading), and perhaps "masked_words". A score row is path,
    start, end (seconds or None), true class, reading, predicted class and K probabilities. Without matplotlib there are no
    figures, and the page says so.
    """
    results_folder(out)
    write_json(out / "report.json", document)
    header = ["path", "start_seconds", "end_seconds", "label", "reading", "predicted", *class_names]
    write_csv(out / "scores.csv", header, score_rows)
    pictures: list[Picture] = []
    if figures.available():
        for reading, measured in metrics.items():
            matrix = Picture(f"confusion_{reading}.png", f"Confusion matrix, reading {reading}")
            bars = Picture(f"classes_{reading}.png", f"Accuracy of each class, reading {reading}")
            write_whole(out / matrix.file, figures.confusion_figure(measured.confusion, class_names, matrix.caption))
            write_whole(out / bars.file, figures.class_bars(measured, bars.caption))
            sure = Picture(
                f"reliability_{reading}.png", f"How far its probabilities can be relied on, reading {reading}"
            )
            write_whole(out / sure.file, figures.reliability_figure(measured, f"Reliability, reading {reading}"))
            pictures += [matrix, bars, sure]
    write_whole(out / "report.html", _evaluation_page(document, metrics, pictures))
    return ["report.json", "scores.csv", *(picture.file for picture in pictures), "report.html"]


def accuracy_table(metrics: Mapping[str, Metrics]) -> Table:
    """One row a reading; each accuracy with its counts and its interval."""
    return Table(
        ["reading", "top-1", "correct", "95 % interval", "top-5", "mean of classes", "ECE"],
        [
            [
                reading,
                f"{100 * m.top1:.1f} %",
                f"{m.top1_correct} of {m.videos}",
                f"{100 * m.top1_interval[0]:.1f} to {100 * m.top1_interval[1]:.1f} %",
                "fewer than 5 classes" if m.top5 is None else f"{100 * m.top5:.1f} %",
                f"{100 * m.mean_class:.1f} %",
                f"{100 * m.ece:.1f} %",
            ]
            for reading, m in metrics.items()
        ],
    )


def _evaluation_page(document: Mapping[str, Any], metrics: Mapping[str, Metrics], pictures: Sequence[Picture]) -> str:
    protocol = document["protocol"]
    bad, damaged = protocol["bad_files"], protocol["damaged_files"]
    sections = [
        Section("Accuracy", [accuracy_table(metrics), *_confidence(document)]),
        Section("Figures", pictures or ["No figures: matplotlib is not installed (pip install 'm2clip[train]')."]),
        Section("Classes", [_class_table(reading, measured) for reading, measured in metrics.items()]),
        Section("Protocol", [Table(["setting", "value"], list(_flat(protocol)))]),
        Section("Texts", [Table(["class", "texts as used"], _text_rows(protocol))]),
    ]
    if document.get("masked_words"):
        sections.insert(1, masked_word_section(document["masked_words"]))
    if damaged:
        lost = [[entry["path"], entry["where"], f"{100 * entry['lost_share']:.1f} %"] for entry in damaged]
        table = Table(["file", "listed at", "frames lost"], lost)
        sections.insert(1, Section(f"Damaged files that were scored: {len(damaged)}", [table]))
    if bad:
        table = Table(
            ["file", "listed at", "reason"], [[entry["path"], entry["where"], entry["reason"]] for entry in bad]
        )
        sections.insert(1, Section(f"Files that could not be read: {len(bad)}", [table]))
    return page(f"m2clip evaluation, {protocol['name']}", sections)


def _confidence(document: Mapping[str, Any]) -> list[str]:
    """What the calibration error means, and how many videos are answered with none of the classes."""
    read = "as calibrated on validation videos" if document["protocol"].get("calibration") else "not calibrated"
    lines = [
        "ECE, the expected calibration error, is how far the probability of the best class is from the share of right answers, "
        f"on average over 15 bins; 0 is best. The probabilities are {read}."
    ]
    found = document.get("none_of_these")
    if found:
        share = f"{found['rejected']} of {found['videos']} videos ({100 * found['share']:.1f} %)"
        lines.append(f"By the threshold of the calibration, {share} show none of the classes.")
    return lines


def _class_table(reading: str, measured: Metrics) -> Table:
    rows = [
        [row.name, row.videos, row.correct, "" if row.accuracy is None else row.accuracy, row.most_confused_with or ""]
        for row in measured.classes
    ]
    return Table(["class", "videos", "correct", "accuracy", "most confused with"], rows, caption=f"Reading: {reading}")


def _text_rows(protocol: Mapping[str, Any]) -> list[list[str]]:
    return [[name, " | ".join(texts)] for name, texts in zip(protocol["class_names"], protocol["texts"], strict=True)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Nested settings as dotted names. What has a table of its own on the page is left out."""
    for name, value in values.items():
        if name in ("class_names", "texts", "bad_files", "damaged_files"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value)


def _shown(value: object) -> object:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return value

"""What a check found as one JSON document, and as lines for a terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from m2clip.check.findings import CODES, KINDS, OF_SEVERAL, Kind
from m2clip.check.judging import Limits, Verdict
from m2clip.check.listing import Listing
from m2clip.check.reading import FileFacts

T = TypeVar("T")

_SHOWN = 5
"""Findings of a code word that a terminal shows."""
WORTH_NAMING: tuple[Kind, ...] = ("bad", "contradiction", "leak")
"""The kinds of which every finding has to be looked into."""
_MOST_SHOWN = 50
"""The same for what is worth naming."""


def check_document(
    listings: Sequence[Listing], facts: Sequence[FileFacts], verdict: Verdict, limits: Limits
) -> dict[str, Any]:
    """The whole document; findings stand by kind and code word, within them in the order of the lists."""
    good = [one for one in facts if one.frames]
    counts = Counter(one.code for one in verdict.findings)
    return {
        "usable": not verdict.reasons,
        "reasons": verdict.reasons,
        "limits": asdict(limits),
        "lists": [
            {
                "name": one.name,
                "source": one.source,
                "sha256": one.sha256,
                "videos": len(one.samples),
                "readable": verdict.readable[one.name],
                "classes": len(one.class_names),
            }
            for one in listings
        ],
        "files": {
            "count": len(facts),
            "bytes": sum(one.size_bytes for one in facts),
            "frames": sum(one.frames for one in good),
            "seconds": sum(one.duration_seconds for one in good),
        },
        "counts": {code: counts[code] for code in CODES if counts[code]},
        "findings": [
            {
                "code": one.code,
                "kind": CODES[one.code].kind,
                "list": one.listing,
                "path": one.path,
                "where": one.where,
                "samples": one.samples,
                "detail": one.detail,
            }
            for one in verdict.findings
        ],
        "classes": [asdict(one) for one in verdict.classes],
        "seconds_of_a_file": _spread(one.duration_seconds for one in good),
        "frames_of_a_file": _spread(one.frames for one in good),
        "frames_a_second": _spread(one.fps for one in good),
        "pictures": _counted(((one.width, one.height) for one in good), ("width", "height")),
        "codecs": _counted(((one.codec,) for one in good), ("codec",)),
    }


def check_lines(document: Mapping[str, Any]) -> list[str]:
    """The document for a terminal: all counts, the first findings of each code word, the verdict last."""
    files = document["files"]
    lines = [
        f"{one['name']}: {one['source']}, {one['videos']} videos"
        + (f" of {one['classes']} classes" if one["classes"] else " without classes")
        + f", {one['readable']} can be used"
        for one in document["lists"]
    ]
    lines.append(
        f"{files['count']} files, {size(files['bytes'])}, {files['frames']} frames, {clock(files['seconds'])} of video"
    )
    if document["seconds_of_a_file"]:
        keys = ("seconds_of_a_file", "frames_of_a_file", "frames_a_second")
        lines += [f"{key.replace('_', ' ')}: {spread(document[key])}" for key in keys]
        lines.append(f"pictures: {'; '.join(pictures(document['pictures']))}")
    lines += balance(document)
    if document["counts"]:
        width = max(map(len, document["counts"]))
        lines += ["", f"{'finding'.ljust(width)}  {'kind':13}  number  meaning"]
        lines += [
            f"{code.ljust(width)}  {CODES[code].kind:13}  {count:6d}  {CODES[code].text}"
            for code, count in document["counts"].items()
        ]
    for code, count in document["counts"].items():
        most = _MOST_SHOWN if CODES[code].kind in WORTH_NAMING else _SHOWN
        own = first_few([one for one in document["findings"] if one["code"] == code], most)
        lines += ["", f"{code}:", *(f"  {_told(document, one)}" for one in own)]
        lines += [f"  ... and {count - len(own)} more"] if count > len(own) else []
    lines += ["", "usable" if document["usable"] else "not usable:", *(f"  {one}" for one in document["reasons"])]
    return lines


def first_few(findings: Sequence[T], most: int) -> Sequence[T]:
    """The first ones, or all where only one more would be left out: the line that says so takes as much room."""
    return findings if len(findings) <= most + 1 else findings[:most]


def balance(document: Mapping[str, Any]) -> list[str]:
    """One line for each list: its smallest and its largest class."""
    lines = []
    for listed in document["lists"]:
        counts = [(one["readable"][listed["name"]], one["name"]) for one in document["classes"]]
        if counts:
            (least, small), (most, large) = min(counts), max(counts)
            empty = sum(1 for count, _ in counts if not count)
            told = f"{least} ({small}) to {most} ({large})" if least < most else f"{most} each"
            none = f"; {empty} classes have none" if empty > 1 else ""
            lines.append(f"videos of a class in {listed['name']}: {told}{none}")
    return lines


def size(count: int) -> str:
    """1536 -> "1.5 KiB"."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def clock(seconds: float) -> str:
    """3725 -> "1:02:05": hours, minutes, seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def spread(numbers: Mapping[str, float]) -> str:
    """{"least": 1, "median": 2.5, "most": 4} -> "1 to 4, half of them up to 2.5"."""
    if numbers["least"] == numbers["most"]:
        return _short(numbers["most"])
    return f"{_short(numbers['least'])} to {_short(numbers['most'])}, half of them up to {_short(numbers['median'])}"


def pictures(counted: Sequence[Mapping[str, Any]]) -> list[str]:
    """The most frequent sizes, and how many others there are."""
    told = [f"{one['files']} of {one['width']}x{one['height']}" for one in counted[:_SHOWN]]
    rest = counted[_SHOWN:]
    return [*told, f"{sum(one['files'] for one in rest)} of {len(rest)} other sizes"] if rest else told


def short_path(document: Mapping[str, Any], finding: Mapping[str, Any]) -> str:
    """The path of a finding, without the folder where a whole folder was checked."""
    source = next(one["source"] for one in document["lists"] if one["name"] == finding["list"])
    return finding["path"].removeprefix(source.rstrip("/") + "/")


def kinds_in(document: Mapping[str, Any]) -> list[Kind]:
    """The kinds of which something was found, in the order of a report."""
    found = {CODES[code].kind for code in document["counts"]}
    return [kind for kind in KINDS if kind in found]


def _told(document: Mapping[str, Any], finding: Mapping[str, Any]) -> str:
    if finding["kind"] in OF_SEVERAL:
        return str(finding["detail"])
    where = "" if finding["where"] == finding["path"] else f" ({finding['where']})"
    more = f", listed {finding['samples']} times" if finding["samples"] > 1 else ""
    return f"{short_path(document, finding)}{where}{more}: {finding['detail']}"


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    numbers = np.array(list(values))
    if not len(numbers):
        return None
    return {"least": float(numbers.min()), "median": float(np.median(numbers)), "most": float(numbers.max())}


def _counted(values: Iterable[tuple[Any, ...]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent first; of equally frequent ones the smaller first."""
    counted = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return [{**dict(zip(names, value, strict=True)), "files": count} for value, count in counted]


def _short(value: float) -> str:
    return f"{value:.4g}"

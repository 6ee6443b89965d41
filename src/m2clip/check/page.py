"""The HTML page of a check: the verdict, what was found, classes, sizes, and a few pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m2clip.check.document import (
    WORTH_NAMING,
    balance,
    clock,
    first_few,
    kinds_in,
    pictures,
    short_path,
    size,
    spread,
)
from m2clip.check.findings import CODES, KINDS, OF_SEVERAL, Kind
from m2clip.check.judging import Verdict
from m2clip.check.listing import Listing
from m2clip.check.reading import FileFacts
from m2clip.report.page import Gallery, Part, Section, Table, page

MOST_PICTURES = 120
MOST_ROWS = 2000
"""Of one code word."""
MOST_ALIKE = 10
"""The same where nothing has to be done about each: hundreds of one oddity would hide the others."""


@dataclass(frozen=True)
class ChosenPictures:
    """Of which videos a page shows a frame."""

    pictures: list[tuple[str, int]]
    """What it stands for, and the number of the video."""
    left_out: int


def chosen_pictures(
    listings: Sequence[Listing], files: Sequence[np.ndarray], facts: Sequence[FileFacts], verdict: Verdict
) -> ChosenPictures:
    """One video for each class and for each code word, and the first of each group of equal videos, as far as they have frames."""
    chosen: list[tuple[str, int]] = []
    seen: set[str] = set()
    for finding in verdict.findings:
        kind = CODES[finding.code].kind
        if facts[finding.file].frames and (finding.code not in seen or kind in OF_SEVERAL):
            seen.add(finding.code)
            chosen.append((f"{finding.code}: {finding.path}", finding.file))
    names = listings[0].class_names
    first: dict[int, int] = {}
    for label, file in zip(listings[0].samples.labels.tolist(), files[0].tolist(), strict=True) if names else ():
        if facts[file].frames:
            first.setdefault(label, file)
    chosen += [(f"class {name}", first[k]) for k, name in enumerate(names) if k in first]
    return ChosenPictures(chosen[:MOST_PICTURES], max(0, len(chosen) - MOST_PICTURES))


def check_page(document: Mapping[str, Any], chosen: ChosenPictures, thumbnails: Sequence[str]) -> str:
    """The page of a document; `thumbnails` are the JPEGs of the chosen pictures, in base64."""
    sections = [
        Section("Verdict", _verdict(document)),
        Section("Lists", [_lists(document), *_numbers(document)]),
    ]
    if document["counts"]:
        rows = [[code, CODES[code].kind, count, CODES[code].text] for code, count in document["counts"].items()]
        sections.append(
            Section("What was found", [Table(["finding", "kind", "number", "meaning"], rows, sortable=True)])
        )
    for kind in kinds_in(document):
        sections.append(Section(kind.capitalize(), [f"{KINDS[kind].capitalize()}.", _findings(document, kind)]))
    if document["classes"]:
        sections.append(Section("Classes", [*balance(document), _classes(document)]))
    shown = [(content, caption) for content, (caption, _) in zip(thumbnails, chosen.pictures, strict=True) if content]
    if shown:
        parts: list[Part] = ["The middle frame of a video for each finding and for each class.", Gallery(shown)]
        if chosen.left_out:
            parts.append(f"{chosen.left_out} more are left out.")
        sections.append(Section("Pictures", parts))
    return page("m2clip data check", sections)


def _verdict(document: Mapping[str, Any]) -> list[Part]:
    if document["usable"]:
        return ["This data set can be used."]
    return ["This data set cannot be used as it is:", *document["reasons"]]


def _lists(document: Mapping[str, Any]) -> Table:
    header = ["list", "source", "videos", "can be used", "classes", "SHA-256"]
    rows = [
        [one["name"], one["source"], one["videos"], one["readable"], one["classes"] or "none", one["sha256"][:12]]
        for one in document["lists"]
    ]
    if not any(row[-1] for row in rows):  # files without a list
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(header, rows)


def _numbers(document: Mapping[str, Any]) -> list[Part]:
    files = document["files"]
    told: list[Part] = [
        f"{files['count']} files, {size(files['bytes'])}, {files['frames']} frames, {clock(files['seconds'])} of video."
    ]
    if document["seconds_of_a_file"]:
        rows = [
            ["seconds of a file", spread(document["seconds_of_a_file"])],
            ["frames of a file", spread(document["frames_of_a_file"])],
            ["frames a second", spread(document["frames_a_second"])],
            ["pictures", "; ".join(pictures(document["pictures"]))],
            ["codecs", "; ".join(f"{one['files']} of {one['codec']}" for one in document["codecs"])],
        ]
        told.append(Table(["", ""], rows))
    return told


def _findings(document: Mapping[str, Any], kind: Kind) -> Table:
    own: list[Mapping[str, Any]] = []
    cut = []
    most = MOST_ROWS if kind in WORTH_NAMING else MOST_ALIKE
    for code, count in document["counts"].items():
        if CODES[code].kind == kind:
            shown = first_few([one for one in document["findings"] if one["code"] == code], most)
            own += shown
            cut += [f"the first {most} of {count} {code}"] if len(shown) < count else []
    columns: dict[str, list[object]] = {
        "finding": [one["code"] for one in own],
        "video": [short_path(document, one) for one in own],
        "detail": [one["detail"] for one in own],
        "listed at": ["" if one["where"] == one["path"] else one["where"] for one in own],
        "samples": [one["samples"] for one in own],
    }
    if kind in OF_SEVERAL:  # the detail names them all
        del columns["video"], columns["listed at"]
    for name, dull in (("listed at", ""), ("samples", 1)):
        if all(cell == dull for cell in columns.get(name, ["kept"])):
            del columns[name]
    caption = f"Here {'; '.join(cut)}; check.json has all." if cut else ""
    return Table(list(columns), list(zip(*columns.values(), strict=True)), caption=caption, sortable=True)


def _classes(document: Mapping[str, Any]) -> Table:
    names = [one["name"] for one in document["lists"]]
    header = ["class", *(f"{part} in {name}" for name in names for part in ("listed", "can be used")), "minutes"]
    rows = [
        [
            one["name"],
            *(one[part][name] for name in names for part in ("listed", "readable")),
            round(one["seconds"] / 60, 2),
        ]
        for one in document["classes"]
    ]
    return Table(header, rows, sortable=True)

"""Facts of files and what lists say of them -> findings, the balance of classes, and whether the data set can be used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from m2clip.check.findings import CODES
from m2clip.check.listing import Listing
from m2clip.check.reading import FileFacts, bounds_of
from m2clip.check.relations import Rows, relations

_OTHERS_SHOWN = 5
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Limits:
    """What a data set must keep to."""

    frames: int
    """Frames of a clip: a video with fewer is short."""
    most_lost: float
    """Share (0..1) of a file's frames that damage may take; a file that lost more is bad."""
    most_bad: float
    """Share (0..1) of a list's samples that may be bad."""


@dataclass(frozen=True)
class Finding:
    """Something to know of a sample, of a video, or of several samples that show the same pictures."""

    code: str
    """A key of CODES."""
    listing: str
    """The list: data, val or test."""
    path: str
    where: str
    """What lists it first, `file:line`."""
    detail: str
    """A sentence."""
    file: int
    """The number of the video."""
    samples: int
    """How many samples it concerns."""


@dataclass(frozen=True)
class ClassCount:
    """The samples of a class, by list."""

    name: str
    listed: dict[str, int]
    readable: dict[str, int]
    seconds: float
    """Of the readable ones, all lists together."""


@dataclass(frozen=True)
class Verdict:
    """What was found."""

    findings: list[Finding]
    classes: list[ClassCount]
    readable: dict[str, int]
    """Samples of each list that can be used."""
    reasons: list[str]
    """Why the data set cannot be used, a sentence each; empty: it can."""


def judge(
    listings: Sequence[Listing], files: Sequence[np.ndarray], facts: Sequence[FileFacts], limits: Limits
) -> Verdict:
    """Judge lists whose samples lie in the files with these numbers (int64 [N] a list), by the facts of the files."""
    rows = _rows(listings, files)
    samples = _Samples(listings)
    frames = _frames_of_samples(rows, facts)
    bad_file = np.array([_bad_code(one, limits) != "" for one in facts], dtype=bool)
    is_bad = (frames == 0) | (bad_file[rows.files] if len(bad_file) else False)
    findings = [
        *_of_files(rows, samples, facts, limits),
        *_of_parts(rows, samples, frames, bad_file, facts, limits),
        *_of_relations(_without(rows, frames == 0), samples, facts, [listing.class_names for listing in listings]),
    ]
    order = {code: place for place, code in enumerate(CODES)}
    findings.sort(key=lambda one: order[one.code])  # stable: within a code the order of the lists
    readable = {
        listing.name: int(np.count_nonzero(~is_bad[rows.listings == number])) for number, listing in enumerate(listings)
    }
    classes = _classes(listings, rows, facts, is_bad)
    return Verdict(findings, classes, readable, _reasons(listings, readable, classes, findings, limits))


def _rows(listings: Sequence[Listing], files: Sequence[np.ndarray]) -> Rows:
    bounds = [listing.samples.bounds() for listing in listings]
    return Rows(
        listings=np.repeat(np.arange(len(listings)), [len(listing.samples) for listing in listings]),
        files=np.concatenate(list(files)),
        labels=np.concatenate([listing.samples.labels for listing in listings]),
        starts=np.concatenate([start for start, _ in bounds]),
        ends=np.concatenate([end for _, end in bounds]),
    )


class _Samples:
    """Samples by their place among those of all lists."""

    def __init__(self, listings: Sequence[Listing]) -> None:
        self._listings = listings
        self._firsts = np.cumsum([0, *(len(listing.samples) for listing in listings)])

    def finding(self, code: str, members: Sequence[int], detail: str, file: int) -> Finding:
        """A finding of these samples."""
        name, path, where = self.place(members[0])
        return Finding(code, name, path, where, detail, file, len(members))

    def place(self, row: int) -> tuple[str, str, str]:
        """List, path, and what lists it."""
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        sample = self._listings[number].samples[row - int(self._firsts[number])]
        return self._listings[number].name, str(sample.path), sample.where


def _frames_of_samples(rows: Rows, facts: Sequence[FileFacts]) -> np.ndarray:
    """int64 [N]: frames of each sample's part of its video; 0 where it has none."""
    frames = np.array([one.frames for one in facts], dtype=np.int64)[rows.files]
    for row in np.flatnonzero((rows.starts > 0) | np.isfinite(rows.ends)).tolist():
        part = (float(rows.starts[row]), float(rows.ends[row]))
        frames[row] = next((count for *own, count in facts[rows.files[row]].parts if bounds_of(*own) == part), 0)
    return frames


def _bad_code(facts: FileFacts, limits: Limits) -> str:
    if facts.bad is not None:
        return facts.bad[0]
    return "too-damaged" if facts.lost_share > limits.most_lost else ""


def _of_files(rows: Rows, samples: _Samples, facts: Sequence[FileFacts], limits: Limits) -> Iterator[Finding]:
    """What holds for a video however often and in whichever parts it is listed."""
    order = np.argsort(rows.files, kind="stable")
    borders = np.searchsorted(rows.files[order], np.arange(len(facts) + 1))
    for file, found in enumerate(facts):
        bad = _bad_code(found, limits)
        if not (bad or found.lost_frames or found.odd):
            continue
        members = order[borders[file] : borders[file + 1]].tolist()
        if bad:
            detail = found.bad[1] if found.bad is not None else _loss(found)
            yield samples.finding(bad, members, detail, file)
            continue
        if found.lost_frames:
            yield samples.finding("damaged", members, _loss(found), file)
        for code, detail in found.odd:
            yield samples.finding(code, members, detail, file)


def _of_parts(
    rows: Rows,
    samples: _Samples,
    frames: np.ndarray,
    bad_file: np.ndarray,
    facts: Sequence[FileFacts],
    limits: Limits,
) -> Iterator[Finding]:
    """What depends on the listed part: a finding for each video and part."""
    short = np.flatnonzero(frames < limits.frames)
    found: dict[tuple[int, float, float], list[int]] = {}
    for row in short.tolist():
        file = int(rows.files[row])
        if not bad_file[file]:
            found.setdefault((file, float(rows.starts[row]), float(rows.ends[row])), []).append(row)
    for (file, start, end), members in found.items():
        count = int(frames[members[0]])
        is_part = start > 0 or np.isfinite(end)
        part = f" from {start:g} s to {'its end' if np.isinf(end) else f'{end:g} s'}" if is_part else ""
        if count == 0:
            detail = f"the part{part} is not in the video, which ends at {facts[file].duration_seconds:.2f} s"
            yield samples.finding("part-outside", members, detail, file)
        elif count == 1:
            yield samples.finding("single-frame", members, f"1 frame{part}, and a clip takes {limits.frames}", file)
        else:
            yield samples.finding(
                "few-frames", members, f"{count} frames{part}, and a clip takes {limits.frames}", file
            )


def _without(rows: Rows, outside: np.ndarray) -> Rows:
    """The rows, where parts that are not in their video overlap with nothing. Whole videos that are bad stay related by their paths."""
    outside = outside & ((rows.starts > 0) | np.isfinite(rows.ends))
    return replace(rows, starts=np.where(outside, np.inf, rows.starts), ends=np.where(outside, -np.inf, rows.ends))


def _of_relations(
    rows: Rows, samples: _Samples, facts: Sequence[FileFacts], class_names: Sequence[tuple[str, ...]]
) -> Iterator[Finding]:
    contents = [one.pictures for one in facts]
    for code, members in relations(rows, contents, [one.sha256 for one in facts]):
        told = []
        for row in _one_of_each(rows, members, code):
            name, path, where = samples.place(row)
            label = f" as {class_names[rows.listings[row]][rows.labels[row]]!r}" if code == "two-labels" else ""
            told.append(f"{path}{label} ({name}, {where})" if where != path else f"{path}{label} ({name})")
        more = f" and {len(members) - _OTHERS_SHOWN} more" if len(members) > _OTHERS_SHOWN else ""
        yield samples.finding(code, members, "; ".join(told[:_OTHERS_SHOWN]) + more, int(rows.files[members[0]]))


def _one_of_each(rows: Rows, members: list[int], code: str) -> list[int]:
    """The members, with one of each class or list first where the code word is about classes or lists: long groups are cut."""
    column = {"two-labels": rows.labels, "train-test": rows.listings, "val-test": rows.listings}.get(code)
    if column is None:
        return members[: _OTHERS_SHOWN + 1]
    firsts = sorted(int(members[place]) for place in np.unique(column[members], return_index=True)[1])
    chosen = set(firsts[:_OTHERS_SHOWN])
    return [*firsts[:_OTHERS_SHOWN], *(row for row in members[: 2 * _OTHERS_SHOWN] if row not in chosen)]


def _classes(
    listings: Sequence[Listing], rows: Rows, facts: Sequence[FileFacts], is_bad: np.ndarray
) -> list[ClassCount]:
    names = listings[0].class_names
    count = len(names)
    if not count:
        return []
    durations = np.array([one.duration_seconds for one in facts])[rows.files]
    seconds = np.where(is_bad, 0.0, np.maximum(np.minimum(rows.ends, durations) - rows.starts, 0.0))
    of_class = np.bincount(rows.labels, weights=seconds, minlength=count)
    listed, readable = {}, {}
    for number, listing in enumerate(listings):
        own = rows.listings == number
        listed[listing.name] = np.bincount(rows.labels[own], minlength=count)
        readable[listing.name] = np.bincount(rows.labels[own & ~is_bad], minlength=count)
    return [
        ClassCount(
            name,
            {one: int(column[k]) for one, column in listed.items()},
            {one: int(column[k]) for one, column in readable.items()},
            float(of_class[k]),
        )
        for k, name in enumerate(names)
    ]


def _reasons(
    listings: Sequence[Listing],
    readable: dict[str, int],
    classes: Sequence[ClassCount],
    findings: Sequence[Finding],
    limits: Limits,
) -> list[str]:
    reasons = []
    for listing in listings:
        count = len(listing.samples)
        bad = count - readable[listing.name]
        if bad / max(count, 1) > limits.most_bad:
            reasons.append(
                f"{bad} of {count} videos of {listing.source} {'is' if bad == 1 else 'are'} bad; mend them, take them off the list, "
                f"or allow a share of them with --most-bad"
            )
        elif bad == count:
            reasons.append(f"no video of {listing.source} can be used")
    absent = [repr(one.name) for one in classes if not one.readable[listings[0].name]]
    if absent:
        some = ", ".join(absent[:_NAMES_SHOWN]) + (", ..." if len(absent) > _NAMES_SHOWN else "")
        reasons.append(
            f"{len(absent)} of {len(classes)} classes {'has' if len(absent) == 1 else 'have'} no video that can be trained on: {some}"
        )
    for code, what in (
        ("two-labels", "listed under two labels; keep one"),
        ("train-test", f"both in {listings[0].source} and in a list to test on; take them off one"),
    ):
        count = sum(1 for one in findings if one.code == code)
        if count:
            reasons.append(f"{count} videos are {what}" if count > 1 else f"1 video is {what}")
    return reasons


def _loss(facts: FileFacts) -> str:
    promised = facts.frames + facts.lost_frames
    return f"{facts.lost_frames} of {promised} frames are lost ({100 * facts.lost_share:.0f} %)"

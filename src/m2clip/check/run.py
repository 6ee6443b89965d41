"""A check from its lists to its report: what is known is taken over, the rest is read in child processes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2clip.apart import Ended, run_apart
from m2clip.check.document import check_document
from m2clip.check.judging import Limits, judge
from m2clip.check.kept_facts import KeptFacts, keys_of
from m2clip.check.listing import Listing, unique_files
from m2clip.check.page import check_page, chosen_pictures
from m2clip.check.reading import FileFacts, ReadJob, facts_of, read_file, read_thumbnail
from m2clip.data.places import Place
from m2clip.report.files import write_json, write_whole

MOST_MEMORY_BYTES = 4 * 2**30
"""What one reading process may allocate."""
FACTS, DOCUMENT, PAGE = "files.jsonl", "check.json", "index.html"
"""The files of a report: facts of each file, the document, the page."""

_CODES = {"crashed": "crashes-decoder", "silent": "takes-too-long"}


@dataclass(frozen=True)
class Readers:
    """The processes that read."""

    workers: int
    silence_seconds: float
    """How long one may give no sign of life."""


def check_data(
    listings: Sequence[Listing],
    *,
    limits: Limits,
    readers: Readers,
    kept: Path | None,
    out: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Read every video of the lists and return the document of `check_document`.

    Facts of files are kept in `kept` (None: nowhere) while they come, and files that it knows are not read again. `out`, a folder that
    exists, gets the document, and the page with its pictures. `progress` gets (done, total).
    """
    places, files = unique_files(listings)
    jobs = [ReadJob(place, parts) for place, parts in zip(places, _parts(listings, files, len(places)), strict=True)]
    facts = _facts(jobs, readers=readers, kept=kept, progress=progress)
    verdict = judge(listings, files, facts, limits)
    document = check_document(listings, facts, verdict, limits)
    if out is not None:
        chosen = chosen_pictures(listings, files, facts, verdict)
        thumbnails = _thumbnails([places[file] for _, file in chosen.pictures], readers)
        write_json(out / DOCUMENT, document)
        write_whole(out / PAGE, check_page(document, chosen, thumbnails))
    return document


def _facts(
    jobs: Sequence[ReadJob], *, readers: Readers, kept: Path | None, progress: Callable[[int, int], None]
) -> list[FileFacts]:
    places = [job.place for job in jobs]
    keys = keys_of(places)
    with closing(KeptFacts(kept)) as known:
        found = [known.find(key, job) for key, job in zip(keys, jobs, strict=True)]
        left = [number for number, facts in enumerate(found) if facts is None]
        progress(len(jobs) - len(left), len(jobs))
        results = run_apart(
            read_file,
            [jobs[number] for number in left],
            workers=readers.workers,
            silence_seconds=readers.silence_seconds,
            memory_bytes=MOST_MEMORY_BYTES,
        )
        for done, (place_in_left, result) in enumerate(results, start=len(jobs) - len(left) + 1):
            number = left[place_in_left]
            facts = _of_ended(result) if isinstance(result, Ended) else facts_of(result)
            found[number] = facts
            known.keep(keys[number], places[number], facts)
            progress(done, len(jobs))
        whole = [facts for facts in found if facts is not None]
        assert len(whole) == len(jobs)
        known.finish(zip(keys, places, whole, strict=True))
    return whole


def _of_ended(ended: Ended) -> FileFacts:
    return FileFacts(bad=(_CODES[ended.how], f"the process that read it {ended.detail}"))


def _parts(
    listings: Sequence[Listing], files: Sequence[np.ndarray], count: int
) -> Iterator[tuple[tuple[float | None, float | None], ...]]:
    """The different parts that lists name, for each file."""
    named: dict[int, dict[tuple[float | None, float | None], None]] = {}
    for listing, column in zip(listings, files, strict=True):
        starts, ends = listing.samples.bounds()
        for row in np.flatnonzero((starts > 0) | np.isfinite(ends)).tolist():
            part = (float(starts[row]) or None, None if np.isinf(ends[row]) else float(ends[row]))
            named.setdefault(int(column[row]), {})[part] = None
    return (tuple(named.get(file, ())) for file in range(count))


def _thumbnails(places: Sequence[Place], readers: Readers) -> list[str]:
    """Small JPEGs in base64; empty for what gives no picture."""
    found = [""] * len(places)
    for number, result in run_apart(
        read_thumbnail,
        places,
        workers=readers.workers,
        silence_seconds=readers.silence_seconds,
        memory_bytes=MOST_MEMORY_BYTES,
    ):
        if not isinstance(result, Ended):
            found[number] = result
    return found

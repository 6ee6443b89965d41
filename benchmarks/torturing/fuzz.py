"""Files from strangers: good files of every kind that m2clip reads, broken in many ways, and files that are made to do harm.

Each must be read or refused by one sentence, in bounded memory and time; anything else is a fault.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed.markdown import table

from m2clip.apart import Ended, run_apart
from torturing.strangers.bombs import make_bombs
from torturing.strangers.good_files import make_good_files
from torturing.strangers.reading import outcome

BROKEN, SHORT_BROKEN = 120, 6
"""Of each kind; a multiple of the number of ways to break a file."""
WORKERS = 2
SILENCE_SECONDS = 30.0
MEMORY_BYTES = 3 << 30
"""What a process may allocate; with its libraries it has some 0.7 GiB before it reads anything."""
SHOWN = 10


def measure(folder: Path, *, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Read everything, some at a time -> per kind how many were read, refused and neither, with the most memory and time."""
    good = make_good_files(folder / "good")
    classes = folder / "good/classes.csv"
    common = {"classes": str(classes), "folder": str(folder)}
    jobs: list[tuple[str, str, dict[str, Any]]] = []
    for kind, path in good.items():
        jobs.append((kind, "as it is", {"kind": kind, "path": str(path), "seed": None, **common}))
        for n in range(SHORT_BROKEN if short else BROKEN):
            number = 10_000 * seed + n
            jobs.append((kind, f"broken by seed {number}", {"kind": kind, "path": str(path), "seed": number, **common}))
    for what, kind, path in make_bombs(folder / "bombs", good):
        jobs.append(("made to do harm", what, {"kind": kind, "path": str(path), "seed": None, **common}))
    say(f"{len(jobs)} files of {len(good)} kinds")
    kinds: dict[str, Any] = {}
    lost: list[str] = []
    for number, found in run_apart(
        outcome,
        [job for *_, job in jobs],
        workers=1 if short else WORKERS,
        silence_seconds=SILENCE_SECONDS,
        memory_bytes=MEMORY_BYTES,
    ):
        kind, how, _ = jobs[number]
        row = kinds.setdefault(kind, {"read": 0, "refused": 0, "fault": 0, "most_mib": 0.0, "most_seconds": 0.0})
        if isinstance(found, Ended):
            found = {"what": "fault", "detail": f"its process {found.detail}", "mib": 0.0, "seconds": SILENCE_SECONDS}
        elif how == "as it is" and found["what"] != "read":
            found |= {"what": "fault", "detail": f"a good file is not read: {found['detail']}"}
        elif kind == "made to do harm" and found["what"] == "read":
            found |= {"what": "fault", "detail": "it is read"}
        row[found["what"]] += 1
        for most in ("mib", "seconds"):
            row[f"most_{most}"] = max(row[f"most_{most}"], found[most])
        if found["what"] == "fault":
            lost.append(f"{kind}, {how}: {found['detail']}")
            say(lost[-1])
    order = [*good, "made to do harm"]
    return {"kinds": {kind: kinds[kind] for kind in order}, "lost": sorted(lost)}


def tables(figures: dict[str, Any]) -> str:
    """A row for each kind and one for all."""
    kinds = figures["kinds"]
    counted = ("read", "refused", "fault")
    total = {key: sum(found[key] for found in kinds.values()) for key in counted}
    total |= {key: max(found[key] for found in kinds.values()) for key in ("most_mib", "most_seconds")}
    rows = [
        [
            kind,
            str(sum(found[key] for key in counted)),
            *(str(found[key]) for key in counted),
            f"{found['most_mib']:.0f} MiB",
            f"{found['most_seconds']:.1f} s",
        ]
        for kind, found in {**kinds, "all": total}.items()
    ]
    head = ["files", "tried", "read", "refused by a sentence", "else", "most memory", "longest"]
    return table(head, rows)


def faults(figures: dict[str, Any]) -> list[str]:
    """What was neither read nor refused; the first of many."""
    lost = figures["lost"]
    more = [f"{len(lost) - SHOWN} more files"] if len(lost) > SHOWN else []
    return [*lost[:SHOWN], *more]

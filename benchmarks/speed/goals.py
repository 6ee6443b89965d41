"""What the figures should reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speed.markdown import number

Documents = Mapping[str, dict[str, Any]]
"""What was measured, by section; sections that were not are absent."""


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals."""

    title: str
    section: str
    key: str
    """Of the section's ratios, values or medians of seconds."""
    limit: float
    compiled: str = ""
    """The key of the same with the image tower compiled; none where that makes no difference. One of the two has to do."""
    at_least: bool = False
    percent: bool = False
    unit: str = ""

    def row(self, documents: Documents) -> list[str]:
        """Title, goal, measured, measured compiled, and whether that is enough."""
        goal = f"{'≥' if self.at_least else '≤'} {self._shown(self.limit)}"
        values = [self._value(documents, key) for key in (self.key, self.compiled)]
        there = [value for value in values if value is not None]
        met = any(value >= self.limit if self.at_least else value <= self.limit for value in there)
        shown = ["" if value is None else self._shown(value) for value in values]
        return [self.title, goal, *shown, ("yes" if met else "no") if there else ""]

    def _value(self, documents: Documents, key: str) -> float | None:
        document = documents.get(self.section)
        if document is None or not key:
            return None
        for group in ("ratios", "values"):
            if key in document[group]:
                return document[group][key]
        # A machine without a compiler measures nothing compiled; any other key that is not there is a mistake.
        return None if key == self.compiled else document["seconds"][key]["median"]

    def _shown(self, value: float) -> str:
        return f"{100 * value:.0f} %" if self.percent else f"{number(value)}{self.unit}"


def _tower(title: str, where: str, limit: float) -> Goal:
    return Goal(title, "inference", f"ours / tower, {where}", limit, compiled=f"compiled / tower, {where}")


GOALS = (
    _tower("inference, bf16, one video: ours / CLIP's image tower", "bf16, batch 1", 1.0),
    _tower("inference, bf16, four videos: the same", "bf16, batch 4", 0.85),
    _tower("inference, fp32, one video: the same", "fp32, batch 1", 1.1),
    _tower("inference, fp32, four videos: the same", "fp32, batch 4", 1.1),
    Goal(
        "a video in a batch of four / a video alone, bf16",
        "inference",
        "ours: a video of 4 / alone, bf16",
        1.0,
        compiled="compiled: a video of 4 / alone, bf16",
    ),
    Goal(
        "share of `torch.mm`'s rate, bf16, four videos",
        "inference",
        "ours: share of torch.mm, bf16, batch 4",
        0.85,
        compiled="compiled: share of torch.mm, bf16, batch 4",
        at_least=True,
        percent=True,
    ),
    Goal("training step, bf16, four videos: ours / the tower's forward pass", "training", "step / tower", 1.8),
    Goal("peak memory of `m2clip train` with that step", "training", "peak_gib", 3.5, unit=" GiB"),
    Goal(
        "test item, 3x4 views: ours / the whole video in float32",
        "reading",
        "ours / everything in float32, test item, normalised",
        0.12,
    ),
    Goal(
        "8 frames of 60 s, 720p, GOP 30: ours / decoding everything",
        "reading",
        "ours / decoding everything, 60 s, GOP 30",
        0.15,
    ),
    Goal("the same, GOP 250", "reading", "ours / decoding everything, 60 s, GOP 250", 0.6),
    Goal(
        "8 frames of a 10-minute file / of a 10-second file, GOP 30",
        "reading",
        "ours / short file, 600 s, GOP 30",
        3.0,
    ),
    Goal("the same, opened before", "reading", "ours again / short file, 600 s, GOP 30", 3.0),
    Goal("`classify`, whole process", "startup", "m2clip classify", 4.0, unit=" s"),
    Goal("`m2clip --help`, whole process", "startup", "m2clip --help", 0.4, unit=" s"),
    Goal("`import m2clip`, beyond Python's own start", "startup", "import m2clip alone, seconds", 0.1, unit=" s"),
)

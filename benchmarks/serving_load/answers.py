"""What came of the requests."""

import collections
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving_load.uploads import Upload


@dataclass
class Answers:
    """What came of requests."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    statuses: dict[str, collections.Counter[str]] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    wrong: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, upload: Upload, got: str, took: float, words: str) -> None:
        expected = "left" if upload.leaves else str(upload.status)
        with self.lock:
            self.statuses[upload.kind][got] += 1
            if got == expected:
                self.seconds[upload.kind].append(took)
            elif len(self.wrong) < 50:
                self.wrong.append(
                    {"kind": upload.kind, "name": upload.name, "expected": expected, "got": got, "words": words[:300]}
                )
            else:
                self.wrong.append({"kind": upload.kind})

    def document(self, minutes: float) -> dict[str, Any]:
        good = sorted(one for kind, took in self.seconds.items() if kind.startswith("good") for one in took)
        return {
            "minutes": round(minutes, 2),
            "requests": sum(sum(counts.values()) for counts in self.statuses.values()),
            "answered_per_second": round(sum(map(len, self.seconds.values())) / minutes / 60, 2),
            "good_per_second": round(len(good) / minutes / 60, 2),
            "good_p50_seconds": round(quantile(good, 0.5), 3),
            "good_p99_seconds": round(quantile(good, 0.99), 3),
            "kinds": {
                kind: {
                    "statuses": dict(self.statuses[kind]),
                    "p50_seconds": round(quantile(sorted(self.seconds[kind]), 0.5), 3),
                    "p99_seconds": round(quantile(sorted(self.seconds[kind]), 0.99), 3),
                }
                for kind in sorted(self.statuses)
            },
            "not_as_expected": len(self.wrong),
            "examples_not_as_expected": self.wrong[:50],
        }


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0 for none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0

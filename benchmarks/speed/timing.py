"""Times of rivals side by side, peak memory, and the machine that both were measured on."""

import gc
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Case = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds of each case in each round; round i of one case was measured beside round i of the others."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, case: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[case])

    def ratio(self, case: str, yardstick: str) -> float:
        """The median over the rounds of the quotient of two neighbours: what slows a whole round down cancels out."""
        pairs = zip(self.seconds[case], self.seconds[yardstick], strict=True)
        return statistics.median(own / other for own, other in pairs)

    def document(self) -> dict[str, dict[str, Any]]:
        """For the JSON: each case's median and all of its rounds."""
        return {case: {"median": self.median(case), "rounds": list(values)} for case, values in self.seconds.items()}


def alternate(cases: Mapping[str, Case], *, rounds: int, warmup: int = 1) -> Timings:
    """Run the cases in turn, forwards in one round and backwards in the next, after `warmup` rounds that do not count."""
    found: dict[str, list[float]] = {case: [] for case in cases}
    gc.freeze()  # a collection then looks at what the cases leave behind, not at every module that was imported
    try:
        for turn in range(-warmup, rounds):
            order = list(cases) if turn % 2 == 0 else list(reversed(cases))
            for case in order:
                gc.collect()  # what one case leaves behind is not cleaned up in the time of the next
                started = time.perf_counter()
                cases[case]()
                elapsed = time.perf_counter() - started
                if turn >= 0:
                    found[case].append(elapsed)
    finally:
        gc.unfreeze()
    return Timings(found)


def growth(points: Mapping[float, float]) -> float:
    """The exponent p of cost ~ x^p by least squares on logarithms: 1 is linear, 2 quadratic, 0 constant."""
    xs, ys = [math.log(x) for x in points], [math.log(y) for y in points.values()]
    x_mean, y_mean = statistics.mean(xs), statistics.mean(ys)
    above = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - x_mean) ** 2 for x in xs)


class PeakMemory:
    """How much memory a stretch of work needs on top of what the process holds when it begins; Linux only, elsewhere None.

    `collect`: whether garbage goes first, which takes a tenth of a second where PyTorch is loaded.
    """

    gib: float | None = None

    def __init__(self, *, collect: bool = True) -> None:
        self._collect = collect

    def __enter__(self) -> "PeakMemory":
        if self._collect:
            gc.collect()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts anew
        self._before = status_kib("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        after = status_kib("VmHWM")
        if self._before and after:
            self.gib = (after - self._before) / 2**20


def status_kib(key: str) -> int:
    """KiB of a line of /proc/self/status: VmRSS is what is held now, VmHWM the most so far; Linux only, elsewhere 0."""
    path = Path("/proc/self/status")
    found = re.search(rf"{key}:\s+(\d+)", path.read_text()) if path.exists() else None
    return int(found[1]) if found else 0


def process_peak_gib(*, children: bool = False) -> float:
    """The most memory that this process has held at a time, or that one of its children did."""
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss / unit


def process_seconds(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Case:
    """A case that runs a whole process; one that fails is an error."""

    def run() -> None:
        subprocess.run(command, env={**os.environ, **(environment or {})}, check=True, capture_output=True)

    return run


def environment() -> dict[str, Any]:
    """The machine, how busy it was, and the versions."""
    from importlib.metadata import version

    from m2clip.evaluate.evaluation import versions
    from m2clip.study.measure import machine

    flags = Path("/proc/cpuinfo").read_text().split() if sys.platform == "linux" else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": {
            **machine(),
            "bf16_instructions": sorted({"amx_bf16", "avx512_bf16"} & set(flags)),
            "memory_gib": round(memory, 1),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": versions() | {"transformers": version("transformers")},
    }

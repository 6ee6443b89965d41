"""Whole processes, from their start to their end. Seconds, and what of them an `import torch` takes alone."""

import sys
from pathlib import Path
from typing import Any

from speed.timing import alternate, process_seconds
from speed.videos import make_video
from speed.workload import Workload

LABELS = "a red star moving left to right,a red star moving right to left"


def measure(workload: Workload, folder: Path) -> dict[str, Any]:
    """Help, the package's import, and `classify` of one video with the CLIP that comes with the package."""
    video = make_video(folder, size=workload.small_video, seconds=workload.short_seconds, gop_frames=250)
    program = (sys.executable, "-m", "m2clip")
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "import m2clip": (sys.executable, "-c", "import m2clip"),
        "import torch": (sys.executable, "-c", "import torch"),
        "m2clip --help": (*program, "--help"),
        "m2clip classify": (*program, "classify", str(video), "--checkpoint", "builtin", "--labels", LABELS),
    }
    cases = {name: process_seconds(command) for name, command in commands.items()}
    found = alternate(cases, rounds=2 * workload.rounds - 1)
    return {
        "seconds": found.document(),
        "ratios": {
            f"m2clip {name} / import torch": found.ratio(f"m2clip {name}", "import torch")
            for name in ("--help", "classify")
        },
        # The interpreter's own start is none of the import's doing.
        "values": {"import m2clip alone, seconds": found.median("import m2clip") - found.median("python -c pass")},
    }

"""What stands in a report of the data, the model and the machine."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from torch import Tensor

from m2clip import __version__
from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.places import is_absent
from m2clip.model.video_clip import VideoCLIP
from m2clip.scoring import Reading


def data_document(manifest: Manifest, bad: Sequence[BadFile], damaged: Sequence[DamagedFile]) -> dict[str, Any]:
    """Where the videos came from and how many of them were scored, for a report."""
    missing = sum(is_absent(file.path) for file in bad)
    return {
        "source": str(manifest.source),
        "sha256": manifest.sha256,
        "listed": len(manifest.samples),
        "found": len(manifest.samples) - missing,
        "missing": missing,
        "bad": len(bad) - missing,
        "damaged": len(damaged),
        "scored": len(manifest.samples) - len(bad),
    }


def model_document(model: VideoCLIP, checkpoint: str | None) -> dict[str, Any]:
    """Which model was read, for a report."""
    info = model.info
    return {
        "checkpoint": checkpoint,
        "trained": info.trained,
        "backbone": info.backbone,
        "method": info.method,
        "weights": info.weights.model_dump(),
        "loaded_tensors": model.loaded_tensors,
        "average": info.training.get("average"),
        "adapters": info.layout.model_dump(),
    }


def video_document(sample: Sample, class_names: Sequence[str], tables: dict[Reading, Tensor]) -> dict[str, Any]:
    """The scores of each view of one video, for a report; `tables` are [V, K]."""
    segment = {"start_seconds": sample.start_seconds, "end_seconds": sample.end_seconds}
    return {
        "path": str(sample.path),
        **{key: value for key, value in segment.items() if value is not None},
        "label": class_names[sample.label],
        "scores": {
            reading: {"mean": table.mean(0).tolist(), "views": table.tolist()} for reading, table in tables.items()
        },
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    others = {name: version(name) for name in ("torch", "torchvision", "numpy", "av")}
    return {"m2clip": __version__, "python": platform.python_version(), **others}

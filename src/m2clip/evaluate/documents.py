"""What stands in a report of the data, the model and the machine."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from torch import Tensor

from m2clip import __version__
from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.places import is_absent
from m2clip.model.info import Calibration
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


def video_document(
    sample: Sample,
    class_names: Sequence[str],
    fused: Mapping[Reading, Sequence[float]],
    views: Mapping[Reading, Tensor],
) -> dict[str, Any]:
    """The scores of one video, [K] for each reading, and of each of its views [V, K], for a report."""
    segment = {"start_seconds": sample.start_seconds, "end_seconds": sample.end_seconds}
    return {
        "path": str(sample.path),
        **{key: value for key, value in segment.items() if value is not None},
        "label": class_names[sample.label],
        "scores": {
            reading: {"mean": list(fused[reading]), "views": table.tolist()} for reading, table in views.items()
        },
    }


def calibration_document(calibration: Calibration | None, *, threshold: float | None) -> dict[str, Any] | None:
    """How scores were read, for a report; None: as they come out of the softmax. `threshold`: the one that held."""
    if calibration is None:
        return None
    return {"temperatures": dict(calibration.temperatures), "evidence": calibration.evidence, "threshold": threshold}


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    others = {name: version(name) for name in ("torch", "torchvision", "numpy", "av")}
    return {"m2clip": __version__, "python": platform.python_version(), **others}


def rejection_lines(found: Mapping[str, Any] | None) -> list[str]:
    """How many videos would be answered with "none of these", where there is a threshold."""
    if found is None:
        return []
    return [f"none of these: {found['rejected']} of {found['videos']} videos ({100 * found['share']:.1f} %)"]


def texts_and_weights(used: Mapping[str, Any]) -> str:
    """What a zero-shot figure hangs on beside views and classes, in one line."""
    model, template, more = used["model"], used["template"], len(used["more_templates"])
    if template is not None:
        texts = repr(template) + (f" and {more} more templates" if more else "")
    else:
        texts = "descriptions" if used["texts_file"] is None else used["texts_file"]["path"]
    average = model["average"]
    averaged = f", averaged ({average['kind']})" if isinstance(average, dict) and "kind" in average else ""
    adapted = "adapted" if model["trained"] else "the frozen CLIP's own"
    return (
        f"texts: {texts}, {sum(map(len, used['texts']))} in all; weights: {model['checkpoint'] or 'in memory'}, {adapted}{averaged}, "
        f"{model['loaded_tensors']} tensors loaded; data: {used['data']['source']}"
    )

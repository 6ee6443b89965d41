"""A model and its labels -> a file of the video side, checked, and a description beside it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2clip import __version__
from m2clip.errors import ConfigError
from m2clip.export.checking import TOLERANCE, largest_differences
from m2clip.export.formats import Content, need_onnx, onnx_content, program_content
from m2clip.export.graph import INPUT, VideoGraph, traced
from m2clip.labels import Labels
from m2clip.model.saving import replace_file
from m2clip.recognizer import Recognizer
from m2clip.video_scores import Classes

_FORMATS: dict[str, Callable[..., Content]] = {".onnx": onnx_content, ".pt2": program_content}
_FORMAT_VERSION = 1


def export_video(
    recognizer: Recognizer,
    out: str | Path,
    *,
    labels: Labels | None = None,
    clips: Sequence[Tensor] = (),
    tell: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Write the video side of a recognizer's model to `out` (.onnx, or .pt2 for `torch.export.load`) and return its description.

    The description is written beside it as JSON (`out` with the suffix .json). What goes in and comes out: `graph.VideoGraph`.
    `labels`: as of `Recognizer.classify`; None: the model's own classes, or none. Before a file is written, its numbers are
    compared with PyTorch's on made clips and on `clips`, uint8 [V, T, 3, S, S] as `Recognizer.reader` gives them. `tell` gets a
    sentence before each step that takes long.

    Raises ConfigError for another suffix, a package that is missing, a model that is not in fp32 on the CPU, labels that cannot be
    used, or numbers that differ, and CheckpointError where the file cannot be written; then neither file is there.
    """
    out = Path(out)
    make = file_format(out)
    model = recognizer.model
    if model.rounded != "nothing" or next(model.parameters()).device.type != "cpu":
        raise ConfigError("only a model in fp32 on the CPU can be exported; load it with precision fp32 and device cpu")
    classes = None if labels is None and not model.info.class_names else recognizer.prepare(labels)
    graph = VideoGraph(model, classes).eval()
    tell(f"tracing the image tower for any number of clips and frames of {model.info.image_size} pixels")
    with torch.no_grad():
        example = graph(torch.zeros(1, 1, model.info.image_size, model.info.image_size, 3, dtype=torch.uint8))
    content = make(traced(graph), tuple(example))
    tell("comparing its numbers with PyTorch's")
    differences = largest_differences(graph, content.run, clips, frames=recognizer.sampling.frames)
    description = {
        **_description(recognizer, classes, example),
        "file": out.name,
        "sha256": hashlib.sha256(content.data).hexdigest(),
        "versions": {"m2clip": __version__, "torch": str(torch.__version__), **content.versions},
        "check": {"tolerance": TOLERANCE, "real_clips": sum(map(len, clips)), "largest_difference": differences},
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    beside = out.with_suffix(".json")
    replace_file(out, content.data)
    try:
        replace_file(beside, text.encode())
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return description


def file_format(out: Path) -> Callable[..., Content]:
    """What makes a file of this suffix; ConfigError where nothing does, or where a package for it is missing."""
    if out.suffix not in _FORMATS:
        raise ConfigError(f"{out} ends in {out.suffix or 'no suffix'!r}; name the file .onnx or .pt2")
    if out.suffix == ".onnx":
        need_onnx()
    return _FORMATS[out.suffix]


def _description(recognizer: Recognizer, classes: Classes | None, example: dict[str, Tensor]) -> dict[str, Any]:
    """What a program that runs the file has to know."""
    info, size = recognizer.model.info, recognizer.model.info.image_size
    named = {
        "embedding": ["batch", info.sizes.embed_dim],
        "frames": ["batch", "frames", info.sizes.embed_dim],
        "none_of_these": ["batch"],
    }
    labels = None if classes is None else {
        "names": classes.names,
        "texts": classes.texts,
        "reading": classes.reading,
        "temperature": classes.temperature,
        "threshold": classes.threshold(strength=recognizer.model.strength),
    }  # fmt: skip
    return {
        "format": "m2clip-video",
        "format_version": _FORMAT_VERSION,
        "model": {
            "backbone": info.backbone,
            "method": info.method,
            "trained": info.trained,
            "strength": recognizer.model.strength,
            "weights_sha256": info.weights.sha256,
        },
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", "frames", size, size, 3],
            "colours": "RGB",
            "resize": "short side to size, bicubic with antialiasing, then the middle square",
            "size": size,
            "mean": info.sizes.mean,
            "std": info.sizes.std,
            "normalised_in_graph": True,
        },
        "sampling": recognizer.sampling.document(),
        "outputs": {
            name: {
                "dtype": str(value.dtype).removeprefix("torch."),
                "shape": named.get(name, ["batch", value.shape[-1]]),
            }
            for name, value in example.items()
        },
        "trained_classes": info.class_names if "visual_logits" in example else None,
        "labels": labels,
    }

"""The two kinds of file: bytes from a traced program, and what runs such bytes, for the check before they are written."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from m2clip.errors import ConfigError
from m2clip.export.graph import DIMENSIONS, INPUT

Run = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]
"""Clips uint8 [B, T, S, S, 3] -> the outputs by name."""

_MOST_BYTES = 2**31 - 1  # of a protobuf message, which an ONNX file is


@dataclass(frozen=True)
class Content:
    """A file that has not been written yet."""

    data: bytes
    run: Run
    versions: dict[str, Any]
    """What made it, and what it asks for."""


def need_onnx() -> None:
    """ConfigError where a package for ONNX is missing."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(name)
        except ImportError:
            raise ConfigError(
                f"ONNX needs the package {name}, which is not installed: pip install 'm2clip[export]'"
            ) from None


def onnx_content(program: ExportedProgram, outputs: Sequence[str]) -> Content:
    """As ONNX, all weights inside. ConfigError for a model above the format's 2 GB."""
    import onnx
    import onnxruntime

    with _quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, dynamic_shapes={INPUT: DIMENSIONS}, output_names=list(outputs)
        )
    assert made is not None
    model = made.model_proto
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        del node.metadata_props[:]  # where in which file it was traced
    if model.ByteSize() > _MOST_BYTES:
        raise ConfigError(
            f"the model takes {model.ByteSize() / 1e9:.1f} GB and an ONNX file holds 2 GB; export it as .pt2"
        )
    data = model.SerializeToString()
    onnx.checker.check_model(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return Content(
        data,
        lambda pixels: dict(zip(names, session.run(None, {INPUT: pixels}), strict=True)),
        {
            "opset": next(one.version for one in model.opset_import if one.domain == ""),
            **{name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")},
        },
    )


def program_content(program: ExportedProgram, outputs: Sequence[str]) -> Content:
    """As a .pt2 file of `torch.export.save`."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    module = torch.export.load(file).module()

    @torch.no_grad()
    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        found = module(torch.from_numpy(pixels))
        return {name: found[name].numpy() for name in outputs}

    return Content(file.getvalue(), run, {})


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's notes on its own progress and future are not for users."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)

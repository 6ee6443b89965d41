"""Safetensors files from anyone: what a header claims is held to limits before memory is taken for it.

The library itself checks that tensors neither overlap nor leave the file, and that each is as long as its shape and type say.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from m2clip.errors import CheckpointError
from m2clip.model.saving import MOST_HEADER_BYTES

MOST_TENSORS = 1 << 16
"""Of one file; a CLIP of 10 GB has some 1,500."""

_LONGEST_SIDE = 1 << 31  # of a tensor; an empty one may claim any length in its other dimensions
# Numbers that weights come in, and the whole numbers and switches that lie beside them: nothing packed or complex.
_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def is_safetensors(path: Path) -> bool:
    """By content, since a checkpoint may have any name: eight bytes with the header's length, then the JSON of the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and 0 < int.from_bytes(start[:8], "little") <= path.stat().st_size


def read_header(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty where there is none. Costs no tensor."""
    with _opened(Path(path)) as file:
        return dict(file.metadata() or {})


def tensor_names(path: str | Path) -> list[str]:
    """The names of the tensors of a safetensors file."""
    with _opened(Path(path)) as file:
        return list(file.keys())


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file. CheckpointError, one sentence, for a file that is damaged or no file of weights."""
    with _opened(path) as file:
        names = list(file.keys())
        for name in names:
            _check(file.get_slice(name), name, path)
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as start:
            header = int.from_bytes(start.read(8), "little")
        if MOST_HEADER_BYTES < header <= path.stat().st_size:
            raise CheckpointError(
                f"{path} has a header of {header >> 20} MiB, and {MOST_HEADER_BYTES >> 20} are the most; it is no weight file, or keeps "
                "other data in its header: save the tensors alone"
            )
        with safe_open(str(path), framework="pt") as file:
            if len(file.keys()) > MOST_TENSORS:
                raise CheckpointError(f"{path} holds over {MOST_TENSORS:,} tensors; it is no weight file of a CLIP")
            yield file
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is no readable safetensors file ({reason}); it may be cut off, so copy it again"
        ) from None


def _check(tensor: Any, name: str, path: Path) -> None:
    """CheckpointError for a type or a shape that no weight has, before there is a tensor of it."""
    kind, shape = tensor.get_dtype(), tensor.get_shape()
    if kind not in _TYPES:
        raise CheckpointError(
            f"{path}: the tensor {name!r:.100} is of the type {kind}; save it as 32-bit or 16-bit numbers"
        )
    if len(shape) > 8 or max(shape, default=0) >= _LONGEST_SIDE:
        raise CheckpointError(f"{path}: the tensor {name!r:.100} has a shape that no weight has; copy the file again")

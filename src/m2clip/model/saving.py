"""Checkpoints and training states on disk: written whole, or the file of before stays as it was."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from m2clip.drafts import replacing
from m2clip.errors import CheckpointError

MOST_HEADER_BYTES = 32 << 20
"""Of a safetensors file. 100,000 classes with two texts of 60 letters take 12 MiB; a reader holds several times as much of it."""


def serialized(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with `metadata` in its header: the same bytes for the same content, whichever process makes them.

    Raises CheckpointError where the metadata are too long to be read again.

    The library takes the metadata's keys in the order of a hash table, which differs from one call to the next.
    """
    content = save(dict(tensors), metadata=dict(metadata))
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    if len(text) > MOST_HEADER_BYTES:
        raise CheckpointError(
            f"the names and texts of the model's classes take {len(text) >> 20} MiB, and a checkpoint holds {MOST_HEADER_BYTES >> 20}; "
            "give each class fewer or shorter texts"
        )
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[end:]))


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` under a temporary name, then rename; missing folders are made.

    A process that is killed here leaves the old file, and at most a temporary one that the next save overwrites. Raises
    CheckpointError, one sentence, where the disk is full or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        kept = "; the file of before is still there" if path.is_file() else ""
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror or error}){kept}; free space or choose a folder that can be written to"
        ) from error

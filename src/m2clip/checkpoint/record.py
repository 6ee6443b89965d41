"""What a checkpoint says of itself: read without its weights, or changed in a copy."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from m2clip.checkpoint.files import checkpoint_file, read_tensors
from m2clip.checkpoint.safetensors_files import read_header, tensor_names
from m2clip.config import BACKBONES
from m2clip.errors import CheckpointError
from m2clip.model.info import ModelInfo, first_fault
from m2clip.model.saving import replace_file, serialized
from m2clip.model.video_clip import FORMAT_VERSION, checkpoint_header


class Record(NamedTuple):
    """A model that has not been loaded."""

    info: ModelInfo
    visual_head: bool
    """Whether the checkpoint holds a visual head."""


def read_record(name: str | Path) -> Record:
    """A checkpoint's path or hub id, or a backbone's name -> its record. Reads a header at most, and no tensor.

    Raises CheckpointError for a file that is no checkpoint of ours.
    """
    if str(name) in BACKBONES and not Path(name).is_file():
        sizes = BACKBONES[str(name)]
        return Record(ModelInfo(backbone=str(name), sizes=sizes, image_size=sizes.image_size), False)
    if not str(name).startswith("hf-hub:") and not Path(name).exists():
        raise CheckpointError(
            f"{name} is no file: pass a checkpoint's path, a hub id (hf-hub:owner/name) or a backbone ({', '.join(BACKBONES)})"
        )
    path = checkpoint_file(name)
    info = read_info(read_header(path), where=str(path))
    return Record(info, "visual_head.linear.weight" in tensor_names(path))


def copy_with(checkpoint: str | Path, out: Path, **changes: Any) -> Path:
    """Copy a checkpoint of ours with changes in its record; its tensors stay as they are. `out` may be the checkpoint itself.

    Raises CheckpointError for a file that is no checkpoint, and where the copy cannot be written.
    """
    path = checkpoint_file(checkpoint)
    file = read_tensors(path)
    info = read_info(file.metadata, where=str(path)).model_copy(update=changes)
    replace_file(out, serialized(file.tensors, {**file.metadata, **checkpoint_header(info)}))
    return out


def read_info(metadata: Mapping[str, str], *, where: str) -> ModelInfo:
    """The record in a checkpoint's header; CheckpointError where the file is none of ours or of a newer format."""
    if metadata.get("format") != "m2clip":
        raise CheckpointError(
            f"{where} is no m2clip checkpoint; use `m2clip convert` for files of CLIP or of the reference implementation"
        )
    version = metadata.get("format_version", "")
    if not re.fullmatch("[0-9]{1,9}", version) or int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has format version {version!r}, this m2clip reads up to {FORMAT_VERSION}; install a newer m2clip"
        )
    try:
        return ModelInfo.model_validate_json(metadata.get("info", ""))
    except ValidationError as error:
        raise CheckpointError(
            f"the header of {where} cannot be read: {first_fault(error)}; copy the file again"
        ) from None

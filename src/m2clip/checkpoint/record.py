"""What a checkpoint says of itself, without its weights."""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from m2clip.checkpoint.builder import read_info
from m2clip.checkpoint.files import checkpoint_file, read_header
from m2clip.config import BACKBONES
from m2clip.errors import CheckpointError
from m2clip.model.info import ModelInfo


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
    try:
        with safe_open(str(path), framework="pt") as file:
            return Record(info, "visual_head.linear.weight" in file.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it again") from None

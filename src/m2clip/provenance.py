"""What a report says of how it was made, so that it can be made again: command, settings, hashes of what was read, versions, threads."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Command = Literal["train", "evaluate", "calibrate", "tune-strength"]
_OF_COMMANDS = ("checkpoint", "weights", "data", "classes", "templates", "texts", "novel", "novel_classes", "protocol")
FILE_SETTINGS: dict[Command, tuple[str, ...]] = {
    "train": (
        *(f"data.{name}" for name in ("train", "val", "test", "classes", "texts")),
        "model.weights",
        "model.backbone",
    ),
    "evaluate": _OF_COMMANDS,
    "calibrate": _OF_COMMANDS,
    "tune-strength": _OF_COMMANDS,
}
"""The settings that may name a file or folder to be read."""
WEIGHT_SETTINGS = ("model.weights", "weights")
"""Those that may name a repository of the hub by "owner/name" alone."""

Text = Annotated[str, Field(max_length=10_000)]
Value = bool | int | float | Text | None


class Input(BaseModel):
    """A file or folder that was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    setting: Text
    """The setting that names it."""
    path: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    """Of a file's bytes; of the names and sizes of all files in a folder. None: it is neither (an address, or a name of the package)."""


class Provenance(BaseModel):
    """How a report was made. Nothing of it stands for a moment in time, so that the same run gives the same words."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    format_version: Literal[1] = 1
    command: Command
    settings: dict[Text, Any]
    """Of `train` the run's settings without `out`, else the command's options by name, defaults included, without those that say where
    results go."""
    folder: Text
    """The working directory, which relative paths start from."""
    inputs: Annotated[list[Input], Field(max_length=1000)]
    """What the settings name. The bytes of listed videos are not hashed."""
    processes: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1, le=4096)]
    """Of PyTorch, in each process: how many share a product changes its last bits."""
    seed: int | None
    versions: dict[Text, Text]


def provenance(
    command: Command,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str | Path | None],
    *,
    processes: int,
    seed: int | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The `run` of a report. `inputs`: for each setting that names one the path; None is left out."""
    import torch

    made = Provenance(
        command=command,
        settings=dict(settings),
        folder=as_text(Path.cwd()),
        inputs=[
            Input(setting=name, path=as_text(path), sha256=content_sha256(path))
            for name, path in inputs.items()
            if path
        ],
        processes=processes,
        threads=torch.get_num_threads(),
        seed=seed,
        versions=dict(versions),
    )
    return made.model_dump(mode="json")


def content_sha256(path: str | Path) -> str | None:
    """SHA-256, in hex, of a file's bytes, or of the names and sizes of all files in a folder; None where there is neither."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not stat.S_ISDIR(mode):
        return None
    digest = hashlib.sha256()
    for name, size in sorted(_files(os.fsencode(path))):
        digest.update(b"%s\0%d\n" % (name, size))
    return digest.hexdigest()


def _files(folder: bytes, below: bytes = b"") -> Iterable[tuple[bytes, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path, below + entry.name + b"/")
            elif entry.is_file():
                yield below + entry.name, entry.stat().st_size


def as_text(path: str | Path) -> str:
    """A path as JSON may hold it: odd bytes of a name are no Unicode."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

"""Checkpoints and training states on disk: written whole, or the file of before stays as it was."""

import os
from contextlib import suppress
from pathlib import Path

from m2clip.errors import CheckpointError


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` under a temporary name, then rename; missing folders are made.

    A process that is killed here leaves the old file, and at most a temporary one that the next save overwrites. Raises
    CheckpointError, one sentence, where the disk is full or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing behind it
        os.replace(partial, path)
    except OSError as error:
        kept = "; the file of before is still there" if path.is_file() else ""
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror or error}){kept}; free space or choose a folder that can be written to"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)

"""Results on disk: JSON and CSV, each written whole or not at all."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from m2clip.drafts import replacing
from m2clip.errors import ConfigError, M2CLIPError


def results_folder(path: Path) -> Path:
    """Make a folder for results, or find it there and fit to be written to. ConfigError, one sentence, where it is neither."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ConfigError(
            f"the results cannot be written to {path} ({error.strerror or error}); give a folder that can be made or written to"
        ) from None


def results_file(path: Path, *, ending: str = "") -> Path:
    """Make the folder of a file for results, as `results_folder`. ConfigError where the path is a folder or ends otherwise."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file")
    if not path.name.lower().endswith(ending):
        raise ConfigError(f"{path} would not hold what its ending says; give it the ending {ending}")
    results_folder(path.parent)
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside the target, which it replaces when all of it is on the disk: whoever is killed leaves no half of it.

    Raises M2CLIPError, one sentence, where the disk is full or the folder cannot be written to; what was there stays.
    """
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise M2CLIPError(
            f"{path} cannot be written ({error.strerror or error}); free space or choose a folder that can be written to"
        ) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as `whole_file` does, text in UTF-8."""
    with whole_file(path) as file:
        # File names need not be valid Unicode: Python's stand-ins for their odd bytes are written as JSON escapes.
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def append(file: io.FileIO, content: bytes) -> None:
    """Write all of it at once, past no buffer. Raises OSError: the system tells of a full disk only when not even a part fits."""
    while content:
        content = content[file.write(content) :]


def json_text(document: Any) -> str:
    """Readable JSON; a NaN or an infinity is a ValueError, for no JSON reader must accept them."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def json_line(document: Any) -> str:
    """JSON without a line feed, as of `json_text`."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, document: Any) -> None:
    """Write one JSON document in UTF-8."""
    write_whole(path, json_text(document) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV in UTF-8 with one header line; floats keep all digits that tell them apart."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue())

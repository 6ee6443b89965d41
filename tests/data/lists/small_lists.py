"""Small lists and what is read from them, for tests of what reads lists."""

from pathlib import Path
from typing import Any

import pytest

from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.errors import ManifestError

CLASSES = ClassTable(("jump", "a, b", "None"))


def write(folder: Path, text: str | bytes, name: str = "list.txt") -> Path:
    """A file of this text, in UTF-8, or of these bytes."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def touch(folder: Path, *names: str) -> None:
    """Empty files, which stand for videos where only names count."""
    for name in names:
        write(folder, b"", name)


def pairs(manifest: Manifest) -> list[tuple[str, int]]:
    """Path below the list's folder, and label, of each sample."""
    base = Path(manifest.source)
    base = base if base.is_dir() else base.parent
    return [(sample.path.relative_to(base).as_posix(), sample.label) for sample in manifest.samples]


def refused(source: Path, classes: ClassTable | Path | None = CLASSES, **options: Any) -> str:
    """The one line with which a list is refused; it names the file."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(source, classes=classes, **options)
    message = str(caught.value)
    assert source.name in message
    assert "\n" not in message
    return message

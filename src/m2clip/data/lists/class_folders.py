"""A folder with one folder a class -> the videos in it, and which class each belongs to."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from m2clip.data.image_folder import IMAGE_SUFFIXES
from m2clip.data.lists.listed_rows import VIDEO_SUFFIXES
from m2clip.data.lists.text_files import SUFFIXES
from m2clip.errors import ManifestError

_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


@dataclass(frozen=True)
class ClassFolders:
    """The folders of classes and the N videos in them, sorted."""

    classes: tuple[str, ...]
    texts: pa.ChunkedArray
    """Relative paths, N."""
    codes: list[int]
    """The folder of each video, as its position in `classes`, N."""

    @property
    def sha256(self) -> str:
        """Of the relative paths, a line each."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(f"{text.as_py()}\n".encode())
        return digest.hexdigest()


def read_class_folders(source: Path) -> ClassFolders:
    """Look for videos in the folders of `source`. Raises ManifestError.

    A video is a file with the ending of one, or, two or more folders deep, a folder with images and no such file. Files and
    folders whose names begin with a dot are left out; links are followed, but no folder is entered twice for one class.
    """
    try:
        children = sorted(child for child in source.iterdir() if not child.name.startswith("."))
    except OSError as error:
        _refuse(error)
    for child in children:
        if child.is_file() and child.suffix.lower() in VIDEO_SUFFIXES:
            raise ManifestError(f"{child} lies beside the class folders: move it into the folder of its class")
    classes = tuple(child.name for child in children if child.is_dir())
    if len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS:
        raise ManifestError(
            f"{source} holds the splits {' and '.join(classes)}, not classes: give the folder of one, such as {source / classes[0]}"
        )
    texts: list[str] = []
    codes: list[int] = []
    for code, name in enumerate(classes):
        for path in videos_below(source / name):
            try:
                str(path).encode("utf-8")
            except UnicodeEncodeError:  # no report could name it
                raise ManifestError(f"{str(path)!r} has a name that is not UTF-8: rename it") from None
            if not str(path).isprintable() and any(sign in str(path) for sign in "\n\r"):
                raise ManifestError(f"{str(path)!r} has a line break in its name: rename it")
            texts.append(str(path.relative_to(source)))
            codes.append(code)
    if not texts:
        raise ManifestError(
            f"{source} holds no video in folders of classes: make one folder a class with files such as .mp4 or .avi, "
            f"or give a list ({', '.join(SUFFIXES)})"
        )
    return ClassFolders(classes, pa.chunked_array([pa.array(texts, pa.string())]), codes)


def videos_below(class_folder: Path) -> Iterator[Path]:
    """The videos in a folder and the folders in it, sorted folder by folder, as `read_class_folders` looks for them."""
    entered: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(class_folder, onerror=_refuse, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in entered:  # a link to a folder that was seen already, maybe to one around it
            subfolders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        subfolders[:] = sorted(one for one in subfolders if not one.startswith("."))
        shown = sorted(file for file in files if not file.startswith("."))
        videos = [file for file in shown if Path(file).suffix.lower() in VIDEO_SUFFIXES]
        yield from (Path(folder, file) for file in videos)
        if videos or not any(Path(file).suffix.lower() in IMAGE_SUFFIXES for file in shown):
            continue
        if Path(folder) == class_folder:
            if not subfolders:
                raise ManifestError(f"{class_folder} holds images itself: make a folder of images for each video in it")
            continue
        yield Path(folder)


def _refuse(error: OSError) -> NoReturn:
    raise ManifestError(f"{error.filename} cannot be read ({error.strerror}): check its permissions") from error

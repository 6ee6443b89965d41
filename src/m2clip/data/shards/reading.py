"""A set of shards -> its samples and classes: by its index, or by looking through the tar files of a folder or pattern."""

import glob
import hashlib
import json
import logging
import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pyarrow as pa

from m2clip.data.classes import ClassTable, all_ids
from m2clip.data.samples import Samples
from m2clip.data.shards.cache import most_bytes
from m2clip.data.shards.contents import ListedMember, read_contents
from m2clip.data.shards.index import INDEX, ShardList, read_index
from m2clip.data.shards.members import Shard, ShardPlaces, expand_braces
from m2clip.data.web import as_written, is_web_address, shown_address
from m2clip.errors import ConfigError, ManifestError

_log = logging.getLogger("m2clip")
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


def names_shards(source: str | Path) -> bool:
    """Whether a source is a set of shards: an index, tar files, a pattern of them, or a folder that holds one of these."""
    text = as_written(source)
    if not is_web_address(text) and os.path.isdir(text):
        return os.path.exists(os.path.join(text, INDEX)) or (not _has_folders(text) and bool(_tar_files(text)))
    return _without_query(text).endswith((".tar", INDEX, *_PACKED))


def read_shards(source: str | Path, *, classes: ClassTable | None = None) -> ShardList:
    """Read a set of shards: a folder, an index (shards.parquet), a tar file, or several by * or braces; local or http(s).

    With an index, classes are those it names; `classes` gives them other ids, by their names. Without one, labels lie beside the
    videos (`0001.mp4`, `0001.cls`; or .json with a label, or .txt) and mean what they mean in a list. Raises
    ManifestError, and ConfigError where $M2CLIP_SHARDS_GIB is wrong and shards are to be fetched.
    """
    text = as_written(source)
    if not is_web_address(text) and os.path.isdir(text) and os.path.exists(os.path.join(text, INDEX)):
        text = os.path.join(text, INDEX)
    if is_web_address(text):
        most_bytes()  # a mistake in it is told now, not by every sample
    if _without_query(text).endswith(INDEX):
        return read_index(text, classes=classes)
    if is_web_address(text):
        _log.warning("%s is no index: its shards are fetched to be looked through, once on this machine", _shown(text))
    found = [read_contents(path) for path in _paths(text)]
    return _joined(text, found, classes)


def _has_folders(folder: str) -> bool:
    """Folders of classes, beside which somebody may keep the tar file that they came in."""
    try:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in os.scandir(folder))
    except OSError:
        return True


def _tar_files(folder: str) -> list[str]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
    return [os.path.join(folder, name) for name in names if name.endswith(".tar")]


def _paths(pattern: str) -> list[str]:
    """The tar files that a source means, in the order of their names or numbers."""
    if _without_query(pattern).endswith(_PACKED):
        raise ManifestError(
            f"{_shown(pattern)} is compressed, so no video in it can be read by itself: unpack it to a .tar"
        )
    if os.path.isfile(pattern):  # whatever its name looks like
        return [pattern]
    try:
        paths = expand_braces(pattern)
    except ConfigError as error:
        raise ManifestError(str(error)) from None
    if is_web_address(pattern):
        return paths
    if os.path.isdir(pattern):
        return _tar_files(pattern)
    found = []
    for path in paths:
        if not os.path.exists(path) and glob.has_magic(path):
            found += sorted(glob.glob(path))
        else:
            found.append(path)
    if not found:
        raise ManifestError(f"{pattern} fits no file: check the pattern")
    return found


def _joined(source: str, found: list[tuple[Shard, list[ListedMember]]], classes: ClassTable | None) -> ShardList:
    rows = [(number, row) for number, (_, members) in enumerate(found) for row in members]
    first: dict[str, str] = {}  # label -> where it first stands
    for number, row in rows:
        if row.label not in first:
            first[row.label] = f"{_shown(found[number][0].path)}/{row.name}"
    names = sorted(first)
    by_name = classes is None
    if classes is None:
        if all_ids(names):
            raise ManifestError(
                f"{first[names[0]]}: the labels are ids ({names[0]}), but nothing names the classes: "
                "give a class file (CSV id,name or a text file with one name a line)"
            )
        classes = ClassTable(tuple(names))
    resolved = classes.resolve([(where, label) for label, where in first.items()], by_name=by_name)
    ids = dict(zip(first, resolved, strict=True))
    places = ShardPlaces(
        [shard for shard, _ in found],
        numbers=np.array([number for number, _ in rows], np.int32),
        names=pa.chunked_array([[row.name for _, row in rows]], pa.string()),
        offsets=np.array([row.offset for _, row in rows], np.int64),
        sizes=np.array([row.size for _, row in rows], np.int64),
    )
    digest = hashlib.sha256()
    for shard, members in found:
        digest.update(json.dumps((os.path.basename(shard.path), [astuple(row) for row in members])).encode())
    samples = Samples(
        places,
        np.array([ids[row.label] for _, row in rows], np.int64),
        start_seconds=_times([row.start_seconds for _, row in rows]),
        end_seconds=_times([row.end_seconds for _, row in rows]),
    )
    return ShardList(samples, classes, digest.hexdigest(), _shown(source))


def _times(cells: list[float | None]) -> np.ndarray | None:
    return None if all(cell is None for cell in cells) else np.array(cells, np.float64)


def _without_query(text: str) -> str:
    return text.partition("?")[0] if is_web_address(text) else text


def _shown(path: str) -> str:
    return shown_address(path) if is_web_address(path) else path

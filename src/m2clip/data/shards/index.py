"""The index of a set of shards, one Parquet file beside them: where each sample lies, its label, and what it was made of."""

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m2clip.data.classes import ClassTable
from m2clip.data.lists.text_files import shown
from m2clip.data.samples import ListedLines, Samples
from m2clip.data.shards.members import MOST_SHARDS, Shard, ShardPlaces
from m2clip.data.web import WebLimits, fetch, is_web_address, shown_address
from m2clip.errors import ManifestError, VideoError

INDEX = "shards.parquet"
_FORMAT = 1
_KEY = b"m2clip"  # in the file's own metadata: classes and shards, as JSON
_COLUMNS = {
    "shard": pa.int32(),
    "member": pa.string(),
    "offset": pa.int64(),
    "size": pa.int64(),
    "label": pa.int32(),
    "start_seconds": pa.float64(),
    "end_seconds": pa.float64(),
}
_ORIGIN = {"source": pa.string(), "sha256": pa.string()}  # of the video's bytes; no training needs them
_MOST_HEAD_BYTES = 2**28
_MOST_ROWS = 10**8
_TOGETHER = 1 << 18  # rows
# What an index may take in memory, in bytes for each one of the file and beside that: a few kB can stand for gigabytes.
_UNPACKED, _SMALL = 50, 256 << 20
_ROW = 48  # bytes beside the name
_LONGEST_NAME = 255  # bytes, of a file in any usual system
_WEB = WebLimits(most_bytes=2**33, total_seconds=600.0)


@dataclass(frozen=True)
class ShardList:
    """N samples over a set of shards, and the classes that their labels count."""

    samples: Samples
    classes: ClassTable
    sha256: str
    """Of the index; without one, of the names, places and labels that were found."""
    source: str
    """The index that was read, or the pattern."""


def write_index(
    file: BinaryIO, columns: dict[str, list[Any]], shards: list[dict[str, Any]], classes: ClassTable
) -> None:
    """Write the columns (one entry a sample), the shards (name, size, sha256, samples) and the classes as one Parquet file."""
    head = {
        "format": _FORMAT,
        "classes": list(classes.names),
        "texts": [list(texts) for texts in classes.texts],
        "shards": shards,
    }
    schema = pa.schema(
        list((_COLUMNS | _ORIGIN).items()), metadata={_KEY: json.dumps(head, ensure_ascii=False).encode()}
    )
    pq.write_table(pa.table(columns, schema=schema), file, compression="zstd")


def read_index(source: str, *, classes: ClassTable | None = None) -> ShardList:
    """Read an index from a path or a web address; the shards lie beside it. Raises ManifestError.

    With `classes`, labels become the ids that these classes have by the same names.
    """
    address, source = source, shown_address(source) if is_web_address(source) else source
    file, size, sha256 = _content(address)
    try:
        parquet = pq.ParquetFile(file)
        head = _head(parquet, source)
        if parquet.metadata.num_rows > _MOST_ROWS:
            raise ManifestError(f"{source} has more than {_MOST_ROWS} rows: make several sets of the shards")
        table = _table(pq.ParquetFile(file, read_dictionary=["member"]), source, limit=_SMALL + _UNPACKED * size)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ManifestError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ManifestError(f"{source} is no index of shards ({reason}): write one with m2clip data shard") from error
    shards = _shards(head, address, source)
    try:
        own = ClassTable(tuple(head["classes"]), tuple(tuple(texts) for texts in head["texts"]))
    except (ManifestError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{source}: its classes cannot be used ({error}): write the index again") from error
    ids = np.arange(len(own.names))
    labels = _whole(table["label"], source)
    _need((labels >= 0) & (labels < len(ids)), "has a label that names no class", source)
    if classes is not None:
        used = np.unique(labels)
        ids[used] = classes.resolve([(source, own.names[number]) for number in used], by_name=True)
    samples = _samples(table, ids[labels], shards, source)
    del table, labels
    pa.default_memory_pool().release_unused()  # of 10 million rows, 250 MB that only reading needed
    return ShardList(samples, classes or own, sha256, source)


def _table(parquet: pq.ParquetFile, source: str, *, limit: int) -> pa.Table:
    """The columns of the samples, some rows at a time: names come as a dictionary, which is measured before it is written out."""
    schema = pa.schema(list(_COLUMNS.items()))
    held = _ROW * parquet.metadata.num_rows
    found = []
    _check_size(held, limit, source)
    for batch in parquet.iter_batches(_TOGETHER, columns=list(_COLUMNS), use_threads=False):
        batch.validate(full=True)
        names = batch.column("member")
        if pa.types.is_dictionary(names.type):
            held += pc.sum(pc.binary_length(names.dictionary).take(names.indices).cast(pa.int64())).as_py() or 0
        else:
            held += names.nbytes
        _check_size(held, limit, source)
        found.append(pa.Table.from_batches([batch]).cast(schema))
    return pa.concat_tables([schema.empty_table(), *found])


def _check_size(size: int, limit: int, source: str) -> None:
    if size > limit:
        raise ManifestError(
            f"{source} stands for over {limit >> 20} MiB in so small a file: it is no index of ours, so it is not read"
        )


def _content(source: str) -> tuple[Any, int, str]:
    """What can be opened as Parquet, its bytes, and their SHA-256."""
    if is_web_address(source):
        fetched = io.BytesIO()
        try:
            fetch(source, limits=_WEB, to=fetched)
        except VideoError as error:
            raise ManifestError(str(error)) from None
        return pa.BufferReader(fetched.getvalue()), fetched.tell(), hashlib.sha256(fetched.getbuffer()).hexdigest()
    try:
        with open(source, "rb") as file:
            return source, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ManifestError(f"{source} does not exist: check the path") from None
    except OSError as error:
        raise ManifestError(f"{source} cannot be read ({error.strerror or error}): check its permissions") from error


def _head(parquet: pq.ParquetFile, source: str) -> dict[str, Any]:
    text = (parquet.schema_arrow.metadata or {}).get(_KEY)
    if text is None or len(text) > _MOST_HEAD_BYTES:
        raise ManifestError(f"{source} is a Parquet file but no index of shards: write one with m2clip data shard")
    head = json.loads(text)
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        form = head.get("format") if isinstance(head, dict) else head
        raise ManifestError(
            f"{source} is an index of the form {shown(str(form))}, and this version reads form {_FORMAT}: write the shards again, or "
            "take another version"
        )
    return head


def _shards(head: dict[str, Any], address: str, source: str) -> list[Shard]:
    shards = []
    try:
        rows = [(row["name"], row["size"], row["sha256"]) for row in head["shards"]]
    except (KeyError, TypeError):
        raise ManifestError(f"{source}: its list of shards is broken: write the index again") from None
    for name, size, sha256 in rows[:MOST_SHARDS]:
        # A stranger's index must not point at other files of this machine or at other servers.
        plain = (
            isinstance(name, str)
            and name == Path(name).name
            and not set(name) & set("/\\:?#%")
            and name.isprintable()
            and name not in ("", "..")
            and len(name.encode()) <= _LONGEST_NAME
        )
        if not (plain and isinstance(size, int) and 0 <= size < 2**62 and isinstance(sha256, str)):
            raise ManifestError(
                f"{source}: {shown(str(name))} is no name of a shard beside the index: write the index again"
            )
        path = urljoin(address, name) if is_web_address(address) else str(Path(address).parent / name)
        shards.append(Shard(path, size, sha256))
    return shards


def _samples(table: pa.Table, labels: np.ndarray, shards: list[Shard], source: str) -> Samples:
    numbers, offsets, sizes = (_whole(table[name], source) for name in ("shard", "offset", "size"))
    if table["member"].null_count:
        raise ManifestError(f"{source}: a row lacks the name of its member: write the index again")
    _need((numbers >= 0) & (numbers < len(shards)), "names a shard that the index lacks", source)
    shard_sizes = np.array([shard.size for shard in shards], np.int64)
    _need(
        (offsets >= 0) & (sizes >= 0) & (sizes <= shard_sizes[numbers] - offsets), "lies outside of its shard", source
    )
    places = ShardPlaces(shards, numbers=numbers, names=table["member"], offsets=offsets, sizes=sizes)
    start, end = (_seconds(table[name]) for name in ("start_seconds", "end_seconds"))
    samples = Samples(
        places,
        labels,
        wheres=ListedLines(source, np.arange(1, len(table) + 1)),
        start_seconds=start,
        end_seconds=end,
    )
    first, last = samples.bounds()
    _need((first >= 0) & (first < last), "has a part that ends before it starts", source)
    return samples


def _whole(column: pa.ChunkedArray, source: str) -> np.ndarray:
    if column.null_count:
        raise ManifestError(f"{source}: a row lacks its label or its place: write the index again")
    return column.to_numpy()


def _seconds(column: pa.ChunkedArray) -> np.ndarray | None:
    return None if column.null_count == len(column) else column.fill_null(float("nan")).to_numpy()


def _need(fits: np.ndarray, what: str, source: str) -> None:
    if not fits.all():
        raise ManifestError(f"{source}: row {int(np.argmin(fits)) + 1} {what}: write the index again")

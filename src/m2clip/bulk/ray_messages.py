"""What goes between the driver and the actors on Ray: lists as columns, results as bytes; Arrow and JSON, so nothing is run by reading."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from m2clip.bulk.batches import Asked, BatchResult
from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.data.manifest import Sample
from m2clip.data.places import Place, ShardMember, WebAddress

_ASKED = pa.schema(
    [
        ("path", pa.string()), ("file", pa.string()), ("url", pa.string()), ("shard", pa.string()),
        ("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("sha256", pa.string()),
        ("start_seconds", pa.float64()), ("end_seconds", pa.float64()), ("where", pa.string()),
        ("size_bytes", pa.int64()), ("mtime_ns", pa.int64()), ("seen", pa.bool_()),
    ]
)  # fmt: skip
_ROWS_AT_A_TIME = 10_000


def asked_table(asked: Sequence[Asked]) -> pa.Table:
    """What is to be read, as columns: about 150 bytes a video, which the machines of a cluster share without copies."""
    parts = []
    for first in range(0, len(asked), _ROWS_AT_A_TIME):
        rows = [_asked_row(one) for one in asked[first : first + _ROWS_AT_A_TIME]]
        parts.append(pa.Table.from_pylist(rows, schema=_ASKED))
    return pa.concat_tables(parts).combine_chunks()


def _asked_row(one: Asked) -> dict[str, Any]:
    sample, place = one.sample, one.sample.path
    size, mtime = one.state or (None, None)
    row = {
        "path": one.path, "start_seconds": sample.start_seconds, "end_seconds": sample.end_seconds, "where": sample.where,
        "size_bytes": size, "mtime_ns": mtime, "seen": one.state is not None,
    }  # fmt: skip
    if isinstance(place, WebAddress):
        return {**row, "url": place.url}
    if isinstance(place, ShardMember):
        facts = {"name": place.name, "offset": place.offset, "size": place.size, "sha256": place.shard_sha256}
        return {**row, "shard": place.shard, **facts}
    return {**row, "file": str(place)}


def asked_rows(table: pa.Table) -> list[Asked]:
    """The same as before they became columns."""
    return [
        Asked(
            Sample(_place(row), 0, row["start_seconds"], row["end_seconds"], row["where"]),
            row["path"],
            (row["size_bytes"], row["mtime_ns"]) if row["seen"] else None,
        )
        for row in table.to_pylist()
    ]


def _place(row: dict[str, Any]) -> Place:
    if row["url"] is not None:
        return WebAddress(row["url"])
    if row["shard"] is not None:
        return ShardMember(row["shard"], row["name"], row["offset"], row["size"], row["sha256"])
    return Path(row["file"])


def packed(result: BatchResult, *, first: int) -> bytes:
    """A result whose numbers count from `first` on."""
    facts = {
        "numbers": [first + number for number in result.numbers],
        "bad": [[first + file.index, file.reason, file.crashed] for file in result.bad],
        "damaged": [[first + part.index, part.lost_share] for part in result.damaged],
    }
    sink = pa.BufferOutputStream()
    rows = result.rows.combine_chunks().replace_schema_metadata({b"facts": json.dumps(facts).encode()})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def unpacked(content: bytes, asked: Sequence[Asked], schema: pa.Schema) -> BatchResult:
    """The result that was packed; its rows have this schema."""
    with pa.ipc.open_stream(content) as reader:
        facts = json.loads(reader.schema.metadata[b"facts"])
        rows = reader.read_all().replace_schema_metadata(schema.metadata)

    def sample(number: int) -> Sample:
        return asked[number].sample

    return BatchResult(
        tuple(facts["numbers"]),
        rows,
        tuple(BadFile(sample(n).path, sample(n).where, reason, n, crashed) for n, reason, crashed in facts["bad"]),
        tuple(DamagedFile(sample(n).path, sample(n).where, share, n) for n, share in facts["damaged"]),
    )

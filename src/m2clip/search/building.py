"""Tables of embeddings -> an index that holds exactly their rows; a later call changes only what has changed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.vector_table import VectorTable, row_ids, table_schema
from m2clip.errors import ConfigError
from m2clip.search.video_index import TABLE, connected, naming_failures, open_table, shown_uri, source_of

if TYPE_CHECKING:
    from lancedb.table import Table

APPROXIMATE_FROM = 50_000
"""Rows from which on a search by comparing all of them is slower than is pleasant, and an approximate index is made."""
_ROWS_A_PARTITION = 4096
_GROWTH_BEFORE_TRAINING = 0.5  # new rows, as a share of all, before partitions are made anew
_MOST_IDS = 1000  # in one request
_KEPT_VERSIONS = timedelta(days=1)  # what a search that is under way may still read


@dataclass(frozen=True)
class Changes:
    """What a call did to an index."""

    rows: int
    """That it holds now."""
    added: int
    changed: int
    removed: int
    approximate: bool
    """Whether it is searched through an approximate index."""


def build_index(
    tables: Sequence[Path],
    uri: str | Path,
    *,
    approximate_from: int = APPROXIMATE_FROM,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Changes:
    """Make the index, or bring it up to date: afterwards it holds the rows of these tables and no others.

    Of a video (or stretch) in several tables the last row counts. From `approximate_from` rows on, searches go through an
    approximate index. Raises ConfigError for tables of several models, and for an index of another model, which is left as it is.
    """
    with ExitStack() as held:
        opened = [held.enter_context(VectorTable(path)) for path in tables]
        return _build(opened, uri, approximate_from=approximate_from, progress=progress)


def _build(
    opened: Sequence[VectorTable], uri: str | Path, *, approximate_from: int, progress: Callable[[int, int], None]
) -> Changes:
    source = _one_model(opened)
    shown = shown_uri(uri)
    database = connected(uri)
    table = open_table(database, shown)
    if table is not None and (old := source_of(table, shown)).model_id != source.model_id:
        raise ConfigError(
            f"{shown} is an index of another model ({old.checkpoint}, strength {old.strength:g}, {old.precision}): "
            "give another place with --out, or delete the index first"
        )
    with naming_failures(uri):
        if table is None:
            table = database.create_table(TABLE, schema=index_schema(source))
        before = _digests(table)
        last = _last_rows(opened)
        rows = _Rows(opened, last, total=sum(map(len, opened)) * (2 if before else 1), progress=progress)
        added = sum(name not in before for name in last)
        if added:
            new = rows.chosen(lambda name, digest: name not in before)
            table.add(pa.RecordBatchReader.from_batches(index_schema(source), new))
        changed = 0
        for batch in rows.chosen(lambda name, digest: before.get(name, digest) != digest) if before else ():
            table.merge_insert("id").when_matched_update_all().execute(pa.Table.from_batches([batch]))
            changed += len(batch)
        gone = [name for name in before if name not in last]
        for first in range(0, len(gone), _MOST_IDS):
            # The ids are hex digits of a hash: nothing that a user wrote stands in this filter.
            table.delete(f"id IN ({', '.join(repr(name) for name in gone[first : first + _MOST_IDS])})")
        count = table.count_rows()
        return Changes(
            count, added, changed, len(gone), _bring_in_order(table, count, new=added + changed, least=approximate_from)
        )


def index_schema(source: SourceModel) -> pa.Schema:
    """The columns of the index: those of the tables, an id by path and times, and a digest by which changes are seen."""
    own = [pa.field("id", pa.string(), nullable=False), pa.field("digest", pa.string(), nullable=False)]
    plain = table_schema(source)
    return pa.schema([*own, *plain], metadata=plain.metadata)


def _one_model(tables: Sequence[VectorTable]) -> SourceModel:
    for table in tables[1:]:
        if table.source.model_id != tables[0].source.model_id:
            raise ConfigError(
                f"{tables[0].path} and {table.path} are of two models ({tables[0].source.checkpoint} and "
                f"{table.source.checkpoint}): embed both with one"
            )
    return tables[0].source


def _digests(table: "Table") -> dict[str, str]:
    """The digest of each row of the index, by its id."""
    found: dict[str, str] = {}
    for batch in table.search().select(["id", "digest"]).to_batches():
        found.update(zip(batch.column("id").to_pylist(), batch.column("digest").to_pylist(), strict=True))
    return found


def _last_rows(tables: Sequence[VectorTable]) -> dict[str, int]:
    """For each id the number of the row that counts, over all tables in order."""
    wanted: dict[str, int] = {}
    number = 0
    for table in tables:
        for batch in table.batches(["path", "start_seconds", "end_seconds"]):
            for name in row_ids(batch):
                wanted[name] = number
                number += 1
    return wanted


class _Rows:
    """The rows of some tables as rows of the index, a few thousand at a time."""

    def __init__(
        self,
        tables: Sequence[VectorTable],
        last: dict[str, int],
        *,
        total: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._tables, self._last, self._total, self._progress = tables, last, total, progress
        self._seen = 0
        self._schema = index_schema(tables[0].source)

    def chosen(self, choose: Callable[[str, str], bool]) -> Iterator[pa.RecordBatch]:
        """Those whose id and digest are chosen, each id once."""
        number = 0
        for table in self._tables:
            for batch in table.batches():
                ids, digests = row_ids(batch), _row_digests(batch)
                rows = [
                    row
                    for row, (name, digest) in enumerate(zip(ids, digests, strict=True))
                    if self._last[name] == number + row and choose(name, digest)
                ]
                number += len(ids)
                self._seen += len(ids)
                self._progress(self._seen, self._total)
                if rows:
                    own = [pa.array([cells[row] for row in rows], pa.string()) for cells in (ids, digests)]
                    yield pa.RecordBatch.from_arrays([*own, *batch.take(pa.array(rows)).columns], schema=self._schema)


def _row_digests(batch: pa.RecordBatch) -> list[str]:
    vectors = np.ascontiguousarray(batch.column("vector").flatten().to_numpy()).reshape(len(batch), -1)
    facts = zip(batch.column("duration_seconds").to_pylist(), batch.column("lost_frames").to_pylist(), strict=True)
    return [
        hashlib.sha256(repr(fact).encode() + vector.tobytes()).hexdigest()[:32]
        for fact, vector in zip(facts, vectors, strict=True)
    ]


def _bring_in_order(table: "Table", rows: int, *, new: int, least: int) -> bool:
    """Make or extend the approximate index where there are enough rows; put small files together; drop old versions."""
    has_index = bool(table.list_indices())
    if rows >= least and (not has_index or new > _GROWTH_BEFORE_TRAINING * rows):
        make_approximate(table, rows)
        has_index = True
    table.optimize(cleanup_older_than=_KEPT_VERSIONS)
    return has_index


def make_approximate(table: "Table", rows: int) -> None:
    """The approximate index over all rows, in place of any before: partitions by k-means, one bit a dimension in them.

    RaBitQ (Gao and Long, SIGMOD 2024). Over 100,000 rows it was made in 6 s, and product quantisation, which finds as much, in 303 s
    (`benchmarks/search.py --compare` measures both, and HNSW graphs).
    """
    from lancedb.index import IvfRq

    config = IvfRq(distance_type="cosine", num_partitions=max(1, rows // _ROWS_A_PARTITION))
    table.create_index("vector", config=config, replace=True)

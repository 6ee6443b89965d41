"""An index of embedded videos in LanceDB: opened, searched by a vector, brought up to date."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2clip.bulk.source_model import METADATA_KEY, SourceModel, id_of
from m2clip.data.web import is_web_address, shown_address
from m2clip.errors import ConfigError, first_line
from m2clip.recognizer import Recognizer

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table

TABLE = "videos"
_SCHEMES = ("s3", "gs", "az")
_SHOWN = ("path", "start_seconds", "end_seconds", "duration_seconds", "lost_frames")

PROBED_PARTITIONS = 256
"""How many partitions of an approximate index a query looks into: all of a million rows. At one bit a number this costs little:
of a million rows, 32 partitions took 25 ms of processor and found 85 % of the exact ten, 256 took 27 ms and found all."""
REFINED = 20
"""How many times as many candidates as are asked for are compared exactly."""
MOST_FOUND = 10_000
LOOK_SECONDS = 10.0
"""How old what an open index shows may be."""


@dataclass(frozen=True)
class Found:
    """A video, or a stretch of one, and how near it is."""

    path: str
    """As `m2clip embed` met it: an absolute path, an address, or shard/member."""
    score: float
    """Cosine between the query and the video, -1..1."""
    start_seconds: float | None = None
    """None: from the video's start."""
    end_seconds: float | None = None
    """None: to its end."""
    duration_seconds: float | None = None
    """Of the whole video."""
    lost_frames: int = 0
    """How many frames damage has taken."""

    @property
    def name(self) -> str:
        """The file's name and that of its folder, for those whose business it is not where the videos lie."""
        shown = shown_address(self.path) if is_web_address(self.path) else self.path
        return "/".join([part for part in re.split(r"[\\/]", shown) if part][-2:])  # an index may come from Windows


class VideoIndex:
    """A set of embeddings that are searched by cosine; several threads may search at once.

    Small sets are compared one by one, which is exact; large ones have an approximate index, whose best candidates are compared
    exactly again, so that scores are true cosines. What others write into the index is seen within LOOK_SECONDS.

    A process that forks must do so before it opens an index: LanceDB runs threads, which a fork does not have. Children that
    never touch the index may be forked or spawned at any time.
    """

    def __init__(self, table: "Table", source: SourceModel, uri: str) -> None:
        self._table = table
        self.source = source
        """The model that made the embeddings."""
        self.uri = uri
        """Where it was opened."""
        self._looked = time.monotonic()
        self._looking = threading.Lock()

    @classmethod
    def open(cls, uri: str | Path) -> "VideoIndex":
        """The index in a folder, or in object storage: s3://, gs:// or az://, with credentials from the environment.

        Raises ConfigError where there is none.
        """
        shown = shown_uri(uri)
        # To connect to a folder makes it.
        there = "://" in os.fspath(uri) or Path(uri).is_dir()
        table = open_table(connected(uri), shown) if there else None
        if table is None:
            raise ConfigError(f"{shown} holds no index: make one with m2clip index VECTORS.parquet --out {shown}")
        return cls(table, source_of(table, shown), str(uri))

    @property
    def model_id(self) -> str:
        """The id of the model that made the embeddings; see `SourceModel`."""
        return self.source.model_id

    def _keep_up(self) -> None:
        """Take what others have written meanwhile; an open index would go on with old files, which are removed after a day."""
        if time.monotonic() - self._looked < LOOK_SECONDS or not self._looking.acquire(blocking=False):
            return
        try:
            self._table.checkout_latest()
            if source_of(self._table, shown_uri(self.uri)).model_id != self.model_id:
                raise ConfigError(f"{shown_uri(self.uri)} was made anew with another model: open it again")
            self._looked = time.monotonic()
        finally:
            self._looking.release()

    def __len__(self) -> int:
        with naming_failures(self.uri):
            self._keep_up()
            return self._table.count_rows()

    def check(self, recognizer: Recognizer) -> None:
        """Raise ConfigError where this model's embeddings cannot be compared with those of the index."""
        if id_of(recognizer) != self.model_id:
            raise ConfigError(
                f"{shown_uri(self.uri)} was made with another model ({self.source.checkpoint}, strength {self.source.strength:g}, "
                f"{self.source.precision}) or other clips; use that one, or make the index again"
            )

    def search(self, vector: NDArray[np.float32], top: int = 10) -> list[Found]:
        """The `top` embeddings with the largest cosine to `vector`, float32 [D], best first; fewer where there are fewer.

        Raises ConfigError for a vector that does not fit.
        """
        query = np.asarray(vector, np.float32)
        if query.shape != (self.source.dim,):
            raise ConfigError(
                f"the query has the shape {list(query.shape)}, and the vectors of {shown_uri(self.uri)} have {self.source.dim} "
                "numbers: take the model that made the index"
            )
        norm = float(np.linalg.norm(query))
        if not np.isfinite(norm) or norm == 0:
            raise ConfigError("the query is not finite or 0: give the embedding of a text or a video")
        if not isinstance(top, int) or not 1 <= top <= MOST_FOUND:
            raise ConfigError(f"top is {top!r}: it must be a whole number from 1 to {MOST_FOUND}")
        with naming_failures(self.uri):
            self._keep_up()
            search: Any = self._table.search(query / norm, vector_column_name="vector")
            search = search.distance_type("cosine").nprobes(PROBED_PARTITIONS).refine_factor(REFINED)
            rows = search.select([*_SHOWN, "_distance"]).limit(top).to_list()
        return [Found(score=min(1.0, 1 - row["_distance"]), **{name: row[name] for name in _SHOWN}) for row in rows]


def connected(uri: str | Path) -> "DBConnection":
    """A connection to the folder or object storage; nothing is made yet. Raises ConfigError."""
    text = os.fspath(uri)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme is not None and scheme[1].lower() not in _SCHEMES:
        raise ConfigError(
            f"{shown_uri(text)} is no place for an index: give a folder, or an address that begins with "
            f"{', '.join(f'{one}://' for one in _SCHEMES)}"
        )
    if scheme is None and not text.strip():
        raise ConfigError("the place of an index is empty: give a folder")
    import lancedb

    with naming_failures(text):
        return lancedb.connect(text if scheme else Path(text).absolute())


def open_table(database: "DBConnection", shown: str) -> "Table | None":
    """The table of embeddings in a database; None where there is none."""
    with naming_failures(shown):
        try:
            return database.open_table(TABLE)
        except (ValueError, FileNotFoundError) as error:
            if "not found" in str(error).lower():
                return None
            raise


def source_of(table: "Table", shown: str) -> SourceModel:
    """What the table says of the model behind it. Raises ConfigError."""
    with naming_failures(shown):
        schema = table.schema
    source = SourceModel.from_json((schema.metadata or {}).get(METADATA_KEY), where=shown)
    missing = [name for name in (*_SHOWN, "vector") if name not in schema.names]
    if missing or getattr(schema.field("vector").type, "list_size", None) != source.dim:
        raise ConfigError(f"{shown} is not an index of this program: its columns are others; make it again")
    return source


@contextmanager
def naming_failures(uri: str | Path) -> Iterator[None]:
    """LanceDB's own errors in one sentence; they are long, and of many kinds."""
    try:
        yield
    except ConfigError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        if (of_system := re.search(r"([^:]+) \(os error \d+\)", reason)) is not None:
            reason = of_system[1].strip()  # "No space left on device", without the lines of Rust that met it
        # A password stands before the @ of an address, and what signs a request behind its ?.
        reason = re.sub(r"(?<=://)[^\s/?#]*@|\?[^\s)\"]*", "", reason)
        raise ConfigError(
            f"the index {shown_uri(uri)} cannot be used ({reason[:300]}); check the place, or make it again"
        ) from error


def shown_uri(uri: str | Path) -> str:
    """As messages may name it: without a user and password."""
    return re.sub("(?<=://)[^/?#]*@", "", os.fspath(uri))

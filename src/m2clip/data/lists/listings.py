"""A list, however long -> its rows as columns, with each label named once."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from m2clip.data.lists.arrow_rows import arrow_rows
from m2clip.data.lists.listed_rows import Form, Rows, form_of, plain_rows
from m2clip.data.lists.text_blocks import text_blocks
from m2clip.data.lists.text_files import ListPart, UnfinishedRow
from m2clip.errors import ManifestError

_LONGEST_PREFACE = 64 << 20  # bytes of blank lines and notes


@dataclass(frozen=True)
class Listing:
    """The N rows of a list, before their labels are understood."""

    texts: pa.ChunkedArray
    """What stands for the video, N times."""
    labels: tuple[str, ...]
    """The L different labels, in the order of their first rows."""
    first_rows: tuple[int, ...]
    """The first row of each label, [L]."""
    codes: np.ndarray
    """Which of the labels each row has, int32 [N]."""
    lines: np.ndarray
    """Line numbers from 1, [N]."""
    start_seconds: np.ndarray | None
    """float64 [N], NaN where a row has none; None where no row has one."""
    end_seconds: np.ndarray | None


class ListText:
    """A CSV or a list of lines (.csv, .tsv, .txt, .list; each also .gz), read block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.form: Form | None = None
        """Known once rows were read."""
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all bytes that were read."""
        return self._digest.hexdigest()

    def rows(self) -> Iterator[Rows]:
        """Yield the rows, read many at once where that is possible, else one by one. Raises ManifestError."""
        held: ListPart | None = None  # what can only be read with the next block
        unfinished: UnfinishedRow | None = None
        for first_line, block in text_blocks(self.path, self._digest):
            part = ListPart(self.path, block, first_line)
            if held is not None:
                part = ListPart(self.path, held.raw + block, held.first_line)
            held = unfinished = None
            try:
                if self.form is None:
                    whole = part
                    self.form, part = form_of(whole)
                    if self.form is None:
                        if len(whole.raw) > _LONGEST_PREFACE:
                            raise ManifestError(f"{self.path} lists no video in its first {len(whole.raw) >> 20} MiB")
                        held = whole
                        continue
                yield arrow_rows(part, self.form) or plain_rows(part, self.form)
            except UnfinishedRow as error:
                held, unfinished = part, error
        if unfinished is not None:
            raise unfinished


def joined(pieces: Iterable[Rows]) -> Listing:
    """All rows as one listing."""
    code_of: dict[str, int] = {}
    first_rows: list[int] = []
    kept: list[Rows] = []
    codes: list[np.ndarray] = [np.empty(0, np.int32)]
    texts: list[pa.StringArray] = []
    count = 0
    for rows in pieces:
        encoded = rows.labels.dictionary_encode()
        own = encoded.indices.to_numpy(zero_copy_only=False)
        _, firsts = np.unique(own, return_index=True)  # own codes are numbered by their first row
        for label, first in zip(encoded.dictionary.to_pylist(), firsts.tolist(), strict=True):
            if label not in code_of:
                code_of[label] = len(code_of)
                first_rows.append(count + first)
        codes.append(np.array([code_of[label] for label in encoded.dictionary.to_pylist()], np.int32)[own])
        texts.append(rows.paths)
        kept.append(Rows(rows.paths, pa.nulls(0), rows.lines.astype(np.uint32), rows.start_seconds, rows.end_seconds))
        count += len(own)
    return Listing(
        pa.chunked_array(texts, pa.string()),
        tuple(code_of),
        tuple(first_rows),
        np.concatenate(codes),
        np.concatenate([np.empty(0, np.uint32), *(rows.lines for rows in kept)]),
        _column([(rows.start_seconds, len(rows.lines)) for rows in kept]),
        _column([(rows.end_seconds, len(rows.lines)) for rows in kept]),
    )


def _column(pieces: list[tuple[np.ndarray | None, int]]) -> np.ndarray | None:
    if all(piece is None for piece, _ in pieces):
        return None
    return np.concatenate([np.full(size, np.nan) if piece is None else piece for piece, size in pieces])

"""Text files of the user -> lines and rows that know where they stand. Knows nothing of videos or classes."""

import csv
import difflib
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2clip.errors import ManifestError

SUFFIXES = (".csv", ".txt", ".list")
_LARGEST = (
    256 << 20
)  # bytes; a list of a million videos takes about 100 MB, and a few kB of .gz can unpack to gigabytes


@dataclass(frozen=True)
class ListFile:
    """A text file, read whole."""

    path: Path
    text: str
    sha256: str
    """Of the file's bytes (of the unpacked bytes of a .gz): what `sha256sum` prints."""

    @property
    def is_csv(self) -> bool:
        """Whether the name says CSV."""
        return self.path.name.removesuffix(".gz").lower().endswith(".csv")

    def where(self, line: int) -> str:
        """Return `file:line`, the form in which messages point at a place."""
        return f"{self.path}:{line}"

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (line number from 1, line without surrounding white space) for all lines that are not blank."""
        for number, line in enumerate(io.StringIO(self.text, newline=None), start=1):
            if line.strip():
                yield number, line.strip()

    def header(self) -> tuple[str, ...]:
        """Return the cells of the first line that is not blank, in lower case, as if it were CSV."""
        _, line = next(self.lines(), (0, ""))
        try:
            cells = next(csv.reader([line], skipinitialspace=True), [])
        except csv.Error:  # a line of over 131,072 characters: no header
            cells = []
        return tuple(cell.strip().lower() for cell in cells)

    def rows(self, *, required: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line number, column -> cell) for the CSV rows below the header; blank rows are skipped.

        An optional column `name_1` stands for name_1, name_2 and so on. Other columns come along too, unless they look
        like a slip of the pen for an optional one: that would be ignored without a word. Cells are text without
        surrounding white space; cells missing at a row's end are empty. Raises ManifestError.
        """
        reader = csv.reader(io.StringIO(self.text, newline=None), strict=True, skipinitialspace=True)
        header: list[str] | None = None
        start = 1
        try:
            for cells in reader:
                cells, line, start = [cell.strip() for cell in cells], start, reader.line_num + 1
                if not any(cells):
                    continue
                if header is None:
                    header = [cell.lower() for cell in cells]
                    self._check_header(header, line, required, optional)
                    continue
                if len(cells) > len(header):
                    raise ManifestError(
                        f"{self.where(line)}: {len(cells)} cells under a header of {len(header)}: "
                        "put a cell that holds a comma in double quotes"
                    )
                yield line, dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=True))
        except csv.Error as error:
            raise ManifestError(f"{self.where(start)}: not valid CSV ({error}): check the double quotes") from error

    def _check_header(self, header: list[str], line: int, required: Sequence[str], optional: Sequence[str]) -> None:
        missing = [column for column in required if column not in header]
        if missing:
            raise ManifestError(
                f"{self.where(line)}: the header {','.join(header)!r} lacks {' and '.join(missing)}: "
                f"start the file with {','.join(required)}"
            )
        for column in header:
            if header.count(column) > 1:
                raise ManifestError(f"{self.where(line)}: the column {column!r} stands twice: rename or remove one")
            if column in required or column in optional or re.sub("_[1-9][0-9]*$", "_1", column) in optional:
                continue
            for known in optional:
                stem, underscore, _ = known.partition("_")
                slip = column.startswith(stem) or difflib.SequenceMatcher(None, column, known).ratio() > 0.75
                if underscore and slip:  # one short word, such as dir, begins many an honest column
                    raise ManifestError(f"{self.where(line)}: unknown column {column!r}: did you mean {known!r}?")


def read_list_file(path: Path) -> ListFile:
    """Read a UTF-8 text file (.csv, .txt, .list, each also .gz; a byte order mark is dropped). Raises ManifestError."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if path.is_dir():
        raise ManifestError(f"{path} is a folder: give a file ({', '.join(SUFFIXES)})")
    if suffix not in SUFFIXES:
        raise ManifestError(
            f"{path}: the ending {suffix!r} is none of {', '.join(SUFFIXES)}: rename or convert the file"
        )
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if path.name.endswith(".gz"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
                raw = packed.read(_LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ManifestError(f"{path} is no whole gzip file: pack it anew, or unpack it") from error
    if len(raw) > _LARGEST:
        raise ManifestError(f"{path} holds over {_LARGEST >> 20} MiB of text: split the list")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}:{_line_of(raw, error.start)}: byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise ManifestError(
            f"{path}:{_line_of(raw, raw.index(0))}: a zero byte, so no UTF-8 text: save the file as UTF-8"
        )
    return ListFile(path, text, hashlib.sha256(raw).hexdigest())


def _line_of(raw: bytes, position: int) -> int:
    before = raw[:position]
    return before.count(b"\n") + before.replace(b"\r\n", b"").count(b"\r") + 1

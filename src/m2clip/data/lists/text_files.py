"""Text files of the user -> lines and rows that know where they stand. Knows nothing of videos or classes."""

import csv
import difflib
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from m2clip.data.lists.text_blocks import LARGEST_UNPACKED, text_blocks
from m2clip.errors import ManifestError

SUFFIXES = (".csv", ".tsv", ".txt", ".list")
DELIMITERS = (",", ";", "\t")  # the latter two where the header is written so: spreadsheets in Europe, and .tsv
_SHOWN = 80  # characters of the user's text in a message


class UnfinishedRow(ManifestError):
    """The text ends inside of double quotes: an error at the end of a file, but not at the end of a block."""


@dataclass(frozen=True)
class Header:
    """The columns of a CSV, in lower case."""

    cells: tuple[str, ...]
    delimiter: str = ","


@dataclass(frozen=True)
class ListPart:
    """Whole lines of a text file."""

    path: Path
    raw: bytes
    """UTF-8 with "\\n" for line ends."""
    first_line: int = 1

    @property
    def is_csv(self) -> bool:
        """Whether the name says CSV or TSV."""
        return self.path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))

    @cached_property
    def text(self) -> str:
        """The lines as text."""
        return self.raw.decode("utf-8")

    def where(self, line: int) -> str:
        """Return `file:line`, the form in which messages point at a place."""
        return f"{self.path}:{line}"

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (line number from 1, line without surrounding white space) for all lines that are not blank."""
        for number, line in enumerate(io.StringIO(self.text), start=self.first_line):
            if stripped := line.strip():
                yield number, stripped

    def from_line(self, number: int) -> "ListPart":
        """The part from this line on."""
        rest = io.BytesIO(self.raw)
        for _ in range(self.first_line, number):
            rest.readline()
        return ListPart(self.path, rest.read(), number)

    def header(self, known: Sequence[str] = ()) -> Header:
        """Return the cells of the first line that is not blank, as if it were CSV; `known` columns tell the delimiter."""
        _, line = next(self.lines(), (0, ""))
        headers = [Header(_cells(line, delimiter), delimiter) for delimiter in DELIMITERS]
        return next((one for one in headers if known and set(known) <= set(one.cells)), headers[0])

    def below_header(self, *, required: Sequence[str], optional: Sequence[str]) -> tuple[Header | None, "ListPart"]:
        """Return the header, None where no cell is filled, and the part below it.

        Raises ManifestError where a column is absent, twice, or misspelt.
        """
        delimiter = self.header(required).delimiter
        for line, cells, last in self._records(delimiter):
            if any(cells):
                header = Header(tuple(cell.lower() for cell in cells), delimiter)
                check_columns(self.where(line), header.cells, required, optional)
                return header, self.from_line(last + 1)
        return None, ListPart(self.path, b"", self.first_line)

    def rows(self, header: Header) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line number, column -> cell) for the rows of a part below the header; blank rows are skipped.

        Cells are text without surrounding white space; cells missing at a row's end are empty. Raises ManifestError.
        """
        columns = header.cells
        for line, cells, _ in self._records(header.delimiter):
            if not any(cells):
                continue
            while len(cells) > len(columns) and not cells[-1]:  # spreadsheets pad rows
                cells.pop()
            if len(cells) > len(columns):
                remedy = "a comma" if header.delimiter == "," else repr(header.delimiter)
                raise ManifestError(
                    f"{self.where(line)}: {len(cells)} cells under a header of {len(columns)}: "
                    f"put a cell that holds {remedy} in double quotes"
                )
            yield line, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))

    def _records(self, delimiter: str) -> Iterator[tuple[int, list[str], int]]:
        """Yield (first line, cells, last line)."""
        reader = csv.reader(io.StringIO(self.text), strict=True, skipinitialspace=True, delimiter=delimiter)
        start = self.first_line
        try:
            for cells in reader:
                last = self.first_line - 1 + reader.line_num
                yield start, [cell.strip() for cell in cells], last
                start = last + 1
        except csv.Error as error:
            kind = UnfinishedRow if "unexpected end of data" in str(error) else ManifestError
            raise kind(f"{self.where(start)}: not valid CSV ({error}): check the double quotes") from error


@dataclass(frozen=True)
class ListFile(ListPart):
    """A text file, read whole."""

    sha256: str = ""
    """Of the file's bytes (of the unpacked bytes of a .gz): what `sha256sum` prints."""


def read_list_file(path: Path, suffixes: Sequence[str] = SUFFIXES) -> ListFile:
    """Read a text file whole (UTF-8, or UTF-16 with a byte order mark; packed as .gz, too). Raises ManifestError."""
    check_suffix(path, suffixes)
    digest = hashlib.sha256()
    blocks: list[bytes] = []
    for _, block in text_blocks(path, digest):
        blocks.append(block)
        if sum(map(len, blocks)) > LARGEST_UNPACKED:
            raise ManifestError(f"{path} holds over {LARGEST_UNPACKED >> 20} MiB of text: split it")
    return ListFile(path, b"".join(blocks), sha256=digest.hexdigest())


def check_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise ManifestError where a file's name does not end in one of `suffixes`, or such a one and .gz."""
    name = path.name
    suffix = Path(name[:-3] if name.lower().endswith(".gz") else name).suffix.lower()
    if path.is_dir():
        raise ManifestError(f"{path} is a folder: give a file ({', '.join(suffixes)})")
    if suffix not in suffixes:
        raise ManifestError(
            f"{path}: the ending {suffix!r} is none of {', '.join(suffixes)}: rename or convert the file"
        )


def check_columns(where: str, header: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> None:
    """Raise ManifestError where a column is absent, twice, or looks like a slip of the pen for an optional one."""
    missing = [column for column in required if column not in header]
    if missing:
        raise ManifestError(
            f"{where}: the header {shown(','.join(header))} lacks {' and '.join(missing)}: "
            f"start the file with {','.join(required)}"
        )
    for column in header:
        if not column:  # an index, or what spreadsheets pad rows with
            continue
        if header.count(column) > 1:
            raise ManifestError(f"{where}: the column {shown(column)} stands twice: rename or remove one")
        if column in required or column in optional or re.sub("_[1-9][0-9]*$", "_1", column) in optional:
            continue
        for known in optional:
            stem, underscore, _ = known.partition("_")
            slip = column.startswith(stem) or difflib.SequenceMatcher(None, column, known).ratio() > 0.75
            if underscore and slip:  # one short word, such as dir, begins many an honest column
                raise ManifestError(f"{where}: unknown column {shown(column)}: did you mean {known!r}?")


def shown(text: str) -> str:
    """The user's text in quotes on one line, cut where it is long."""
    return repr(text) if len(text) <= _SHOWN else repr(text[:_SHOWN]) + "..."


def split_line(line: str) -> tuple[str, str]:
    """A line without surrounding space -> what stands before its last run of spaces or tabs and what behind it, maybe ""."""
    cut = max(line.rfind(" "), line.rfind("\t"))  # a pattern with two runs of spaces would take quadratic time
    return (line[:cut].rstrip(" \t"), line[cut + 1 :]) if cut > 0 else (line, "")


def unquoted(text: str) -> str:
    """The text without double quotes that stand around the whole of it and nowhere inside."""
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1] else text


def _cells(line: str, delimiter: str) -> tuple[str, ...]:
    try:
        cells = next(csv.reader([line], skipinitialspace=True, delimiter=delimiter), [])
    except csv.Error:  # a line of over 131,072 characters: no header
        cells = []
    return tuple(cell.strip().lower() for cell in cells)

"""A text file of the user -> blocks of whole lines in UTF-8 with "\\n" for line ends, whatever the file itself has."""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from m2clip.errors import ManifestError

BLOCK = 16 << 20  # bytes
LONGEST_LINE = 16 << 20  # bytes
LARGEST = 8 << 30  # bytes of a plain file: ten million rows take about half a GB
LARGEST_UNPACKED = 256 << 20  # bytes that come out of a .gz, where a few kB can unpack to gigabytes
# Bytes that a .gz may give in any case, and how many times its own beside them; lists give 5 to 20 times.
SMALL_UNPACKED, MOST_TIMES = 16 << 20, 50


# What a file that is no list begins with, what it then is, and the remedy.
_OTHERS = (
    (b"\x1f\x8b", "is packed by gzip", "end its name in .gz, or unpack it"),
    (b"PK\x03\x04", "is a workbook or a zip file", "save it as CSV, or unpack it"),
    (b"PAR1", "is Parquet", "end its name in .parquet"),
    (b"version https://git-lfs", "is a pointer of Git LFS", "fetch the file itself with git lfs pull"),
    (b"<!doctype", "is a web page", "fetch the raw file"),
    (b"<html", "is a web page", "fetch the raw file"),
)


class Digest(Protocol):
    """What `hashlib.sha256()` returns."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""


def text_blocks(path: Path, digest: Digest) -> Iterator[tuple[int, bytes]]:
    """Yield (number of its first line from 1, block). Marks of the byte order are dropped; a file of UTF-16 with such a mark
    is decoded. `digest` takes in the bytes of the file as they are, or of what a .gz holds. Raises ManifestError.
    """
    first_line, carried = 1, b""
    for piece in _with_plain_line_ends(_in_utf8(path, _bytes(path, digest))):
        carried += piece
        whole = carried.rfind(b"\n") + 1
        if not whole:
            if len(carried) > LONGEST_LINE:
                raise ManifestError(
                    f"{path}:{first_line}: a line of over {LONGEST_LINE >> 20} MiB: check that this is a list"
                )
            continue
        block, carried = carried[:whole], carried[whole:]
        yield first_line, _checked(path, first_line, block)
        first_line += block.count(b"\n")
    if carried:
        yield first_line, _checked(path, first_line, carried)


def _bytes(path: Path, digest: Digest) -> Iterator[bytes]:
    if path.exists() and not path.is_file():
        raise ManifestError(f"{path} is no regular file: give a file that can be read twice")
    packed = path.name.lower().endswith(".gz")
    largest, total = LARGEST, 0
    try:
        with path.open("rb") as file:
            if packed:
                largest = min(LARGEST_UNPACKED, SMALL_UNPACKED + MOST_TIMES * path.stat().st_size)
            stream: BinaryIO = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
            while piece := stream.read(BLOCK):
                total += len(piece)
                if total > largest:
                    remedy = "unpack it, or split the list" if packed else "split the list"
                    raise ManifestError(f"{path} holds over {largest >> 20} MiB of text: {remedy}")
                if total == len(piece):
                    for start, is_what, remedy in _OTHERS:
                        if piece[:80].lstrip().lower().startswith(start.lower()):
                            raise ManifestError(f"{path} {is_what}, not a list: {remedy}")
                digest.update(piece)
                yield piece
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist: check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ManifestError(f"{path} is no whole gzip file: pack it anew, or unpack it") from error
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}): check its permissions") from error


def _in_utf8(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    start = next(pieces, b"")
    if not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield start
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        yield decoder.decode(start).encode("utf-8")
        for piece in pieces:
            yield decoder.decode(piece).encode("utf-8")
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise ManifestError(f"{path} is no whole UTF-16, though it begins so: save the file as UTF-8") from None


def _with_plain_line_ends(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for piece in pieces:
        piece = held + piece
        held = b"\r" if piece.endswith(b"\r") else b""  # the "\n" of it may come with the next piece
        piece = piece[: len(piece) - len(held)]
        yield piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece
    if held:
        yield b"\n"


def _checked(path: Path, first_line: int, block: bytes) -> bytes:
    def line(position: int) -> int:
        return first_line + block.count(b"\n", 0, position)

    zero = block.find(b"\0")
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        if not 0 <= zero < error.start:
            raise ManifestError(
                f"{path}:{line(error.start)}: byte 0x{block[error.start]:02x} is not UTF-8: save the file as UTF-8"
            ) from None
    if zero >= 0:
        raise ManifestError(f"{path}:{line(zero)}: a zero byte, so no UTF-8 text: save the file as UTF-8")
    if codecs.BOM_UTF8 in block:  # at the start of a line, from files that were put together
        block = re.sub(b"^(?:" + codecs.BOM_UTF8 + b")+", b"", block, flags=re.MULTILINE)
    return block

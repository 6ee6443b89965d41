"""The table of contents of a tar file: what lies where. Nothing is ever unpacked to a path that a tar file names."""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from m2clip.errors import ManifestError

_BLOCK = 512  # bytes
_TAIL = 1 << 16  # bytes behind the end mark that are looked at; tar programs pad to 10 KiB
_ABOUT_THE_NEXT = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MOST_ABOUT = 1 << 20  # bytes of a header that tells of the next member; its name, mostly
# Python before 3.11.10 looks through digits in a time that grows by their square (CVE-2024-6232). No part of a path is as long.
_ENDLESS_DIGITS = re.compile(rb"[0-9]{256}")
# What the reader of Python raises for headers that are no headers: of its own kind, and what it meets on the way there.
_FAULTS = (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError, EOFError, RecursionError, MemoryError)


@dataclass(frozen=True)
class TarMember:
    """A file inside of a tar file."""

    name: str
    offset: int
    """Where its bytes begin in the tar file."""
    size: int
    """How many they are."""
    plain: bool = True
    """Whether its bytes lie there in one piece: not so for links, devices and sparse files."""


def tar_members(file: BinaryIO, *, name: str) -> Iterator[TarMember]:
    """Yield all members of a tar file but folders, in their order. `name` stands in messages.

    Raises ManifestError for what is no whole tar file: cut, broken in the middle, packed, or with more behind its end.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", tarinfo=_bounded(file, name)) as tar:
            yield from _members(tar, size, name)
            file.seek(tar.offset)
            _check_end(file.read(_TAIL), tar.offset, name)
    except ManifestError:
        raise
    except _FAULTS as error:
        raise ManifestError(
            f"{name} is no whole tar file ({' '.join(str(error).split()) or type(error).__name__}): "
            "fetch or pack it again, without compression"
        ) from error


def _bounded(file: BinaryIO, name: str) -> type[tarfile.TarInfo]:
    """The reader of headers, for this file: ManifestError for what costs too much to look through."""

    class Bounded(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            found = super().frombuf(buf, encoding, errors)
            if found.type in _ABOUT_THE_NEXT:
                begin = file.tell()
                content = file.read(min(max(found.size, 0), _MOST_ABOUT))
                file.seek(begin)
                if found.size > _MOST_ABOUT or _ENDLESS_DIGITS.search(content):
                    raise ManifestError(
                        f"{name} has a header at byte {begin} that no tar program writes: pack the files again"
                    )
            return found

    return Bounded


def _members(tar: tarfile.TarFile, size: int, name: str) -> Iterator[TarMember]:
    last = -1
    while (found := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # they would be kept, each with all its fields
        if found.offset <= last or found.size < 0 or tar.offset <= found.offset:
            raise ManifestError(f"{name}: the header of {found.name!r} points back: fetch or pack the file again")
        last = found.offset
        if found.isdir():
            continue
        plain = found.isreg() and not found.issparse()
        if plain and found.offset_data + found.size > size:
            raise ManifestError(
                f"{name} ends inside of {found.name!r}, at byte {size} of {found.offset_data + found.size} or more: "
                "it was cut; fetch or pack it again"
            )
        yield TarMember(utf8(found.name), found.offset_data, found.size, plain)


def _check_end(tail: bytes, offset: int, name: str) -> None:
    """Python takes a broken header for the end, and the end of the file, too."""
    if len(tail) < _BLOCK:
        raise ManifestError(f"{name} has no end mark behind byte {offset}: it was cut; fetch or pack it again")
    if any(tail):
        what = (
            "is broken" if any(tail[:_BLOCK]) else "goes on behind its end, as where tar files are put together by cat,"
        )
        raise ManifestError(f"{name} {what} at byte {offset}: fetch or pack it again")


def utf8(name: str) -> str:
    """Names are stored as they stand; a byte that is no UTF-8 is written as \\xff, so that any report can name it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

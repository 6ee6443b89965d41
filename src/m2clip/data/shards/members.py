"""Videos inside of tar files (WebDataset's shards): where each lies, and its bytes. Nothing is unpacked to the disk."""

import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from typing import TYPE_CHECKING, overload

import numpy as np

from m2clip.data.places import Place, ShardMember
from m2clip.data.shards import cache as shard_cache
from m2clip.data.shards.tar_members import tar_members
from m2clip.data.web import is_web_address, shown_address
from m2clip.errors import ConfigError, ManifestError, VideoError

if TYPE_CHECKING:
    import pyarrow as pa

_LARGEST = 2**32  # bytes of one video: it is held in memory while it is read


@dataclass(frozen=True)
class Shard:
    """A tar file of videos."""

    path: str
    """Path or web address."""
    size: int | None = None
    """In bytes; None where nobody has noted it."""
    sha256: str = ""
    """"" where nobody has noted it."""


class ShardPlaces(Sequence[Place]):
    """The places of N videos in shards, as columns: a ShardMember is made when it is asked for, and not kept."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        numbers: np.ndarray,
        names: "pa.ChunkedArray",
        offsets: np.ndarray,
        sizes: np.ndarray,
    ) -> None:
        """`numbers`: which shard, int [N]; `names` of the members, text [N]; `offsets` and `sizes` in bytes, int64 [N]."""
        self.shards = tuple(shards)
        self.numbers, self.offsets, self.sizes = numbers, offsets, sizes
        self._names = names

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> ShardMember: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequence[Place]": ...

    def __getitem__(self, index: int | slice) -> "ShardMember | Sequence[Place]":
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        shard = self.shards[self.numbers[index]]
        name = self._names[int(index)].as_py()
        return ShardMember(shard.path, name, int(self.offsets[index]), int(self.sizes[index]), shard.sha256)

    def real_texts(self, start: int, stop: int) -> "pa.StringArray":
        """What tells the videos `start` to `stop` - 1 from all others: links to shards are followed."""
        import pyarrow as pa
        import pyarrow.compute as pc

        paths = pa.array(self._real_paths, pa.string()).take(pa.array(self.numbers[start:stop]))
        return pc.binary_join_element_wise(paths, self._names.slice(start, stop - start).combine_chunks(), "/")

    @cached_property
    def _real_paths(self) -> list[str]:
        return [shard.path if is_web_address(shard.path) else os.path.realpath(shard.path) for shard in self.shards]

    def absent(self) -> np.ndarray:
        """bool [N]: whether its shard is not there; behind a web address that is only known when it is fetched."""
        gone = [not is_web_address(shard.path) and not os.path.exists(shard.path) for shard in self.shards]
        return np.array(gone, bool)[self.numbers]

    @property
    def are_fetched(self) -> bool:
        """Whether some shard lies behind a web address."""
        return any(is_web_address(shard.path) for shard in self.shards)


def fetched_shards(places: Sequence[Place]) -> ShardPlaces | None:
    """These places, if some of them lie in shards behind web addresses, which training then takes shard by shard."""
    return places if isinstance(places, ShardPlaces) and places.are_fetched else None


def member_bytes(member: ShardMember) -> bytes:
    """The bytes of a video in a shard; a shard behind a web address is fetched first. Raises VideoError."""
    if member.size > _LARGEST:
        raise VideoError(
            f"{member} has {member.size / 2**30:.1f} GiB, too many to be read out of a shard: list it as a file"
        )
    try:
        with open_shard(member.shard, sha256=member.shard_sha256) as file:
            if member.shard_sha256 and not is_web_address(member.shard):  # what is fetched is held to its sum
                _check_header(file, member)
            whole = member.offset + member.size <= os.fstat(file.fileno()).st_size
            file.seek(member.offset)
            data = file.read(member.size) if whole else b""
    except OSError as error:
        raise VideoError(
            f"cannot read {member}: {error.strerror or error}; check the shard and its permissions"
        ) from error
    if len(data) < member.size:
        raise VideoError(f"cannot read {member}: its shard was cut; fetch or pack the shard again")
    return data


def _check_header(file: BufferedReader, member: ShardMember) -> None:
    """Raise VideoError where an index leads to other bytes: those of a shard that was written anew, or of another set."""
    file.seek(max(0, member.offset - tarfile.BLOCKSIZE))
    header = file.read(tarfile.BLOCKSIZE)
    if len(header) == tarfile.BLOCKSIZE:  # else the file was cut, which is told as such
        try:
            found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.TarError:
            found = tarfile.TarInfo()
        if (found.name, found.size) != (member.name, member.size):
            raise VideoError(
                f"{member} is not where the index says: {member.shard} is not the file that its index was made of; put the shards "
                "and the index of one set there"
            )


def named_member(text: str) -> ShardMember | None:
    """The member that a report names, such as `set/shard-000003.tar/00000042.mp4`; None for a text that names no shard here.

    Raises VideoError where the shard has no such member.
    """
    path, inside, name = text.partition(".tar/")
    path += ".tar"
    if not inside or os.path.exists(text) or not os.path.isfile(path):
        return None
    try:
        with open_shard(path) as file:
            found = [member for member in tar_members(file, name=path) if member.name == name and member.plain]
    except OSError as error:
        raise VideoError(
            f"cannot read {text}: {error.strerror or error}; check the shard and its permissions"
        ) from error
    except ManifestError as error:
        raise VideoError(str(error)) from error
    if not found:
        raise VideoError(f"cannot read {text}: the shard has no such member; see what it holds by tar -tf")
    return ShardMember(path, name, found[0].offset, found[0].size)


def open_shard(path: str, *, sha256: str = "") -> BufferedReader:
    """A shard, open for reading. Raises VideoError or OSError."""
    if not is_web_address(path):
        return open(path, "rb")
    try:
        return shard_cache.opened(path, sha256=sha256)
    except ConfigError as error:
        raise VideoError(str(error)) from error


_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")
MOST_SHARDS = 10**6


def expand_braces(pattern: str) -> list[str]:
    """'s-{08..10}.tar' -> ['s-08.tar', 's-09.tar', 's-10.tar']; '{a,b}' -> ['a', 'b']. What is no range or choice stays.

    A range counts up or down, with as many digits as its longer end where one begins with 0. Raises ConfigError beyond a million.
    """
    return _expanded(pattern, shown_address(pattern) if is_web_address(pattern) else pattern)


def _expanded(pattern: str, name: str) -> list[str]:
    match = _BRACES.search(pattern)
    while match and not (_RANGE.fullmatch(match[1]) or "," in match[1]):
        match = _BRACES.search(pattern, match.end())
    if match is None:
        return [pattern]
    tails = _expanded(pattern[match.end() :], name)
    choices = _choices(match[1], name)
    if len(choices) * len(tails) > MOST_SHARDS:
        raise ConfigError(f"{name} names more than {MOST_SHARDS} shards: check the numbers in braces")
    return [pattern[: match.start()] + choice + tail for choice in choices for tail in tails]


def _choices(inside: str, name: str) -> list[str]:
    span = _RANGE.fullmatch(inside)
    if span is None:
        return inside.split(",")
    first, last = int(span[1]), int(span[2])
    if abs(last - first) >= MOST_SHARDS:
        raise ConfigError(f"{name} names more than {MOST_SHARDS} shards: check the numbers in braces")
    padded = any(len(end) > 1 and end.startswith("0") for end in span.groups())
    digits = max(map(len, span.groups())) if padded else 0
    step = 1 if last >= first else -1
    return [f"{number:0{digits}d}" for number in range(first, last + step, step)]

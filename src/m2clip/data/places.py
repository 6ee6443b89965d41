"""Where a video of a list lies: in a file or a folder of pictures, at a web address, or inside of a shard."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WebAddress:
    """A video behind http:// or https://."""

    url: str

    def __str__(self) -> str:
        return re.sub("(?<=://)[^/?#]*@", "", self.url)  # a user and password have no place in reports


@dataclass(frozen=True)
class ShardMember:
    """A video file inside of a tar file; its bytes lie there as they are."""

    shard: str
    """Path or web address of the tar file."""
    name: str
    """Of the member."""
    offset: int
    """Where its bytes begin in the tar file."""
    size: int
    """How many they are."""
    shard_sha256: str = ""
    """Of the whole tar file, which is held against it where it is fetched; "" where nobody has noted it."""

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


Place = Path | WebAddress | ShardMember


def is_absent(place: Place) -> bool:
    """Whether nothing can be there: a path that does not exist. What lies elsewhere is only known when it is read."""
    return isinstance(place, Path) and not os.path.exists(place)  # which is False for names that no system allows, too

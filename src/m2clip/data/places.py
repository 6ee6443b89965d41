"""Where a video of a list lies: in a file or a folder of pictures, at a web address, or inside of a shard."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from m2clip.data.web import is_web_address, shown_address


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
        return f"{shown_address(self.shard) if is_web_address(self.shard) else self.shard}/{self.name}"


Place = Path | WebAddress | ShardMember


def absence(place: Place) -> str:
    """What to say of a place where nothing is. Paths from Windows have been tried with slashes, too, where a list names them."""
    if os.sep == "/" and "\\" in str(place):
        return "there is no such file, and folders are separated by / here; check the path, and the folder that it starts in"
    return "there is no such file; check the path"


def is_absent(place: Place) -> bool:
    """Whether nothing can be there: a path or a shard that does not exist. What lies on the web is only known when it is read."""
    path = place.shard if isinstance(place, ShardMember) and not is_web_address(place.shard) else place
    return isinstance(path, str | Path) and not os.path.exists(path)  # False for names that no system allows, too

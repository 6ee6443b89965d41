"""What one request may take, and the errors of one that takes more."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from m2clip.errors import ConfigError, M2CLIPError


class LimitError(M2CLIPError):
    """A request is larger than the server allows."""


class Busy(M2CLIPError):
    """So much is waiting that a request is turned away at once."""

    retry_seconds = 2
    """When to try again."""


class TooSlow(M2CLIPError):
    """A request took longer than it may; what had not begun was dropped."""


class Broken(M2CLIPError):
    """The server cannot answer now, and the request is not to blame: its disk is full, or its index is gone."""


@contextmanager
def room() -> Iterator[None]:
    """What writes an upload stands in it: Broken where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Broken("the server's disk has no room for the file; try again later") from None


@dataclass(frozen=True)
class Limits:
    """The limits of a server. ConfigError where one is not above 0."""

    most_bytes: int = 100 * 2**20
    """Of an upload."""
    most_seconds: float = 600.0
    """Length of a video."""
    most_pixels: int = 3840 * 2160
    """Of one frame."""
    most_frames: int = 200_000
    """Of a video, whatever its length."""
    most_labels: int = 1000
    """Of a request."""
    most_label_characters: int = 200
    """Of one label, and of a text that is searched for."""
    most_top: int = 100
    """Results that a request may ask for."""
    most_windows: int = 2000
    """Of a timeline."""
    receive_seconds: float = 60.0
    """How long an upload may take to arrive."""
    decode_seconds: float = 30.0
    """How long a decoding process may need for one file."""
    decode_memory_bytes: int = 2 * 2**30
    """What a decoding process may allocate, the libraries that it loads included."""
    request_seconds: float = 60.0
    """How long a request may take once its upload is here."""
    most_waiting: int = 32
    """Requests that are worked on or wait; one more is turned away."""
    most_connections: int = 256
    """That are open at once, the page's included; see `connections`."""
    most_batch: int = 8
    """Clips that go through the model together."""
    batch_wait_seconds: float = 0.004
    """How long the model waits for more clips before it begins with those it has."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{field.name} is {value!r}: it must be a number above 0")

    def check_labels(self, labels: list[str] | None) -> None:
        """Raise LimitError for labels that are too many or too long."""
        if labels is None:
            return
        if len(labels) > self.most_labels:
            raise LimitError(f"these are {len(labels):,} labels; give {self.most_labels:,} at most")
        for label in labels:
            self.check_text(label, "a label")

    def check_text(self, text: str, what: str) -> None:
        """Raise LimitError for a text that is too long, ConfigError for what is no text; `what` it is stands in the message."""
        if len(text) > self.most_label_characters:
            raise LimitError(f"{what} has {len(text):,} characters; give {self.most_label_characters:,} at most")
        if any("\ud800" <= character <= "\udfff" for character in text):
            # JSON can spell halves of a character; no answer could repeat them.
            raise ConfigError(f"{what} holds half a character (a surrogate without its other half); send whole ones")

    def check_top(self, top: int) -> None:
        """Raise LimitError for more results than are given at once, ConfigError for none."""
        if top < 1:
            raise ConfigError(f"top is {top}: it must be 1 or more")
        if top > self.most_top:
            raise LimitError(f"top is {top:,}; ask for {self.most_top:,} at most")

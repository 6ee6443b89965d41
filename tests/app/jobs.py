"""Jobs for a decoding process that go wrong; each can stand where a ClipsJob does."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Crashing:
    """Dies as a decoder does that meets a bug."""

    path: Path
    name: str
    limits: Any = None
    readers: Any = None

    def run(self) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGSEGV)
        yield {}, ()


@dataclass(frozen=True)
class Hanging(Crashing):
    """Never ends."""

    def run(self) -> Iterator[Any]:
        time.sleep(600)
        yield {}, ()


@dataclass(frozen=True)
class Hungry(Crashing):
    """Takes more memory than there is for it."""

    def run(self) -> Iterator[Any]:
        yield {"bytes": len(np.ones(8 << 30, np.uint8))}, ()


@dataclass(frozen=True)
class Writing(Crashing):
    """Tries to leave a file behind, as a decoder should not."""

    def run(self) -> Iterator[Any]:
        try:
            self.path.write_bytes(b"x")
        except OSError as error:
            yield {"refused": type(error).__name__}, ()


@dataclass(frozen=True)
class Lying(Crashing):
    """Sends arrays of a kind that no decoding makes."""

    def run(self) -> Iterator[Any]:
        yield {}, (np.array(["text"]),)

"""Ways to break a file, each from a seed: those of disks and networks, and those of somebody who knows what a reader trusts."""

import re
from collections.abc import Callable

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

_DIGITS = re.compile(rb"-?[0-9]+")
_TEXTS = re.compile(rb'"[^"\n]{1,200}"|[A-Za-z_./]{2,40}')
_NUMBERS = (
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"9" * 20,
    b"9" * 400,
    b"9" * 5000,
    b"18446744073709551616",
    b"4294967295",
    b"0.5",
)
_WORDS = (b'"../../../etc/passwd"', b'"/etc/passwd"', b'"\\ud800"', b'""', b"null", b"[]", b"{}", b"[" * 300, b'{"a":' * 2000,
          b'"' + b"x" * 70_000 + b'"', b"<script>alert(1)</script>", b"!!python/object/apply:os.system [ls]", b"*a", b"true",
          b"\x00", b"\xff\xfe", b"\x1b[2J", b"\r")  # fmt: skip


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """One to sixty of them."""
    broken = bytearray(data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 60))):
        broken[at] ^= 1 << int(rng.integers(8))
    return bytes(broken)


def break_ends(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes near the start or the end, where formats keep what they say of the rest."""
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(min(600, len(data))))
        broken[at if rng.random() < 0.5 else -1 - at] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
    return bytes(broken)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end or the start is missing."""
    at = int(rng.integers(len(data)))
    return data[:at] if rng.random() < 0.7 else data[at:]


def move_stretch(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch is zero, gone, there twice, or something else."""
    start = int(rng.integers(len(data)))
    end = min(len(data), start + 1 + int(rng.integers(max(1, len(data) // 5))))
    made = (bytes(end - start), b"", data[start:end] * 2, rng.bytes(int(rng.integers(1, 2000))))
    return data[:start] + made[int(rng.integers(4))] + data[end:]


def change_numbers(data: bytes, rng: np.random.Generator) -> bytes:
    """Whole numbers in text, such as shapes and offsets in a header, become others that are huge, negative or none."""
    return _replaced(data, rng, _DIGITS, _NUMBERS)


def change_words(data: bytes, rng: np.random.Generator) -> bytes:
    """Names and texts become paths that lead out, scripts, brackets without an end."""
    return _replaced(data, rng, _TEXTS, _WORDS)


def _replaced(data: bytes, rng: np.random.Generator, what: re.Pattern[bytes], by: tuple[bytes, ...]) -> bytes:
    found = [match.span() for match in what.finditer(data[:100_000])]
    for _ in range(int(rng.integers(1, 4))):
        if not found:
            break
        start, end = found.pop(int(rng.integers(len(found))))
        new = by[int(rng.integers(len(by)))]
        # Every other time it takes no other room than before, so that lengths elsewhere stay right.
        data = data[:start] + (new if rng.random() < 0.5 else new[: end - start].ljust(end - start)) + data[end:]
        found = [span for span in found if span[1] <= start]
    return data


MUTATIONS: tuple[Mutation, ...] = (flip_bits, break_ends, cut, move_stretch, change_numbers, change_words)
"""In turn."""

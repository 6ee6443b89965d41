"""Broken copies of video files, each made from a seed, and what reading one of them comes to.

Run as a program (`python -m tests.corruptions FOLDER FIRST LAST`) it reads the corruptions of these seeds of the files in a
folder, within limits of memory, and says each one's outcome in a line, so that whoever started it learns where it died or hung.
"""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from m2clip.data.video import Video
from m2clip.errors import VideoError

ADDRESS_SPACE = 4 * 2**30
"""Bytes, of which the interpreter and its libraries take one gigabyte."""


def _stretch(data: bytes, rng: np.random.Generator, most: float = 0.2) -> tuple[int, int]:
    start = int(rng.integers(len(data)))
    return start, min(len(data), start + 1 + int(rng.integers(max(1, int(most * len(data))))))


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    broken = bytearray(data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 60))):
        broken[at] ^= 1 << int(rng.integers(8))
    return bytes(broken)


def write_random_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """200 of them, as in the report of a crashed process."""
    broken = bytearray(data)
    for at in rng.integers(0, len(data), 200):
        broken[at] = int(rng.integers(256))
    return bytes(broken)


def break_header(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes near the start or the end, where formats keep what they say of the rest."""
    broken = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(min(600, len(data))))
        broken[at if rng.random() < 0.5 else -1 - at] = int(
            rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))])
        )
    return bytes(broken)


def cut_end(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: 1 + int(rng.integers(len(data)))]


def cut_start(data: bytes, rng: np.random.Generator) -> bytes:
    return data[int(rng.integers(len(data))) :]


def zero(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def remove(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(data, rng)
    return data[:end] + data[start:end] + data[end:]


def insert_junk(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 2000))) + data[at:]


def swap_blocks(data: bytes, rng: np.random.Generator) -> bytes:
    size = int(rng.choice([188, 512, 4096]))
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    first, second = rng.integers(0, len(blocks), 2)
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


def swap_boxes(data: bytes, rng: np.random.Generator) -> bytes:
    """Two neighbours among the parts that begin with a known name of four letters (MP4, AVI); otherwise blocks."""
    names = b"ftyp moov mdat trak mdia minf stbl stsd stts stsc stsz stco stss ctts edts moof traf trun LIST strl movi idx1 00dc".split()
    found = sorted(at for name in names if (at := data.find(name)) >= 0)
    if len(found) < 3:
        return swap_blocks(data, rng)
    i = int(rng.integers(len(found) - 2))
    a, b, c = found[i : i + 3]
    return data[:a] + data[b:c] + data[a:b] + data[c:]


KINDS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bits, write_random_bytes, break_header, cut_end, cut_start, zero, remove, repeat, insert_junk, swap_blocks, swap_boxes,
)  # fmt: skip


def corrupted(files: list[Path], seed: int) -> tuple[str, bytes]:
    """What was done to which file, and the bytes that came of it. Every file and kind has its turn."""
    rng = np.random.default_rng(seed)
    path, kind = files[seed % len(files)], KINDS[seed // len(files) % len(KINDS)]
    return f"{kind.__name__} {path.name}", kind(path.read_bytes(), rng)


def outcome(data: bytes) -> str:
    """How reading ends: "error", or "frames" with how many; AssertionError where two ways of reading differ."""
    try:
        with Video(data) as video:
            promised = video.info.frame_count
            frames = video.frames(range(promised))
            full = video.info
        with Video(data) as video:
            assert video.info.frame_count == promised
            wanted = np.linspace(0, promised - 1, 8).astype(int)
            sparse = video.frames(wanted)
            seen = video.info
    except VideoError as error:
        return "error" if "\n" not in str(error) else "wrong: an error of several lines"
    assert full.frame_count <= promised
    assert 0 <= full.lost_share < 1
    assert not (np.diff(full.pts_seconds) < 0).any()
    if seen.frame_count == full.frame_count:
        # Where damage was met by both, a frame past the end is the last one.
        np.testing.assert_array_equal(sparse, frames[np.minimum(wanted, full.frame_count - 1)])
        return f"{full.frame_count} frames, {full.lost_frames} lost"
    # The sparse reading has not met the damage: its frames are those of the same times.
    assert seen.frame_count == promised, f"{seen.frame_count} frames by few, {full.frame_count} by all of {promised}"
    for frame, seconds in zip(sparse, seen.pts_seconds[wanted], strict=True):
        same = np.flatnonzero(np.abs(full.pts_seconds - seconds) < 1e-6)
        assert not len(same) or any((frame == frames[i]).all() for i in same), f"another picture at {seconds} s"
    return f"{full.frame_count} frames, {full.lost_frames} lost, damage not met by a few frames"


def main(folder: str, first: str, last: str) -> None:
    """Read the corruptions `first` to `last` - 1."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    files = sorted(Path(folder).iterdir())
    counts: Counter[str] = Counter()
    for seed in range(int(first), int(last)):
        what, data = corrupted(files, seed)
        print(json.dumps({"seed": seed, "what": what}), flush=True)
        start = time.monotonic()
        try:
            found = outcome(data)
        except AssertionError as error:
            found = f"wrong: {' '.join(str(error).split())[:200]}"
        counts["frames" if "frames" in found else found.partition(":")[0]] += 1
        print(json.dumps({"seed": seed, "outcome": found, "seconds": round(time.monotonic() - start, 2)}), flush=True)
    print(json.dumps({"most_resident_mib": most_resident_kib() // 1024, "outcomes": counts}))


def most_resident_kib() -> int:
    """The most memory that this process has had; ru_maxrss would tell of the process that started it, if that was larger."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The outermost structure of a file, read before any decoder sees it: whether the file is whole, and whether its index is sane.

FFmpeg tells neither. It ends a file that is cut between two packets as if it were whole, and it makes a list of all the frames
that an MP4 says it has: 2 kB that claim fifty million frames of one byte each take 3.5 GB.
"""

import zlib
from collections.abc import Iterator
from io import BytesIO
from os import SEEK_END
from typing import BinaryIO

from m2clip.errors import VideoError

_MOST_UNLISTED = 1_000_000  # frames, nine hours at 30 a second; for these FFmpeg takes 70 MB
_MOST_EDITED = 4_000_000  # frames times entries of the edit list, each of which can show all of them again
_MOST_BOXES = 1_000_000
_MOST_INDEX_BYTES = 64 * 2**20  # of an index that is stored compressed
_DEEPEST = 12
_PARENTS = frozenset(["moov", "trak", "mdia", "minf", "stbl", "moof", "traf", "mvex", "edts", "dinf", "udta"])
_EBML, _SEGMENT, _VOID = 0x1A45DFA3, 0x18538067, 0xEC
_TAIL = 4096  # bytes; all zero where a program has laid out the whole file and not filled it


def is_cut(file: BinaryIO, *, name: str) -> bool:
    """Whether a file ends before its outermost parts do, as they give their sizes (MP4, AVI, Matroska; False for any other).

    Raises VideoError where an MP4's index claims more frames than are to be believed.
    """
    size = file.seek(0, SEEK_END)
    file.seek(0)
    start = file.read(4)
    if start == b"RIFF":
        return _riff_is_cut(file, size)
    if int.from_bytes(start, "big") == _EBML:
        return _matroska_is_cut(file, size)
    return _Index(name).read(file, size)


def _riff_is_cut(file: BinaryIO, size: int) -> bool:
    at = 0
    while at < size:  # a large AVI is a row of them
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or length == 0:
            return False
        at += 8 + length + length % 2
    return at > size + 1  # the padding byte may be missing


def _matroska_is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - _TAIL))
    if not any(file.read()):
        return True
    at = 0
    for _ in range(10):
        file.seek(at)
        head = file.read(16)
        id_bytes = 9 - head[0].bit_length() if head and head[0] else 0
        number = head[id_bytes : id_bytes + 1]
        if not id_bytes or not number or not number[0]:
            return False
        size_bytes = 9 - number[0].bit_length()
        value = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        body = at + id_bytes + size_bytes
        kind = int.from_bytes(head[:id_bytes], "big")
        if kind == _SEGMENT:
            is_unknown = value == (1 << 7 * size_bytes) - 1  # as live recordings have it
            return not is_unknown and body + value > size
        if kind not in (_EBML, _VOID):
            return False
        at = body + value
    return False


class _Index:
    """Walks through the boxes of an MP4 (ISO/IEC 14496-12) and adds up the frames that have no row of a table each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._boxes = self._samples = 0
        self._begin_track()

    def read(self, file: BinaryIO, size: int) -> bool:
        """Whether the last box ends behind the file."""
        found = False
        for kind, body, end in self._inside(file, 0, size):
            if kind in _PARENTS:
                self._read_parent(file, body, min(end, size), 1)
            found |= kind in ("moov", "moof", "mdat")
            if found and end > size:
                return True
        return False

    def _inside(self, file: BinaryIO, at: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Kind, begin of the body and end of each box in a stretch of the file; the last may end behind it."""
        while at + 8 <= end:
            self._boxes += 1
            if self._boxes > _MOST_BOXES:
                raise VideoError(f"cannot read {self._name}: it has more than {_MOST_BOXES:,} parts; export it again")
            file.seek(at)
            header = file.read(16)
            length, body = int.from_bytes(header[:4], "big"), at + 8
            if length == 1:
                length, body = int.from_bytes(header[8:16], "big"), at + 16
            elif length == 0:
                length = end - at
            if length < body - at:
                return
            yield header[4:8].decode("latin-1"), body, at + length
            at += length

    def _read_parent(self, file: BinaryIO, start: int, end: int, depth: int) -> None:
        for kind, body, box_end in self._inside(file, start, end):
            file.seek(body)
            if kind in _PARENTS and depth < _DEEPEST:
                self._read_parent(file, body, min(box_end, end), depth + 1)
                if kind == "trak":
                    self._end_track()
            elif kind == "cmov":
                self._read_compressed(file.read(min(box_end, end) - body), depth)
            elif kind == "hdlr":
                handler = file.read(12)[8:]
                if handler in (b"soun", b"vide"):  # QuickTime has a second one, of the data's place
                    self._handler = handler
            elif kind == "stts":
                self._steps = file.read(16)[4:]
            elif kind == "stsz":
                self._sizes = file.read(12)[4:]
            elif kind == "elst":
                self._edits = file.read(8)[4:]
            elif kind == "trun":
                run = file.read(8)
                if not int.from_bytes(run[:4], "big") & 0xF00:  # no row a sample: of duration, size, flags or offset
                    self._add(int.from_bytes(run[4:], "big"))

    def _read_compressed(self, box: bytes, depth: int) -> None:
        at = box.find(b"cmvd")
        if at < 0 or depth >= _DEEPEST:
            return
        try:
            index = zlib.decompressobj().decompress(box[at + 8 :], _MOST_INDEX_BYTES)
        except zlib.error:
            return  # FFmpeg cannot read it, either
        self._read_parent(BytesIO(index), 0, len(index), depth + 1)

    def _begin_track(self) -> None:
        self._handler, self._steps, self._sizes, self._edits = b"", b"", b"", b""

    def _end_track(self) -> None:
        one_size, count = int.from_bytes(self._sizes[:4], "big"), int.from_bytes(self._sizes[4:], "big")
        # Plain sound is a sample a tick, all of one size; FFmpeg takes it in large pieces.
        is_plain_sound = self._handler == b"soun" and self._steps[:4] == self._steps[8:] == b"\0\0\0\1"
        if one_size and not is_plain_sound:
            self._add(count)
        edits = int.from_bytes(self._edits, "big")
        if edits > 1 and edits * count > _MOST_EDITED and not is_plain_sound:
            raise VideoError(
                f"cannot read {self._name}: its edit list of {edits:,} entries repeats {count:,} frames; export it again"
            )
        self._begin_track()

    def _add(self, samples: int) -> None:
        self._samples += samples
        if self._samples > _MOST_UNLISTED:
            raise VideoError(
                f"cannot read {self._name}: its index claims {self._samples:,} frames and lists none of them; "
                "fetch or export it again"
            )

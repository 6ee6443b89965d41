"""Tar files by our writer are those that Python's reader understands, and what was undone left no trace."""

import hashlib
import io
import tarfile

import pytest

from m2clip.data.shards.tar_writer import TarWriter, Written, member_space


def test_what_is_written_is_read() -> None:
    file = io.BytesIO()
    tar = TarWriter(file)
    assert tar.add("a.mp4", 5, [b"12", b"345"]) == Written(512, 5, hashlib.sha256(b"12345").hexdigest())
    assert tar.size == member_space(5) == 1024
    mark = tar.mark()
    with pytest.raises(ValueError, match=r"b\.mp4 has 2 bytes, not 3"):
        tar.add("b.mp4", 3, [b"12"])
    tar.undo(mark)
    assert tar.add("empty", 0, []).offset == 1536
    assert tar.finish() == hashlib.sha256(file.getvalue()).hexdigest()
    assert len(file.getvalue()) == tar.size == 10240
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as read:
        assert [(info.name, info.size) for info in read] == [("a.mp4", 5), ("empty", 0)]
        assert read.extractfile("a.mp4").read() == b"12345"  # type: ignore[union-attr]


def test_eight_gibibytes_and_more() -> None:
    """Such a size stands in a pax header; none of the bytes is written here."""

    class Nothing(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(data) if len(data) <= 4096 else len(data)  # type: ignore[arg-type]

    class Piece(bytes):
        def __len__(self) -> int:
            return 2**33

    tar = TarWriter(Nothing())
    written = tar.add("a.mp4", 2**33, [Piece()])
    assert (written.offset, written.size) == (3 * 512, 2**33)

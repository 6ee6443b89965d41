"""TorchScript archives whose description is written by hand: an endless one ends in a sentence."""

import zipfile
from pathlib import Path

import pytest

from m2clip.checkpoint.files import read_tensors
from m2clip.errors import CheckpointError

MODULE = b"c__torch__\nM\n)\x81"  # an empty module


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def archive(path: Path, description: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a/code/x.py", "raise SystemExit('run')")
        made.writestr("a/data/0", bytes(4))
        made.writestr("a/data.pkl", b"\x80\x02" + description + b".")
    return path


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"


def tensor(size: bytes, stride: bytes) -> bytes:
    """_rebuild_tensor_v2(storage, 0, size, stride, False, {})"""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00" + size + stride + b"\x89}tR"


def test_a_module_of_one_tensor(tmp_path: Path) -> None:
    one = b"K\x01\x85"
    path = archive(tmp_path / "x.pt", MODULE + b"}" + text("w") + tensor(one, one) + b"sb")
    file = read_tensors(path)
    assert file.is_torchscript
    assert {name: value.tolist() for name, value in file.tensors.items()} == {"w": [0.0]}


def test_a_tree_that_never_ends(tmp_path: Path) -> None:
    """Sixty modules, each of which holds the one before it twice: 2^60 places."""
    description = MODULE + b"q\x00"
    for n in range(60):
        before = b"h" + bytes([n])
        description += MODULE + b"}" + text("x") + before + b"s" + text("y") + before + b"sb" + b"q" + bytes([n + 1])
    with pytest.raises(CheckpointError, match="describes over 65,536 modules"):
        read_tensors(archive(tmp_path / "x.pt", description))


def test_names_that_grow_at_each_module(tmp_path: Path) -> None:
    deep = b"N"
    for _ in range(3):
        deep = MODULE + b"}" + text("x" * 600) + deep + b"sb"
    with pytest.raises(CheckpointError, match="describes modules without end"):
        read_tensors(archive(tmp_path / "x.pt", deep))


def test_modules_of_too_many_parts(tmp_path: Path) -> None:
    wide = MODULE + b"}(" + b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(70_000)) + b"ub"
    with pytest.raises(CheckpointError, match="describes modules without end"):
        read_tensors(archive(tmp_path / "x.pt", wide))


def test_a_tensor_of_terabytes(tmp_path: Path) -> None:
    million = b"J" + (10**6).to_bytes(4, "little")
    path = archive(
        tmp_path / "x.pt",
        MODULE + b"}" + text("w") + tensor(million + million + b"\x86", b"K\x00K\x00\x86") + b"sb",
    )
    with pytest.raises(CheckpointError, match="describes tensors of over 3814697 MiB"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (b"", "damaged TorchScript archive"),
        (b"h\x05", "damaged TorchScript archive"),
        (b"}" * 100 + b"u", "damaged TorchScript archive"),
        (
            b"cposix\nsystem\n" + text("touch ran") + b"\x85R",
            "asks for posix.system; nothing from a weight file is run",
        ),
        (b"c" + b"x" * 5000 + b"\ny\n)R", "asks for x{80}.y; nothing"),
        (b"K" + b"\x01", "holds no state dict"),
        (b"i" + b"os\nsystem\n", "uses the operation INST"),
        (b"\x8a\xff" + b"\xff" * 255, "holds no state dict"),
        (b"}" * (5 << 20), "its description takes 5 MiB"),
        # To hash it takes the whole stack of the process.
        (b"}N" + b"\x85" * 100_000 + b"Ns", "a key is neither a text nor a small number"),
        (b"}(N" + b"\x85" * 100_000 + b"Nu", "a key is neither a text nor a small number"),
        (STORAGE.replace(text("0"), b"N" + b"\x85" * 100_000), "names its numbers by something else"),
        # Three bytes each would copy all entries once more.
        (
            MODULE + b"}q\x01" + text("x") + b"Nsb" + b"h\x01b" * 1000,
            "gives a state to something that is no new module",
        ),
        (
            MODULE + b"}" + text("w") + tensor(b"(" + b"K\x01" * 1000 + b"t", b"(" + b"K\x01" * 1000 + b"t") + b"sb",
            "a tensor of 1000 dimensions",
        ),
    ],
)
def test_descriptions_that_are_none(description: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read_tensors(archive(tmp_path / "x.pt", description))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))

"""Files of torch.save from strangers: nothing in them is run, and a few bytes do not become gigabytes."""

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from m2clip.checkpoint.files import read_tensors
from m2clip.checkpoint.pytorch_files import read_plain
from m2clip.errors import CheckpointError


class Evil:
    """Unpickled the usual way it would write a file into the working folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('ran', 'w').write('x')",)


class Builds:
    """The same by way of its state."""

    def __reduce__(self) -> tuple[object, tuple[()], dict[str, Any]]:
        return Builds, (), {"x": Evil()}


def packed(path: Path, pickled: bytes, *, further: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3")
        for name in further:
            archive.writestr(name, b"x")
    return path


def old_tar(path: Path) -> Path:
    """The format of PyTorch before 0.1.10, a tar file of pickles; one member leads out of the folder."""
    with tarfile.open(path, "w") as tar:
        for name in ("storages", "tensors", "pickle", "../ran"):
            info, content = tarfile.TarInfo(name), pickle.dumps(Evil())
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def plain_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Evil()))
    return path


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


LEGACY = {"_use_new_zipfile_serialization": False}
EVIL: dict[str, Callable[[Path], Path]] = {
    "alone": lambda path: saved(path, Evil()),
    "deep inside": lambda path: saved(path, {"state_dict": {"a": torch.zeros(1), "b": [{"c": ({"d": Evil()},)}]}}),
    "as a state": lambda path: saved(path, {"state_dict": {"a": Builds()}}),
    "as a key": lambda path: saved(path, {Evil(): torch.zeros(1)}),
    "in the format before 1.6": lambda path: saved(path, {"state_dict": {"a": Evil()}}, **LEGACY),
    "in the format of tar files": old_tar,
    "a plain pickle": plain_pickle,
    "in a zip without tensors": lambda path: packed(path, pickle.dumps({"a": Evil()}, protocol=2)),
    "by a name with dots": lambda path: packed(path, b"\x80\x02cbuiltins\nexec\nX\x04\x00\x00\x001+12\x85R."),
    "by a whole module": lambda path: saved(path, torch.nn.Sequential(torch.nn.Linear(1, 1))),
}


@pytest.mark.parametrize("kind", EVIL)
def test_pickles_with_code_are_refused_and_not_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = EVIL[kind](tmp_path / "here/evil.pth")
    with pytest.raises(CheckpointError, match="is no file of plain tensors and is not opened otherwise") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # no advice to open it without a guard
    assert not list(tmp_path.rglob("ran"))


def test_the_evil_ones_would_run_if_they_were_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / "ran").read_text() == "x"


ONE = torch.zeros(1)
NOT_PLAIN: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), ONE, (10**6, 10**6)),
    "without values": lambda: torch.zeros(10**6, 10**6, device="meta"),
    "quantised": lambda: torch.quantize_per_tensor(ONE, 0.1, 0, torch.quint8),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "of several shapes": lambda: torch.nested.nested_tensor([ONE, torch.zeros(2)]),
    "of eight bits": lambda: ONE.to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_tensors_that_are_not_plain(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"state_dict": {"visual.conv1.weight": NOT_PLAIN[kind]()}})
    words = "holds tensors that are packed, sparse, complex or without values"
    if kind == "of several shapes":  # PyTorch 2.15 takes none of these from a file any more
        words += "|is no file of plain tensors"
    with pytest.raises(CheckpointError, match=words):
        read_tensors(path)


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_four_bytes_do_not_stand_for_terabytes(options: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": [{"b": ONE.half().expand(10**6, 10**6)}]}, **options)
    with pytest.raises(CheckpointError, match="bytes and describes tensors of over 1907348 MiB; it is no weight file"):
        read_plain(path)


def test_many_names_for_the_same_numbers(tmp_path: Path) -> None:
    shared = torch.zeros(1 << 20)
    assert len(read_tensors(saved(tmp_path / "tied.pt", {"a": shared, "b": shared})).tensors) == 2
    with pytest.raises(CheckpointError, match="describes tensors of over"):
        read_tensors(saved(tmp_path / "x.pt", {f"{n}": shared for n in range(200)}))  # 800 MiB out of 4


def test_containers_in_containers_end(tmp_path: Path) -> None:
    twice: Any = ONE
    for _ in range(60):
        twice = [twice, twice]  # 2^60 tensors, were each counted
    assert read_plain(saved(tmp_path / "laughs.pt", {"a": twice}))["a"][0][1] is not None
    itself = packed(tmp_path / "itself.pt", b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")
    assert "a" in read_plain(itself)
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_tensors(itself)


def test_archives_that_are_no_weight_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(100 << 20))
    with pytest.raises(CheckpointError, match="would unpack to 100 MiB; it is no weight file"):
        read_tensors(tmp_path / "bomb.pt")
    monkeypatch.setattr("m2clip.checkpoint.pytorch_files._MOST_MEMBERS", 10)
    many = packed(tmp_path / "many.pt", b"\x80\x02}.", further=tuple(f"a/data/{n}" for n in range(9)))
    with pytest.raises(CheckpointError, match="is an archive of over 10 parts"):
        read_tensors(many)
    monkeypatch.setattr("m2clip.checkpoint.pytorch_files._MOST_DESCRIPTION", 1 << 20)
    with pytest.raises(CheckpointError, match="describes its tensors in 2 MiB, and 1 are the most"):
        read_tensors(packed(tmp_path / "long.pt", b"\x80\x02}" + b"0}" * (1 << 20) + b"."))
    disks = bytearray(many.read_bytes())
    disks[disks.rindex(b"PK\x05\x06") + 4] = 7  # it says that it goes on on other disks
    (tmp_path / "disks.pt").write_bytes(disks)
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "disks.pt")
    broken = bytearray(many.read_bytes())
    broken[broken.rindex(b"PK\x01\x02") : broken.rindex(b"PK\x01\x02") + 4] = b"XXXX"
    (tmp_path / "broken.pt").write_bytes(broken)
    with pytest.raises(CheckpointError, match="is a damaged archive; download it again"):
        read_tensors(tmp_path / "broken.pt")


def in_old_format(path: Path, pickled: bytes) -> Path:
    written, main = io.BytesIO(), b"\x80\x02}q\x00."
    torch.save({}, written, **LEGACY)
    assert written.getvalue().count(main) == 1
    path.write_bytes(written.getvalue().replace(main, pickled))
    return path


NUMBERED = b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(50_000))
FLOATS = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
ENDLESS = {
    "a key of tuples in tuples": b"\x80\x02}" + b"N" + b"\x85" * 100_000 + b"Ns.",  # to hash it takes the whole stack
    "a key of numbers of one hash": b"\x80\x02}" + b"\x8a\x09" + bytes(8) + b"\x01" + b"Ns.",
    "a reference of tuples in tuples": b"\x80\x02"
    + FLOATS
    + b"N"
    + b"\x85" * 100_000
    + b"X\x03\x00\x00\x00cpuK\x01tQ.",
    "a part by a name in any case": b"\x80\x02" + FLOATS + b"X\x01\x00\x00\x00aX\x03\x00\x00\x00cpuK\x01tQ.",
    "copies of a dictionary": b"\x80\x02](ccollections\nCounter\nq\x01}("
    + NUMBERED
    + b"u\x85q\x02R"
    + b"h\x01h\x02R" * 30
    + b"e.",
    "a dictionary by a call": b"\x80\x02ccollections\nOrderedDict\n}\x85R.",
    "attributes over and over": b"\x80\x02ccollections\nOrderedDict\n)R}q\x00("
    + NUMBERED
    + b"ub"
    + b"h\x00b" * 30
    + b".",
    "an attribute for a method": b"\x80\x02ccollections\nOrderedDict\n)R}X\x06\x00\x00\x00valuesNsb.",
    "numbers by their count": b"\x80\x02ctorch\nFloatStorage\nJ\x00\x00\x00\x40\x85\x81.",
    "bytes by their count": b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x40\x85R.",
    "a shape of a thousand sides": b"\x80\x02ctorch\nSize\n(" + b"K\x01" * 1000 + b"t\x85R.",
}


@pytest.mark.parametrize("make", [packed, in_old_format])
@pytest.mark.parametrize("kind", ENDLESS)
def test_small_descriptions_of_endless_work(kind: str, make: Callable[[Path, bytes], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no file of plain tensors and is not opened otherwise"):
        read_plain(make(tmp_path / "x.pt", ENDLESS[kind]))


def test_what_states_hold_is_read(tmp_path: Path) -> None:
    ordered = torch.nn.Linear(2, 3).state_dict()  # with versions as an attribute
    content = {
        "model": ordered,
        3: [1.5, None, True, 2**40],
        "shape": torch.Size((2, 3)),
        "bytes": b"\x00\xff",
        "in": ((1, "a"), {}),
    }
    for options in ({}, LEGACY):
        read = read_plain(saved(tmp_path / "x.pt", content, **options))
        assert {key: value for key, value in read.items() if key != "model"} == {
            key: value for key, value in content.items() if key != "model"
        }
        assert all(torch.equal(read["model"][name], value) for name, value in ordered.items())


def test_an_archive_has_one_directory(tmp_path: Path) -> None:
    """zipfile and PyTorch look for it in different places: what the one measures, the other would not unpack."""
    good = saved(tmp_path / "x.pt", {"a": ONE}).read_bytes()
    begin = good.index(b"PK\x01\x02")
    end = good.rindex(b"PK\x05\x06")
    for content in (
        good + b"PK\x05\x06",  # the mark of an end behind the end
        good[:-2] + b"\x01\x00x",  # a comment
        good[:end] + good[begin:end] + good[end:],  # two directories
        b"x" + good,
        good[:-5],
    ):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match="is a damaged archive; download it again"):
            read_tensors(tmp_path / "x.pt")

"""Tables of contents of tar files: right places for every form of header, one sentence for what is no whole tar file."""

import contextlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2clip.data.shards.tar_members import TarMember, tar_members
from m2clip.errors import ManifestError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def members(path: Path) -> list[TarMember]:
    with open(path, "rb") as file:
        return list(tar_members(file, name="x.tar"))


def write_tar(path: Path, files: list[tuple[str, bytes]], *, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def refused(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        members(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("x.tar ") or str(caught.value).startswith("x.tar:")
    return str(caught.value)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=160).filter(
    lambda name: not name.endswith("/") and name.strip("/")
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(files=st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=6), form=st.sampled_from(["gnu", "pax"]))
def test_members_lie_where_it_is_said(tmp_path: Path, files: list[tuple[str, bytes]], form: str) -> None:
    """Any names (long, with dots, slashes, blanks, other scripts), any sizes; names that stand twice come twice."""
    path = write_tar(tmp_path / "a.tar", files, form=FORMATS[form])
    found = members(path)
    content = path.read_bytes()
    assert [content[one.offset : one.offset + one.size] for one in found] == [data for _, data in files]
    with tarfile.open(path) as tar:
        assert [one.name for one in found] == tar.getnames()
    assert all(one.plain for one in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(seed=st.integers(0, 10**6), flips=st.integers(1, 30), cut=st.floats(0, 1))
def test_broken_headers_end_in_our_sentence(tmp_path: Path, seed: int, flips: int, cut: float) -> None:
    """Members inside of the file, or one sentence; never another error, never for ever."""
    path = write_tar(tmp_path / "a.tar", [("a" * 120 + str(n), bytes(n * 200)) for n in range(8)])
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for _ in range(flips):
        data[rng.integers(len(data))] = rng.integers(256)
    data = data[: int(len(data) * max(cut, 0.02))]
    path.write_bytes(data)
    with contextlib.suppress(ManifestError):
        assert all(0 <= one.offset <= one.offset + one.size <= len(data) for one in members(path) if one.plain)


@pytest.mark.parametrize("form", FORMATS)
def test_forms_of_header(tmp_path: Path, form: str) -> None:
    path = write_tar(tmp_path / "a.tar", [("folder/0001.mp4", b"12345"), ("folder/0001.cls", b"7")], form=FORMATS[form])
    assert members(path) == [TarMember("folder/0001.mp4", 512, 5), TarMember("folder/0001.cls", 1536, 1)]


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_names(tmp_path: Path, form: str) -> None:
    name = "x" * 300 + ".mp4"
    ((found),) = members(write_tar(tmp_path / "a.tar", [(name, b"123")], form=FORMATS[form]))
    assert (found.name, found.offset, found.size) == (
        name,
        1536,
        3,
    )  # behind a block that announces it, and that block's text


def test_a_size_that_stands_in_a_pax_header_counts(tmp_path: Path) -> None:
    info = tarfile.TarInfo("big.mp4")
    info.size, info.pax_headers = 0, {"size": "700"}
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024) + tarfile.TarInfo("next.mp4").tobuf() + bytes(1024))
    assert [(one.name, one.size) for one in members(path)] == [("big.mp4", 700), ("next.mp4", 0)]


def test_what_is_no_plain_file_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("dir", tarfile.DIRTYPE),
            ("s.mp4", tarfile.SYMTYPE),
            ("h.mp4", tarfile.LNKTYPE),
            ("d.mp4", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("../../outside.mp4"))
    assert [(one.name, one.plain) for one in members(path)] == [
        ("s.mp4", False), ("h.mp4", False), ("d.mp4", False), ("../../outside.mp4", True),
    ]  # fmt: skip
    assert not (tmp_path.parent / "outside.mp4").exists()


def test_sparse_files_have_no_bytes_in_one_piece(tmp_path: Path) -> None:
    info = tarfile.TarInfo("holes.mp4")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.map": "0,5",
        "GNU.sparse.size": "5000",
        "GNU.sparse.name": "holes.mp4",
    }
    info.size = 5
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(512) + bytes(1024))
    assert [(one.name, one.plain) for one in members(path)] == [("holes.mp4", False)]


def test_an_empty_tar_file_has_no_members(tmp_path: Path) -> None:
    assert members(write_tar(tmp_path / "a.tar", [])) == []


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (700, "ends inside of 'a.mp4', at byte 700 of 1212"),
        (2048 + 512, "ends inside of 'b.mp4'"),
        (1024 + 512, "x.tar has no end mark behind byte 1536: it was cut"),
        (1536 + 200, "x.tar has no end mark behind byte 1536"),
        (0, "x.tar is no whole tar file (empty file)"),
        (300, "x.tar is no whole tar file (truncated header)"),
    ],
)
def test_a_cut_file(tmp_path: Path, kept: int, sentence: str) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.mp4", bytes(700)), ("b.mp4", bytes(700))])
    path.write_bytes(path.read_bytes()[:kept])
    assert sentence in refused(path)


def test_a_broken_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.mp4", bytes(5)), ("b.mp4", bytes(5))])
    data = bytearray(path.read_bytes())
    data[1024] = 7
    path.write_bytes(data)
    assert refused(path) == "x.tar is broken at byte 1024: fetch or pack the file again".replace("the file", "it")


def test_two_files_put_together(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.mp4", bytes(5))])
    path.write_bytes(2 * path.read_bytes())
    assert "goes on behind its end, as where tar files are put together by cat, at byte 1024" in refused(path)


def test_a_size_beyond_the_file(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.mp4")
    info.size = 2**40
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    assert "ends inside of 'a.mp4'" in refused(path)


def test_a_negative_size_is_no_way_back(tmp_path: Path) -> None:
    """Such a header made readers go round for ever."""
    info = tarfile.TarInfo("a.mp4")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\xff" * 10 + (-1024).to_bytes(2, "big", signed=True)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(block) + bytes(1024))
    refused(path)


@pytest.mark.parametrize("packing", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_files_are_refused(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, packing) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("a.mp4"))
    assert "without compression" in refused(path)


def test_headers_upon_headers(tmp_path: Path) -> None:
    """Thousands of headers that each announce another one."""
    info = tarfile.TarInfo("a.mp4")
    info.type, info.size = tarfile.XHDTYPE, 512
    path = tmp_path / "a.tar"
    path.write_bytes((info.tobuf(tarfile.USTAR_FORMAT) + b"11 path=x/\n".ljust(512, b"\0")) * 3000)
    refused(path)


def test_names_in_other_encodings_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(os.fsdecode(b"caf\xe9.mp4")))
    assert [one.name for one in members(path)] == [r"caf\xe9.mp4"]


def about_the_next(kind: bytes, content: bytes, *, claimed: int | None = None) -> bytes:
    """A header that tells of the next member, and that member."""
    blocks = b""
    for name, form, size, data in (
        ("x", kind, claimed or len(content), content),
        ("a/1.mp4", tarfile.REGTYPE, 3, b"abc"),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.size = form, size
        blocks += info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    return blocks + bytes(1024)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
def test_headers_of_endless_digits(tmp_path: Path, kind: bytes) -> None:
    """Python before 3.11.10 took hours for a megabyte of them."""
    path = tmp_path / "a.tar"
    path.write_bytes(about_the_next(kind, b"1" * (1 << 20)))
    assert "has a header at byte 512 that no tar program writes" in refused(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_that_claim_gigabytes(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(about_the_next(kind, b"abc\0", claimed=3 << 30))
    assert "has a header at byte 512 that no tar program writes" in refused(path)


def test_names_of_many_digits_are_names(tmp_path: Path) -> None:
    name = "7" * 250 + ".mp4"
    for form in ("gnu", "pax"):
        assert [one.name for one in members(write_tar(tmp_path / "a.tar", [(name, b"abc")], form=FORMATS[form]))] == [
            name
        ]

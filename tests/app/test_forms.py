"""Forms are received in pieces of any size, and refused as soon as a part is too large or means nothing."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from m2clip.app.forms import Form, receive_form, shown_name
from m2clip.app.limits import Broken, LimitError, Limits
from m2clip.errors import ConfigError

KIND = "multipart/form-data; boundary=cut"


def part(name: str, content: bytes, *, file_name: str | None = None) -> bytes:
    named = f'; filename="{file_name}"' if file_name is not None else ""
    return f'--cut\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


def received(
    body: bytes, to: Path, *, kind: str = KIND, size: int = 7, taken: list[int] | None = None, **limits: Any
) -> Form:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            if taken is not None:
                taken.append(size)
            yield body[start : start + size]

    return asyncio.run(receive_form(pieces(), kind, limits=Limits(**limits), to=to))


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_a_file_and_fields(size: int, tmp_path: Path) -> None:
    content = bytes(range(256)) + b"\r\n--cu\r\n--cu is no border"
    body = (
        part("labels", b"a")
        + part("file", content, file_name="../../etc/x\x1b[1m.mp4")
        + part("labels", "é".encode())
        + b"--cut--\r\n"
    )
    form = received(body, tmp_path / "f", size=size)
    assert form.file == tmp_path / "f"
    assert form.file.read_bytes() == content
    assert (form.file_bytes, form.file_name) == (len(content), "x\\u001b[1m.mp4")
    assert form.labels() == ["a", "é"]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("body", "kind", "error", "words"),
    [
        (part("file", b"x" * 300, file_name="v") + b"--cut--\r\n", KIND, LimitError, "the file has more than the"),
        (
            part("labels", b"x" * (1 << 20 | 1)) + b"--cut--\r\n",
            KIND,
            LimitError,
            "the fields have more than 1,048,576 bytes",
        ),
        (part("labels", b"x") * 20 + b"--cut--\r\n", KIND, LimitError, "more than 18 parts"),
        (part("file", b"x", file_name="v") * 2 + b"--cut--\r\n", KIND, ConfigError, "two files"),
        (part("other", b"x", file_name="v") + b"--cut--\r\n", KIND, ConfigError, "in the field file"),
        (part("labels", b"\xff") + b"--cut--\r\n", KIND, ConfigError, "the field labels is no text in UTF-8"),
        (part("file", b"x", file_name="v"), KIND, ConfigError, "ends before its form does"),
        (b"", KIND, ConfigError, "ends before its form does"),
        (b"asdf" * 5, KIND, ConfigError, "is no multipart/form-data"),
        (b"", f"multipart/form-data; boundary={'x' * 5000}", ConfigError, "is no multipart/form-data"),
        (b"{}", "application/json", ConfigError, "send a form"),
        (b"x", "multipart/form-data", ConfigError, "send a form"),
        (b"text=%ff", "application/x-www-form-urlencoded", ConfigError, "no form in UTF-8"),
        (b"a" * (1 << 20 | 1), "application/x-www-form-urlencoded", LimitError, "1,048,576 bytes"),
    ],
)
def test_what_cannot_be_taken(body: bytes, kind: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        received(body, tmp_path / "f", kind=kind, size=10_000, most_bytes=200, most_labels=2)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    taken: list[int] = []
    with pytest.raises(LimitError):
        received(part("file", b"x" * 100_000, file_name="v"), tmp_path / "f", taken=taken, size=100, most_bytes=1000)
    assert sum(taken) < 1500
    assert (tmp_path / "f").stat().st_size <= 1000


def test_a_plain_form(tmp_path: Path) -> None:
    form = received(
        b"text=a+man%20waves&top=3", tmp_path / "f", kind="application/x-www-form-urlencoded; charset=utf-8"
    )
    assert (form.text("text"), form.whole("top", 10), form.file) == ("a man waves", 3, None)


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ([], None),
        ([" "], None),
        (['a, "b, c"'], ["a", "b, c"]),
        (['["a", "b, c"]'], ["a", "b, c"]),
        (["a, b", " c"], ["a, b", "c"]),
    ],
)
def test_labels_in_three_ways(fields: list[str], labels: list[str] | None) -> None:
    assert Form(fields={"labels": fields}).labels() == labels


@pytest.mark.parametrize("text", ["[1]", "[", '["a"', "[" * 100_000, 'a, "b', "a,,b"])
def test_labels_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Form(fields={"labels": [text]}).labels()
    assert len(str(refused.value)) < 400


def test_fields_of_the_wrong_kind() -> None:
    form = Form(fields={"top": ["1.5"], "strength": ["nan"], "model": ["a", "b"], "good": [" 7 "]})
    with pytest.raises(ConfigError, match=r"top is '1\.5': it must be a whole number"):
        form.whole("top", 5)
    with pytest.raises(ConfigError, match="strength is 'nan': it must be a number"):
        form.number("strength", None)
    with pytest.raises(ConfigError, match="model is given 2 times"):
        form.text("model")
    with pytest.raises(ConfigError, match="there is no field 'strength' here; there are top, model, good"):
        form.check_names("top", "model", "good")
    assert (form.whole("good", 1), form.number("none", 2.0)) == (7, 2.0)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("C:\\x\\film.mp4", "film.mp4"), ("", "the upload"), ("/", "the upload"), ("a\nb", "a b"), ("x" * 500, "x" * 100)],
)
def test_a_name_is_shown_and_nothing_else(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: io.FileIO("/dev/full", "w"))
    with pytest.raises(Broken, match="no room for the file"):
        received(part("file", bytes(100_000), file_name="v") + b"--cut--\r\n", tmp_path / "f", size=50_000)

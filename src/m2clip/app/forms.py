"""A request's form, received piece by piece: the file goes to the disk as it comes, and nothing is larger than its limit."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from m2clip.app.limits import LimitError, Limits, room
from m2clip.errors import ConfigError
from m2clip.labels import listed_labels
from m2clip.terminal import harmless

Default = TypeVar("Default", float, None)

_MOST_FIELD_BYTES = 1 << 20
_LONGEST_NAME = 100


@dataclass
class Form:
    """What a request holds: a file, perhaps, and its fields, each perhaps several times."""

    file: Path | None = None
    file_name: str = "the upload"
    """The client's name for it, made harmless; for messages alone."""
    file_bytes: int = 0
    fields: dict[str, list[str]] = field(default_factory=dict)

    def check_names(self, *known: str) -> None:
        """Raise ConfigError for a field that means nothing here."""
        for name in self.fields:
            if name not in known:
                raise ConfigError(
                    f"there is no field {harmless(name[:_LONGEST_NAME])!r} here; there are {', '.join(known)}"
                )

    def text(self, name: str) -> str | None:
        """A field's only value. ConfigError for several."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise ConfigError(f"the field {name} is given {len(values)} times; give it once")
        return values[0] if values else None

    def number(self, name: str, default: Default) -> float | Default:
        """A field that is a number."""
        text = self.text(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise ConfigError(f"the field {name} is {text[:_LONGEST_NAME]!r}: it must be a number")
        return value

    def whole(self, name: str, default: int) -> int:
        """A field that is a whole number."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,9}", text.strip()):
            raise ConfigError(f"the field {name} is {text[:_LONGEST_NAME]!r}: it must be a whole number")
        return int(text)

    def labels(self) -> list[str] | None:
        """The field `labels`: repeated, or one JSON list, or one line of names with commas. None: there is none."""
        values = [value for value in self.fields.get("labels", []) if value.strip()]
        if not values:
            return None
        if len(values) > 1:
            return [value.strip() for value in values]
        if values[0].lstrip().startswith("["):
            try:
                found = json.loads(values[0])
            except (ValueError, RecursionError):
                raise ConfigError(
                    'the field labels begins like a JSON list and is none; write ["one", "two"]'
                ) from None
            if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
                raise ConfigError("the field labels must be a list of texts")
            return found
        return listed_labels(values[0])


async def receive_form(body: AsyncIterator[bytes], content_type: str, *, limits: Limits, to: Path) -> Form:
    """Receive a form; its file is written to `to`. LimitError as soon as a part is too large, ConfigError for what is no form."""
    kind, options = parse_options_header(content_type)
    if kind == b"application/x-www-form-urlencoded":
        return await _plain_form(body)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ConfigError("send a form: multipart/form-data, with the video in its field file")
    with room(), to.open("xb") as file:
        parts = _Parts(limits, file)
        try:
            parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": parts.begin,
                    "on_header_field": parts.header_name,
                    "on_header_value": parts.header_value,
                    "on_header_end": parts.header_end,
                    "on_headers_finished": parts.headers_finished,
                    "on_part_data": parts.data,
                    "on_part_end": parts.end,
                    "on_end": parts.all_done,
                },
            )
            async for piece in body:
                # Writing may wait for the disk, and must not hold up the other requests meanwhile.
                await asyncio.to_thread(parser.write, piece)
        except FormParserError:
            raise ConfigError("the body is no multipart/form-data; send it with a client that knows the form") from None
    if not parts.is_whole:
        raise ConfigError("the body ends before its form does; send it again")
    if parts.has_file:
        parts.form.file = to
    return parts.form


async def _plain_form(body: AsyncIterator[bytes]) -> Form:
    content = b""
    async for piece in body:
        content += piece
        if len(content) > _MOST_FIELD_BYTES:
            raise LimitError(f"the fields have more than {_MOST_FIELD_BYTES:,} bytes")
    form = Form()
    try:
        pairs = parse_qsl(content.decode("utf-8"), keep_blank_values=True, max_num_fields=2000, errors="strict")
    except ValueError:
        raise ConfigError("the body is no form in UTF-8") from None
    for name, value in pairs:
        form.fields.setdefault(name, []).append(value)
    return form


class _Parts:
    """Takes what the parser tells of the parts of a form."""

    def __init__(self, limits: Limits, file: IO[bytes]) -> None:
        self.form, self.has_file, self.is_whole = Form(), False, False
        self._limits, self._file = limits, file
        self._most_parts = limits.most_labels + 16
        self._count = self._field_bytes = 0
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._value = bytearray()
        self._is_file = False

    def begin(self) -> None:
        self._count += 1
        if self._count > self._most_parts:
            raise LimitError(f"the form has more than {self._most_parts:,} parts")
        self._headers, self._value, self._is_file = {}, bytearray(), False

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name != "file":
            if b"filename" in options:
                raise ConfigError("send the video in the field file, and no other file")
            return
        if self.has_file:
            raise ConfigError("the form holds two files; send one")
        self._is_file = self.has_file = True
        self.form.file_name = shown_name(options.get(b"filename", b"").decode("utf-8", "replace"))

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.form.file_bytes += end - start
            if self.form.file_bytes > self._limits.most_bytes:
                raise LimitError(f"the file has more than the {self._limits.most_bytes / 2**20:g} MB that are allowed")
            self._file.write(memoryview(data)[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > _MOST_FIELD_BYTES:
            raise LimitError(f"the fields have more than {_MOST_FIELD_BYTES:,} bytes")
        self._value += data[start:end]

    def end(self) -> None:
        if self._is_file:
            return
        try:
            value = self._value.decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"the field {shown_name(self._name)} is no text in UTF-8") from None
        self.form.fields.setdefault(self._name, []).append(value)

    def all_done(self) -> None:
        self.is_whole = True


def shown_name(name: str) -> str:
    """A client's name for a file, fit for a message: no folders, no signs that steer a terminal, not too long."""
    last = re.split(r"[/\\]", name)[-1].strip()
    return harmless(last[:_LONGEST_NAME]).replace("\n", " ") or "the upload"

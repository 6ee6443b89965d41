"""Fetches a file from a web address, within limits: http and https only, so many bytes, so many seconds, whatever the server does."""

import base64
import http.client
import io
import os
import re
import ssl
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from m2clip.errors import ConfigError, VideoError

_SCHEMES = ("http", "https")
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_READ_BYTES = 2**18
_PAGES = ("text/html", "application/xhtml+xml")
_RESERVED = (
    "%/:?#[]@!$&'()*+,;=~"  # what an address may hold as it is; the rest (spaces, letters beyond ASCII) is escaped
)


@dataclass(frozen=True)
class WebLimits:
    """What a fetch may take at most; ConfigError where a limit is not above 0."""

    most_bytes: int = 2**30
    """Size of the file, before and after unpacking."""
    total_seconds: float = 120.0
    """From the first connection to the last byte, redirects included."""
    wait_seconds: float = 20.0
    """For a connection, and between two pieces of an answer."""

    def __post_init__(self) -> None:
        for name in ("most_bytes", "total_seconds", "wait_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: a limit of a fetch must be above 0")


DEFAULT_LIMITS = WebLimits()


def is_web_address(text: str) -> bool:
    """Whether a text is the address of something on the web, not the name of a file."""
    return text[:8].lower().startswith(("http://", "https://"))


def as_written(source: str | Path) -> str:
    """A source as text. A Path merges the slashes of an address; here they are two."""
    text = os.fspath(source)
    return re.sub("^(https?:/)(?=[^/])", r"\1/", text, flags=re.IGNORECASE) if isinstance(source, Path) else text


def shown_address(url: str) -> str:
    """The address without what may be secret in it: user and password, and the query, where signed addresses carry their keys."""
    head, _, _ = url.partition("?")
    try:
        parts = urlsplit(head)
    except ValueError:
        return "a web address"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")) + ("?..." if "?" in url else "")


def fetch(url: str, *, limits: WebLimits, to: BinaryIO) -> None:
    """Write what lies at an address to a file that is open for writing.

    Proxies are taken from the environment. A user and password in the address are sent to its host and to no other. Raises
    VideoError, one sentence with the address, for whatever goes wrong; `to` may hold a part of the file then.
    """
    shown = shown_address(url)
    deadline = time.monotonic() + limits.total_seconds
    try:
        with _answer(url, limits, deadline) as response:
            for piece in _pieces(response, limits, shown):
                _write(to, piece, shown)
    except VideoError:
        raise
    except Exception as error:  # http.client, ssl, zlib and the name look-up each have errors of their own
        reason: Any = getattr(error, "reason", error)
        if time.monotonic() >= deadline:
            what = f"it takes longer than {limits.total_seconds:g} seconds; fetch the file first, or allow more time"
        elif isinstance(reason, TimeoutError):
            what = f"its server sends nothing for {limits.wait_seconds:g} seconds; try again later"
        elif isinstance(error, http.client.IncompleteRead):
            what = "its server stops in the middle of the file; try again later"
        else:
            text = " ".join(str(getattr(reason, "strerror", None) or reason or type(error).__name__).split())
            what = f"{text.replace(url, shown)}; check the address and the network"
        raise VideoError(f"cannot fetch {shown}: {what}") from None


def _write(to: BinaryIO, piece: bytes, shown: str) -> None:
    try:
        to.write(piece)
    except OSError as error:
        raise VideoError(f"cannot keep what {shown} sends: {error.strerror or error}; make room on the disk") from error


def _answer(url: str, limits: WebLimits, deadline: float) -> http.client.HTTPResponse:
    """The answer that holds the file, after redirects."""
    first, credentials = url, None
    opener = urllib.request.OpenerDirector()  # with nothing but these: no ftp, no file, no errors read to their end
    for handler in (urllib.request.ProxyHandler(), _HTTP(deadline), _HTTPS(deadline)):
        opener.add_handler(handler)
    for _ in range(_MOST_REDIRECTS + 1):
        request, own = _request(url, shown_address(first))
        credentials = own or credentials
        if credentials is not None and credentials[0] == (request.type, request.host):
            request.add_unredirected_header("Authorization", credentials[1])
        response = opener.open(request, timeout=min(limits.wait_seconds, max(0.001, deadline - time.monotonic())))
        location = response.headers.get("Location")
        if response.status in _REDIRECTS and location:
            response.close()
            # http.client reads headers as Latin-1; what is UTF-8 in truth is escaped byte by byte.
            url = urljoin(url, quote(location, safe=_RESERVED, encoding="iso-8859-1"))
            continue
        if response.status != 200:
            response.close()
            reason = " ".join(response.reason.split())[:100]
            raise VideoError(
                f"cannot fetch {shown_address(first)}: its server answers {response.status} {reason}".rstrip()
                + "; check the address"
            )
        return response
    raise VideoError(
        f"cannot fetch {shown_address(first)}: it redirects more than {_MOST_REDIRECTS} times; check the address"
    )


def _request(url: str, first: str) -> tuple[urllib.request.Request, tuple[tuple[str, str], str] | None]:
    """A request, and the credentials that its address carries: ((scheme, host and port), value of the header)."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme not in _SCHEMES:
        what = (
            f"redirects to {parts.scheme or 'no'}://" if url != first and is_web_address(first) else "cannot be fetched"
        )
        raise VideoError(f"{first} {what}: only addresses that begin with http:// or https:// are; check the address")
    if not parts.hostname:
        raise VideoError(f"cannot fetch {first}: it names no server; check the address")
    host = host.encode("idna").decode("ascii") if not host.isascii() else host
    path = quote(parts.path or "/", safe=_RESERVED)
    query = quote(parts.query, safe=_RESERVED)
    plain = f"{parts.scheme}://{host}{path}" + (f"?{query}" if query else "")
    headers = {"User-Agent": "m2clip", "Accept-Encoding": "identity"}
    request = urllib.request.Request(plain, headers=headers)
    if not at:
        return request, None
    token = base64.b64encode(unquote(user).encode()).decode("ascii")
    return request, ((parts.scheme, host), f"Basic {token}")


def _pieces(response: http.client.HTTPResponse, limits: WebLimits, shown: str) -> Iterator[bytes]:
    """The file, piece by piece, unpacked."""
    too_large = VideoError(
        f"cannot fetch {shown}: it is larger than {limits.most_bytes} bytes; fetch the file first, or allow more"
    )
    kind = response.headers.get_content_type()
    if kind in _PAGES:
        raise VideoError(f"cannot fetch {shown}: it is a web page ({kind}); give the address of the video file itself")
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        raise VideoError(f"cannot fetch {shown}: its server packs it as {coding!r}; fetch the file first")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in coding else None
    promised = response.length  # None where the server does not say
    if promised is not None and promised > limits.most_bytes:
        raise too_large
    received = written = 0
    while piece := response.read1(_READ_BYTES):
        received += len(piece)
        if unpack is not None:
            piece = unpack.decompress(piece, limits.most_bytes - written + 1)
        written += len(piece)
        if max(received, written) > limits.most_bytes:
            raise too_large
        yield piece
    # A connection that ends early is no error to http.client.
    if (promised is not None and received < promised) or (unpack is not None and not unpack.eof):
        raise http.client.IncompleteRead(b"")


class _TimedReader(io.RawIOBase):
    """What a socket receives; no read goes on beyond the deadline, however slowly the bytes drip."""

    def __init__(self, raw: io.RawIOBase, timeout: Callable[[], float], sock: Any) -> None:
        self._raw, self._timeout, self._sock = raw, timeout, sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._timeout())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """A connected socket as http.client uses it, held to a deadline."""

    def __init__(self, sock: Any, deadline: float) -> None:
        self._sock, self._deadline, self._wait = sock, deadline, sock.gettimeout()

    def _timeout(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(self._wait, left)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._timeout())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._sock.makefile("rb", buffering=0), self._timeout, self._sock))

    def close(self) -> None:
        self._sock.close()


def _timed(kind: Callable[..., http.client.HTTPConnection], deadline: float) -> Any:
    """The connections of this kind, but held to the deadline."""

    def make(*arguments: Any, **options: Any) -> http.client.HTTPConnection:
        connection: Any = kind(*arguments, **options)
        connect = connection.connect

        def timed_connect() -> None:
            connect()
            connection.sock = _TimedSocket(connection.sock, deadline)

        connection.connect = timed_connect
        return connection

    return make


class _HTTP(urllib.request.HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_timed(http.client.HTTPConnection, self._deadline), req)


class _HTTPS(urllib.request.HTTPSHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        return self.do_open(_timed(http.client.HTTPSConnection, self._deadline), req, context=context)

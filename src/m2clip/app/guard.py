"""What every request passes before any route sees it, the page's own included: host, origin, token, size and time of its body."""

import asyncio
import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m2clip.app.limits import Limits
from m2clip.app.refusals import refusal

OPEN_ROUTES = ("/healthz",)
"""What can be asked without a token: whether the server is ready."""
_BESIDES_FILE_BYTES = 2 << 20  # the other fields of a form, and what separates them
_LINGER_SECONDS = 2.0


class Guard:
    """Lets through what comes to a known host, from no other site, with the token, and with a body within the limits.

    `hosts`: names that this server answers to; None: any (it listens on an address of the network, whose names it cannot
    know). A page elsewhere could else reach a server on this machine through its visitor's browser (DNS rebinding). The token is
    taken as `Authorization: Bearer TOKEN` from programs, or as the password of Basic authentication, which browsers ask for
    and then send with all that the page does.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, token: str | None = None, hosts: Iterable[str] | None = None
    ) -> None:
        self._app, self._limits, self._token = app, limits, token
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        if scope["type"] == "websocket":
            if refused is not None:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        await self._with_bounded_body(refused or self._app, scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            return refusal(
                400, "host", "this server does not answer to that host name; use the address that it printed"
            )
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and origin is not None and _site(origin) != host.lower():
            return refusal(403, "origin", "requests from pages of other sites are not answered")
        if self._token is None or scope["path"] in OPEN_ROUTES or _has_token(headers.get("authorization"), self._token):
            return None
        response = refusal(
            401, "token", "send the server's token: Authorization: Bearer TOKEN, or as the password of a browser"
        )
        response.headers.append("WWW-Authenticate", 'Basic realm="m2clip", charset="UTF-8"')
        response.headers.append("WWW-Authenticate", "Bearer")
        return response

    async def _with_bounded_body(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._limits.most_bytes + _BESIDES_FILE_BYTES
        too_large = refusal(
            413, "too_large", f"the file has more than the {self._limits.most_bytes / 2**20:g} MB that are allowed"
        )
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        whole = length == "0" and "transfer-encoding" not in headers
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.receive_seconds
        received = 0
        answered = False

        async def bounded_receive() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()  # what may still come is the client's leaving
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _BodyTooSlow from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > most:
                raise _BodyTooLarge
            return message

        async def closing_send(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "http.response.start" and not whole:
                # Else the server would read the rest, be it 10 GB, to throw it away.
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and not whole and "expect" not in headers:
                # A connection that is closed while data come in is reset, and the client may never see its answer.
                await send({**message, "more_body": True})
                await _thrown_away(receive, most, min(_LINGER_SECONDS, self._limits.receive_seconds))
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        if length.isdecimal() and int(length) > most:
            await too_large(scope, receive, closing_send)
            return
        try:
            await app(scope, bounded_receive, closing_send)
        except (_BodyTooLarge, _BodyTooSlow) as error:
            if answered:
                raise
            too_slow = refusal(
                408, "too_slow", f"the upload took longer than {self._limits.receive_seconds:g} s to arrive"
            )
            await (too_large if isinstance(error, _BodyTooLarge) else too_slow)(scope, receive, closing_send)


async def _thrown_away(receive: Receive, left: int, seconds: float) -> None:
    """Read the rest of a body that nobody wants: until its end, or for so long, or so many bytes of it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while left > 0:
                message = await receive()
                if not message.get("more_body", False):
                    return
                left -= len(message["body"])


class _BodyTooLarge(Exception):
    """More bytes have come than may."""


class _BodyTooSlow(Exception):
    """The body is not here in time."""


def loopback_hosts(host: str) -> list[str] | None:
    """The names of a server that listens on this address, if only this machine can reach it; else None."""
    if host == "localhost":
        return ["localhost", "127.0.0.1", "[::1]"]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not address.is_loopback:
        return None
    return ["localhost", f"[{host}]" if address.version == 6 else host]


def _site(origin: str) -> str | None:
    """'http://localhost:7860' -> 'localhost:7860'; None for what is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """'localhost:7860' -> 'localhost'; '[::1]:7860' -> '[::1]'."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _has_token(authorization: str | None, token: str) -> bool:
    kind, _, given = (authorization or "").partition(" ")
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(), token.encode())

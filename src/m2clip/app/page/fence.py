"""What stands around Gradio: it serves this page and nothing else, and the page calls nobody else."""

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.routing import Match

from m2clip.app.limits import Busy
from m2clip.app.page.events import SESSION, Events, Sessions
from m2clip.app.refusals import refusal, refusal_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What the page of a Gradio app asks for. Its uploads, its files by path, its proxy and its API stay shut: videos come and go
# by `routes`, and events by the queue.
_OPEN = re.compile(
    r"/(?!.*\.\.)(theme\.css|config/?|manifest\.json|favicon\.ico|robots\.txt|(static|assets)/[\w.@/-]{1,200}"
    rf"|gradio_api/(app_id/?|heartbeat/{SESSION}|queue/(join|data)))?",
    re.ASCII,
)
_MOST_EVENT_BYTES = 2**20
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; connect-src 'self'; font-src 'self' data:; "
    # Gradio compiles the templates and scripts of its HTML components in the browser.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]
# Cards for other sites' previews, with addresses elsewhere: nobody previews a page on one's own machine.
_PREVIEW = re.compile(rb'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>', re.DOTALL)


class Fence:
    """ASGI: lets through what the page needs, with a policy that keeps the browser from calling any other machine."""

    def __init__(self, app: "ASGIApp", events: Events, sessions: Sessions) -> None:
        self._app, self._events, self._sessions = app, events, sessions

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not _OPEN.fullmatch(path):
            await _nothing_here(scope)(scope, receive, send)
            return
        try:
            if path == "/gradio_api/queue/join":
                await self._join(scope, receive, send)
                return
            if path == "/gradio_api/queue/data":
                given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])
                session = given[0] if len(given) == 1 else ""
                if not self._sessions.has_asked(session):
                    await refusal(404, "session", "this page has asked for nothing; load it again")(
                        scope, receive, send
                    )
                    return
                await self._stream(session, scope, receive, send)
                return
            if path.startswith("/gradio_api/heartbeat/"):
                await self._stream(path.rpartition("/")[2], scope, receive, send)
                return
        except Busy as error:
            await refusal_of(error)(scope, receive, send)
            return
        is_page = path in ("", "/")
        if is_page:
            # The whole page, as it is: it is rewritten.
            scope = {
                **scope,
                "headers": [(k, v) for k, v in scope["headers"] if k not in (b"accept-encoding", b"range")],
            }
        await self._app(scope, receive, _Page(send) if is_page else _with_headers(send))

    async def _join(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """An event."""
        body = await _body(receive)
        session = None if body is None else self._events.session(body)
        if body is None or session is None:
            await refusal(400, "request", "this is no event of this page")(scope, receive, send)
            return
        await self._sessions.enter(session)
        await self._app(scope, _again(body, receive), _with_headers(send))

    async def _stream(self, session: str, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """A connection that stays for what a page is told."""
        async with self._sessions.stream(session):
            try:
                await self._app(scope, receive, _with_headers(send))
            except (HTTPException, KeyError):
                # So Gradio ends a stream whose session is over, or that a second stream of it has ended.
                return


def _nothing_here(scope: "Scope") -> "Response":
    """The answer where nothing is, or where another method is meant: the page lies below all addresses, and gets these, too."""
    routes = scope["app"].routes if "app" in scope else ()
    allowed = {
        method
        for route in routes
        if route.matches(scope)[0] is Match.PARTIAL
        for method in getattr(route, "methods", None) or ()
    }
    if not allowed:
        return refusal(404, "not_found", "there is no such page")
    return refusal(405, "method", "Method Not Allowed", {"Allow": ", ".join(sorted(allowed))})


class _Page:
    """Collects an answer, takes the preview cards out, and sends it on."""

    def __init__(self, send: "Send") -> None:
        self._send, self._start, self._body = send, {}, b""

    _start: "Message"

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = _PREVIEW.sub(b"", self._body)
        headers = [(k, v) for k, v in self._start["headers"] if k.lower() != b"content-length"]
        headers += [*_HEADERS, (b"content-length", str(len(body)).encode())]
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _with_headers(send: "Send") -> "Send":
    async def sending(message: "Message") -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *_HEADERS]}
        await send(message)

    return sending


async def _body(receive: "Receive") -> bytes | None:
    """A request's body; None where it is too long or the browser went away."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > _MOST_EVENT_BYTES:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: "Receive") -> "Receive":
    """A receive that gives this body, then goes on."""
    given = False

    async def receiving() -> "Message":
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving

"""One line of JSON for each request, and counts: what was asked and how it went, never what a file or a label holds."""

import logging
import secrets
import sys
import time
from typing import Any

import structlog
from h11 import LocalProtocolError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m2clip.app.metrics import Metrics
from m2clip.app.refusals import refusal

_OTHER = "other"
_CLIENTS = {"mozilla": "browser", "curl": "curl", "python": "python", "prometheus": "prometheus"}


def set_up_logs() -> None:
    """Write the server's lines, and the warnings of the libraries below it, to standard error as JSON."""
    stamps: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    to_json: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*stamps, *to_json],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *to_json],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # They warn of each form, head or upgrade that is none, which costs a stranger nothing to send.
    for name in ("python_multipart", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Journal:
    """Around everything else: gives each request an id (X-Request-Id), counts it, and writes its line when it is answered."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._log: Any = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, count and write."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began = secrets.token_hex(8), time.perf_counter()
        status, received, sent = 499, 0, 0  # 499: the client left before an answer

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            sent += len(message.get("body", b""))
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, counted_receive, counted_send)
        except (ClientDisconnect, LocalProtocolError):
            pass  # the second: the client broke the protocol in its body, and was told so below this
        except Exception:
            self._log.exception("failed", request_id=request_id, route=_route(scope))
            if status == 499:
                await refusal(500, "internal", f"the server failed; its log tells more under {request_id}")(
                    scope, receive, counted_send
                )
        finally:
            seconds = time.perf_counter() - began
            self._metrics.in_flight.dec()
            self._metrics.answered(_route(scope), status, seconds)
            self._log.info(
                "request",
                request_id=request_id,
                method=scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else _OTHER,
                route=_route(scope),
                status=status,
                seconds=round(seconds, 4),
                received_bytes=received,
                sent_bytes=sent,
                client=_client(Headers(scope=scope).get("user-agent", "")),
            )


def _route(scope: Scope) -> str:
    """The route's pattern; a path itself could be made up, and name files."""
    return getattr(scope.get("route"), "path", _OTHER)


def _client(agent: str) -> str:
    """The kind of program that asks."""
    first = agent.lower()
    return next((kind for start, kind in _CLIENTS.items() if first.startswith(start)), _OTHER)

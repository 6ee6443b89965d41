"""Bodies that are too large or too slow are cut off, whichever route they go to, and what is not read closes the connection."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from m2clip.app.guard import Guard, loopback_hosts
from m2clip.app.limits import Limits

LIMITS = Limits(most_bytes=1000, receive_seconds=0.05)
MOST = 1000 + (2 << 20)


async def reading_app(scope: Any, receive: Any, send: Any) -> None:
    """A route that takes the whole body and answers with its length."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


async def hasty_app(scope: Any, receive: Any, send: Any) -> None:
    """A route that answers without reading."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def answered(
    app: Any, bodies: Sequence[bytes], *, headers: dict[str, str], ends: bool = True
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and content; a body that does not end is waited for."""
    sent: list[Any] = []
    left = bodies if isinstance(bodies, list) else list(bodies)

    async def receive() -> Any:
        if not left:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or not ends}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/any", "headers": encoded, "query_string": b""}
    asyncio.run(Guard(app, limits=LIMITS)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_a_body_within_the_limits_passes() -> None:
    status, headers, body = answered(reading_app, [b"x" * 10, b"y" * 5], headers={"content-length": "15"})
    assert (status, body) == (200, b"15")
    assert b"connection" not in headers


@pytest.mark.parametrize(
    ("headers", "bodies", "ends", "status"),
    [
        ({"content-length": str(MOST + 1)}, [], False, 413),
        ({"transfer-encoding": "chunked"}, [bytes(MOST), b"x"], True, 413),
        ({"content-length": "10"}, [b"x"], False, 408),
        ({"transfer-encoding": "chunked"}, [], False, 408),
    ],
)
def test_a_body_that_is_too_large_or_too_slow(
    headers: dict[str, str], bodies: list[bytes], ends: bool, status: int
) -> None:
    found, answer_headers, body = answered(reading_app, bodies, headers=headers, ends=ends)
    assert found == status
    assert b'"code":"too_' in body
    # A body that came whole, if too large, leaves nothing behind it.
    assert (b"connection" in answer_headers) == (not ends)


def test_what_is_not_read_closes_the_connection() -> None:
    left = [b"x" * 4, b"y" * 6]
    status, headers, _ = answered(hasty_app, left, headers={"content-length": "10"})
    assert (status, headers[b"connection"]) == (404, b"close")
    assert not left  # all of it came in before the end, else the client could miss the answer
    status, headers, _ = answered(hasty_app, [], headers={"content-length": "10"}, ends=False)
    assert (status, headers[b"connection"]) == (404, b"close")
    status, headers, _ = answered(hasty_app, [], headers={})
    assert b"connection" not in headers


@pytest.mark.parametrize("origin", ["http://elsewhere", "null", "", "http://[", "http://[::1", "http://[x]/"])
def test_an_origin_that_is_another_one_or_none(origin: str) -> None:
    status, _, body = answered(reading_app, [b"x"], headers={"host": "localhost:1", "origin": origin})
    assert (status, b'"code":"origin"' in body) == (403, True)


def test_the_servers_own_origin() -> None:
    status, _, _ = answered(reading_app, [b"x"], headers={"host": "localhost:1", "origin": "http://LOCALHOST:1"})
    assert status == 200


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("127.0.0.1", ["localhost", "127.0.0.1"]),
        ("127.5.0.1", ["localhost", "127.5.0.1"]),
        ("::1", ["localhost", "[::1]"]),
        ("localhost", ["localhost", "127.0.0.1", "[::1]"]),
        ("0.0.0.0", None),
        ("192.168.1.2", None),
        ("example.org", None),
    ],
)
def test_names_of_this_machine(host: str, hosts: list[str] | None) -> None:
    assert loopback_hosts(host) == hosts

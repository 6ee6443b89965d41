"""Connections that say nothing, or do not fetch their answer, end; and there are never too many."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from m2clip.app.connections import BoundedProtocol

LARGE = 64 << 20  # more than the buffers of a connection hold
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """An app whose requests for /held begin, and are answered when they are let go."""

    def __init__(self) -> None:
        self.begun, self.go = 0, asyncio.Event()

    async def until(self, count: int) -> None:
        while self.begun < count:
            await asyncio.sleep(0.005)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(LARGE >> 16):
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/held":
            self.begun += 1
            await self.go.wait()
        else:
            await asyncio.sleep(1.0)  # twice as long as a head may take: a request that runs is not one that is silent
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def served(work: Callable[[Any, App], Awaitable[Any]], **bounds: Any) -> Any:
    """What `work` finds at the server's address."""

    async def run() -> Any:
        app = App()
        listening = socket.create_server(("127.0.0.1", 0))
        protocol = type("Protocol", (BoundedProtocol,), bounds)
        server = uvicorn.Server(
            uvicorn.Config(app, http=protocol, log_config=None, lifespan="off", timeout_keep_alive=60)
        )
        serving = asyncio.create_task(server._serve([listening]))
        try:
            return await asyncio.wait_for(work(listening.getsockname(), app), 120)
        finally:
            server.should_exit = server.force_exit = True
            await serving

    return asyncio.run(run())


def test_a_head_that_does_not_arrive_ends_the_connection() -> None:
    async def work(address: Any, app: App) -> list[bytes]:
        found = []
        for first, then in ((b"", b""), (b"GET / HTTP/1.1\r\nHost:", b""), (HEAD, b"GET")):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(first)
            if then:
                found.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(then)
            found.append(await reader.read())
            writer.close()
        return found

    silent, half, answered, then_half = served(work, head_seconds=0.5)
    assert (silent, half, then_half) == (b"", b"", b"")
    assert answered.startswith(b"HTTP/1.1 204 ")


def test_a_head_without_end_is_refused() -> None:
    async def work(address: Any, app: App) -> tuple[bytes, int]:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < LARGE:
                writer.write(b"X-Flood: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
                sent += 1000
        except OSError:
            pass
        try:
            return await reader.read(12), sent
        except OSError:  # it was closed while more came in
            return b"", sent

    status, sent = served(work)
    assert status in (b"HTTP/1.1 400", b"")
    assert sent < LARGE


def test_an_answer_that_nobody_fetches_ends_the_connection() -> None:
    async def work(address: Any, app: App) -> int:
        reader, writer = await asyncio.open_connection(*address, limit=1 << 16)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.0)  # the server's patience, and more
        fetched = 0
        try:
            while piece := await reader.read(1 << 20):
                fetched += len(piece)
        except OSError:
            pass
        return fetched

    assert served(work, stalled_seconds=0.2) < LARGE
    assert served(work, stalled_seconds=60.0) > LARGE


def test_who_only_waits_gives_way_and_who_is_answered_stays() -> None:
    async def work(address: Any, app: App) -> list[bytes]:
        head = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
        busy = [await asyncio.open_connection(*address) for _ in range(2)]
        for _, writer in busy:
            writer.write(head)
        await app.until(2)
        idle = [await asyncio.open_connection(*address) for _ in range(2)]
        for count in (3, 4):  # each takes the place of one of the two
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head)
            busy.append((reader, writer))
            await app.until(count)
        gone = [await reader.read() for reader, _ in idle]
        late, _ = await asyncio.open_connection(*address)
        refused = await late.read()
        app.go.set()
        return [refused, *gone, *[await reader.readuntil(b"\r\n") for reader, _ in busy]]

    late, first, second, *answers = served(work, most_connections=4)
    assert (late, first, second) == (b"", b"", b"")
    assert answers == [b"HTTP/1.1 204 No Content\r\n"] * 4

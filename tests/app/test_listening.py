"""Connections that say nothing end."""

import asyncio
from typing import Any

import uvicorn

from m2clip.app.listening import PunctualProtocol, bound_socket


async def app(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.6)  # three times as long as a head may take: a request that runs is not one that is silent
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Hasty(PunctualProtocol):
    head_seconds = 0.2


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_head_that_does_not_arrive_ends_the_connection() -> None:
    async def run() -> list[bytes]:
        listening = bound_socket("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, http=Hasty, log_config=None, lifespan="off", timeout_keep_alive=60))
        serving = asyncio.create_task(server._serve([listening]))
        found = []
        for first, then in ((b"", b""), (b"GET / HTTP/1.1\r\nHost:", b""), (HEAD, b"GET")):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(first)
            if then:
                found.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(then)
            found.append(await asyncio.wait_for(reader.read(), 60))
            writer.close()
        server.should_exit = True
        await serving
        return found

    silent, half, answered, then_half = asyncio.run(run())
    assert (silent, half, then_half) == (b"", b"", b"")
    assert answered.startswith(b"HTTP/1.1 204 ")

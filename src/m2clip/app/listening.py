"""A server from its socket to its end: it starts whole or not at all, and leaves nothing behind."""

import asyncio
import signal
import socket
import sys
import tempfile
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from m2clip.app.api import make_app
from m2clip.app.connections import BoundedProtocol
from m2clip.app.guard import loopback_hosts
from m2clip.app.journal import set_up_logs
from m2clip.app.service import Service
from m2clip.app.upload_folder import UploadFolder
from m2clip.errors import ConfigError

_BACKLOG = 128
_OTHER_FILES = 256  # uploads, pipes, an index


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there. ConfigError where nothing can listen, in one sentence."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"{host} is no address of this machine ({error.strerror}); try --host 127.0.0.1") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({error.strerror}); try another --port, or 0 for any"
        ) from None
    return listening


def allow_open_files(connections: int) -> None:
    """Let this process have so many connections open: each is a file, and some systems allow 256. ConfigError where it may not."""
    if sys.platform == "win32":
        return
    import resource

    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < wanted:
        raise ConfigError(
            f"{connections:,} connections need {wanted:,} open files, and this system allows a process {hard:,}: take fewer --connections"
        )
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_to_others(host: str) -> bool:
    """Whether other machines may reach what listens on this address."""
    return loopback_hosts(host) is None


def run_server(
    service: Service,
    listening: socket.socket,
    *,
    host: str,
    token: str | None,
    page: bool,
    stop_seconds: int,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C; then requests that run have `stop_seconds` to end. `ready` gets the address, once all is up.

    ConfigError, M2CLIPError where it cannot start.
    """
    allow_open_files(service.limits.most_connections)
    before = tempfile.tempdir
    signal.signal(signal.SIGTERM, _stopped_early)
    with UploadFolder() as uploads:
        try:
            asyncio.run(_run(service, listening, uploads, host, token, page, stop_seconds, ready))
        finally:
            tempfile.tempdir = before


def _stopped_early(*_: object) -> None:
    """SIGTERM before the server is up: everything is given back on the way out, as on Ctrl-C."""
    raise SystemExit(0)


async def _run(
    service: Service,
    listening: socket.socket,
    uploads: UploadFolder,
    host: str,
    token: str | None,
    page: bool,
    stop_seconds: int,
    ready: Callable[[str], None],
) -> None:
    set_up_logs()
    await service.start()
    try:
        # What libraries keep for a while, the page's among them, lies with the uploads and goes with them. (The socket by which
        # processes are started outlives them; it lies elsewhere by now.)
        tempfile.tempdir = str(uploads.path)
        app = make_app(service, uploads, token=token, hosts=loopback_hosts(host))
        if page:
            from m2clip.app.page import mount_page

            mount_page(app, service)
        await _serve(app, listening, service.limits.most_connections, host=host, stop_seconds=stop_seconds, ready=ready)
    finally:
        await service.stop()


async def _serve(
    app: FastAPI,
    listening: socket.socket,
    most: int,
    *,
    host: str,
    stop_seconds: int,
    ready: Callable[[str], None],
) -> None:
    class Protocol(BoundedProtocol):
        most_connections = most

    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=stop_seconds,
        h11_max_incomplete_event_size=64 * 2**10,
        ws="none",
    )
    server = uvicorn.Server(config)

    def stop_asked(*_: object) -> None:
        server.should_exit = True

    for one in (signal.SIGTERM, signal.SIGINT):
        # The server takes these while it runs, and raises them again when it has stopped: to stop is what was asked for, no failure.
        signal.signal(one, stop_asked)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    if server.started:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}")
    await serving

"""A real server in a process of its own, for tests that ask it over sockets."""

import http.client
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKEN = "0123456789abcdef"
PATIENCE_SECONDS = 90


class Server:
    """`m2clip serve` with these arguments; its files lie in `folder`, its log among them."""

    def __init__(self, folder: Path, *arguments: object, **environment: str) -> None:
        self.folder = folder
        (folder / "tmp").mkdir(exist_ok=True)
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "m2clip", "serve", *map(str, arguments), "--port", "0", "--workers", "1"],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", **environment},
        )
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE_SECONDS)[0]:
            self.process.kill()
        line = self.process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:([0-9]+)", line)
        assert address is not None, (folder / "log").read_text()
        self.port = int(address[1])
        self.token = environment.get("M2CLIP_TOKEN")

    def uploads(self) -> list[Path]:
        """What lies in the folders of servers."""
        return [path for path in (self.folder / "tmp").glob("m2clip-serve-*/*") if path.name != "lock"]

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection.request(
            method, path, body, {**own, **{name.replace("_", "-"): text for name, text in headers.items()}}
        )
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(content) if is_json else content, dict(answer.headers)

    def begin(self, length: int, sent: bytes) -> socket.socket:
        """A connection that has sent the head of a request and some of its body."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
        head = (
            f"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode() + sent)
        return connection


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not true within {PATIENCE_SECONDS} s"
        time.sleep(0.02)


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """Status and whole answer on a raw connection that ends."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read().decode()

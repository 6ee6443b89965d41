"""A stand-in for the Hugging Face hub on this machine: as much of its API as a push and a load use."""

import contextlib
import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_ofthetests"


@dataclass
class Repository:
    """`commits` are (files by name, message), oldest first; a file is its bytes, and whether it is a large one."""

    private: bool
    commits: list[tuple[dict[str, tuple[bytes, bool]], str]] = field(default_factory=lambda: [({}, "initial commit")])

    def revision(self, number: int = -1) -> str:
        number = number % len(self.commits)
        return hashlib.sha1(str(number).encode()).hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, tuple[bytes, bool]]] | None:
        for number in range(len(self.commits)):
            if self.revision(number) == revision:
                return revision, self.commits[number][0]
        return (self.revision(), self.commits[-1][0]) if revision == "main" else None


class Hub:
    """`refuse[path]` is the status that any request to a path that begins so gets; `damage` spoils what is downloaded."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.refuse: dict[str, int] = {}
        self.large: dict[str, bytes] = {}
        self.damage = False
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path))
                status, headers, content = outer.answer(self, body)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = handle_any

            def log_message(self, *_: object) -> None:
                """Tests are silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = request.path.partition("?")[0]
        for start, status in self.refuse.items():
            if path.startswith(start):
                return status, {}, b'{"error": "refused"}'
        signed = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(request.command, *found.groups(), signed=signed)
        if found := re.fullmatch("/large/([0-9a-f]{64})", path):
            if request.command == "PUT":
                assert hashlib.sha256(body).hexdigest() == found[1]
                self.large[found[1]] = body
                return 200, {}, b""
            content = self.large[found[1]]
            return 200, {}, content[:-1] + bytes([content[-1] ^ 1]) if self.damage else content
        if not signed:
            return 401, {}, b'{"error": "Invalid username or password."}'
        if path == "/api/validate-yaml":
            return answered({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body))
        if (found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/preupload/main|/commit/main)?", path)) is None:
            return 404, {}, b""
        name, action = found.groups()
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if action == "/preupload/main":
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            return answered({"files": files})
        if action == "/commit/main":
            return self.commit(name, [json.loads(line) for line in body.splitlines()])
        there = self.repositories[name]
        siblings = [{"rfilename": file} for file in (".gitattributes", *there.commits[-1][0])]
        return answered({"id": name, "sha": there.revision(), "private": there.private, "siblings": siblings})

    def create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name = f"{asked['organization']}/{asked['name']}"
        new = name not in self.repositories
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories.setdefault(name, Repository(private))
        return answered({"url": f"{self.url}/{name}"}, status=200 if new else 409)

    def batch(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.url}/large/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        return answered({"transfer": "basic", "objects": objects})

    def commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, dict[str, str], bytes]:
        there = self.repositories[name]
        files, message = dict(there.commits[-1][0]), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = (b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                files[value["path"]] = (self.large[value["oid"]], True)
        there.commits.append((files, message))
        revision = there.revision()
        return answered({"success": True, "commitOid": revision, "commitUrl": f"{self.url}/{name}/commit/{revision}"})

    def resolve(
        self, method: str, name: str, revision: str, file: str, *, signed: bool
    ) -> tuple[int, dict[str, str], bytes]:
        there = self.repositories.get(name)
        if there is None or (there.private and not signed):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        found = there.at(revision)
        if found is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        revision, files = found
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision}, b""
        content, large = files[file]
        if not large:
            return 200, {"X-Repo-Commit": revision, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content
        oid = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": revision,
            "X-Linked-Etag": f'"{oid}"',
            "X-Linked-Size": str(len(content)),
            # As the hub does it, on another host: a redirect within one host is followed for the headers, too.
            "Location": f"{self.url.replace('127.0.0.1', 'localhost')}/large/{oid}",
        }
        return 302, headers, b""


def answered(document: dict[str, Any], *, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


@contextlib.contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub that runs until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.http.shutdown()
        hub.http.server_close()
        thread.join()

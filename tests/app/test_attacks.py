"""A server with its page, attacked over sockets: each attack is refused, costs nobody else anything, and leaves nothing behind."""

import json
import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.app.page_events import event
from tests.program import NAMES
from tests.served import PATIENCE_SECONDS, Server, answer_of, until
from tests.small_inputs import moving_square, tiny_model, write_video

MOST_BYTES = 1 << 20
MOST_CONNECTIONS = 24
KIND = {"Content_Type": "multipart/form-data; boundary=cut"}
JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", moving_square(frames=24)).read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("attacked")
    tiny_model(NAMES).save(folder / "mine.safetensors")
    limits = {
        "max-mb": 1,
        "queue": 4,
        "connections": MOST_CONNECTIONS,
        "receive-seconds": 5,
        "max-labels": 100,
        "stop-seconds": 1,
    }
    server = Server(
        folder, folder / "mine.safetensors", *(part for name, most in limits.items() for part in (f"--{name}", most))
    )
    yield server
    server.process.terminate()
    try:
        assert server.process.wait(PATIENCE_SECONDS) == 0
    finally:
        server.process.kill()
    assert list((folder / "tmp").glob("m2clip-*")) == []


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """After each attack: the server answers, holds no upload, and has printed lines of JSON, no traceback among them."""
    start = (server.folder / "log").stat().st_size
    yield
    until(lambda: server.ask("GET", "/healthz")[0] == 200)
    until(lambda: server.uploads() == page_files(server))
    with (server.folder / "log").open("rb") as log:
        log.seek(start)
        for line in log.read().decode().splitlines():
            assert json.loads(line)["event"] == "request", line


def page_files(server: Server) -> list[Path]:
    """What lies there that no visitor has sent: the page's folder."""
    return [path for path in server.uploads() if path.name.startswith("m2clip-page-")]


def part(name: str, content: bytes, *, more: str = "") -> bytes:
    return f'--cut\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--cut--\r\n"


def said(server: Server, sent: bytes) -> tuple[int | None, bytes]:
    """Status and content of the answer to raw bytes; None where the connection ends without one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
        answer = b""
        try:
            connection.sendall(sent)
            while piece := connection.recv(1 << 16):
                answer += piece
        except OSError:  # closed while it came in
            pass
    found = re.match(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
    return (int(found[1]) if found else None), answer.partition(b"\r\n\r\n")[2]


def head(line: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join([line, f"Host: {host}", "Connection: close", *headers, "", ""]).encode("latin-1")


CHUNKED = "Transfer-Encoding: chunked"
FORM = "Content-Type: multipart/form-data; boundary=cut"
ASK = "POST /v1/classify HTTP/1.1"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), {400}),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404, 405}),
        (b"\r\n\r\n\r\n", {400, None}),
        (b"GET\r\n\r\n", {400}),
        (b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", {400, 200}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),  # no host
        (head("GET / HTTP/1.1", "Host: evil.example"), {400}),
        (head("GET / HTTP/1.1", host="evil.example"), {400}),
        (head("GET http://evil.example/ HTTP/1.1"), {400, 404}),
        (head("CONNECT evil.example:443 HTTP/1.1"), {400, 404, 405}),
        (head("OPTIONS * HTTP/1.1"), {400, 404, 405}),
        (head("TRACE / HTTP/1.1"), {400, 404, 405}),
        (head("G\x00T / HTTP/1.1"), {400}),
        (head("GET /\x00 HTTP/1.1"), {400}),
        (head("GET /\xff%ff%00 HTTP/1.1"), {400, 404}),
        (head("GET / HTTP/1.1", "No colon"), {400}),
        (head("GET / HTTP/1.1", "Name : space"), {400}),
        (head("GET / HTTP/1.1", "X: a\r\n folded"), {400, 200}),
        (head("GET / HTTP/1.1", "X: " + "x" * 5_000_000), {400, 431, None}),
        (head("GET / HTTP/1.1", *["X: x"] * 500_000), {400, 431, None}),
        (head("GET /" + "a" * 60_000 + " HTTP/1.1"), {400, 404, 414, None}),
        (head("GET /healthz HTTP/1.1", *[f"X-{n}: x" for n in range(3000)]), {200, 400}),
        (head("GET /healthz HTTP/1.1", "Connection: upgrade", "Upgrade: websocket"), {200}),
        (head("GET /healthz HTTP/1.1", "Connection: upgrade", "Upgrade: h2c"), {200}),
        (head(ASK, FORM, "Content-Length: -1"), {400}),
        (head(ASK, FORM, "Content-Length: 1e3"), {400}),
        (head(ASK, FORM, "Content-Length: " + "9" * 5000), {400, 413}),
        (head(ASK, FORM, "Content-Length: 5", "Content-Length: 6") + b"12345", {400}),
        (head(ASK, FORM, "Transfer-Encoding: gzip"), {400, 501}),
        # Two requests to one reader and one to another: what stands behind the first must not be taken for the second.
        (head(ASK, FORM, "Content-Length: 40", CHUNKED) + b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", {400, 422}),
        (head(ASK, FORM, CHUNKED) + b"zz\r\n", {400, 422, None}),
        (head(ASK, FORM, CHUNKED) + b"F" * 400 + b"\r\n", {400, 422, None}),
        (head(ASK, FORM, CHUNKED) + b"5\r\nab\r\n", {400, 422, None}),
        (head(ASK, FORM, CHUNKED) + b"1;" + b"x" * 100_000, {400, 422, None}),
        (head(ASK, FORM, CHUNKED) + b"0\r\n" + b"X: y\r\n" * 20_000, {400, 422, None}),
        (head(ASK, FORM, "Content-Encoding: gzip", "Content-Length: 3") + b"abc", {422}),
        (head(ASK, FORM, "Content-Length: 100") + b"--cut", {408}),
        (head("GET /page/example/0 HTTP/1.1", "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(9000))), {200, 206, 400, 416}),
        (head("GET /page/example/0 HTTP/1.1", "Range: bytes=0-" + "9" * 4000), {200, 206, 400, 416}),
        (head("GET /page/example/0 HTTP/1.1", "Range: bytes=" + "-," * 9000), {200, 206, 400, 416}),
    ],
    ids=range(40),
)  # fmt: skip
def test_heads_and_bodies_that_break_the_protocol(server: Server, sent: bytes, statuses: set[int | None]) -> None:
    status, content = said(server, sent)
    assert status in statuses, content[:300]
    assert b"Traceback" not in content
    assert str(server.folder).encode() not in content
    assert b"m2clip_requests" not in content


def test_forms_broken_anywhere_are_refused_or_answered(server: Server, video: bytes) -> None:
    """Bytes of a good form are changed, doubled, left out: never a fault of the server, never its state."""
    good = part("labels", b"a,b") + part("top", b"1") + part("file", video, more='; filename="v.mp4"') + END
    edges = [found.start() for found in re.finditer(rb"--cut|Content|name=|\r\n\r\n", good)]
    rng = random.Random(7)
    statuses = []
    for _ in range(80):
        form = bytearray(good)
        at = min(len(form) - 1, rng.choice(edges) + rng.randrange(12))
        kind = rng.randrange(4)
        if kind == 0:
            form[at] = rng.randrange(256)
        elif kind == 1:
            del form[at : at + rng.randrange(1, 30)]
        elif kind == 2:
            form[at:at] = form[at : at + rng.randrange(1, 200)]
        else:
            del form[at:]
        status, answer, _ = server.ask("POST", "/v1/classify", bytes(form), **KIND)
        assert status in (200, 413, 422), answer
        assert (status == 200) == ("predictions" in answer)
        statuses.append(status)
    assert 422 in statuses


TEN_THOUSAND = [f"action {n}" for n in range(10_000)]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"".join(part("labels", name.encode()) for name in TEN_THOUSAND) + END, "multipart", 413),
        (part("labels", json.dumps(TEN_THOUSAND).encode()) + END, "multipart", 413),
        (part("labels", ",".join(TEN_THOUSAND).encode()) + END, "multipart", 413),
        (part("labels", b"[" * 500_000) + END, "multipart", 422),
        (part("labels", b'"' * 500_000) + END, "multipart", 422),
        (part("labels", b"," * 1_000_000) + END, "multipart", 422),
        (part("labels", b"a," * 400_000) + END, "multipart", 422),
        ("&".join(f"labels={quote(name)}" for name in TEN_THOUSAND).encode(), "x-www-form-urlencoded", 422),
        (part("labels", b"x" * 100_000) + END, "multipart", 413),
        (part("x" * 100_000, b"") + END, "multipart", 422),
        (part("a", b"b") * 50_000 + END, "multipart", 413),
        (b"--cut\r\n" + b"X: y\r\n" * 30_000 + b"\r\n" + END, "multipart", 422),
        (b"--cut\r\nContent-Disposition: form-data; " + b'name="a"; ' * 20_000 + b"\r\n\r\n\r\n" + END, "multipart", 422),
        (b"\r\n" * 400_000, "multipart", 422),
        (b"x" * 400_000, "multipart", 422),
        (part("top", b"9" * 100_000) + END, "multipart", 422),
        (part("strength", b"1" * 100_000) + END, "multipart", 422),
        (part("model", b"../../etc/passwd") + END, "multipart", 422),
    ],
    ids=range(18),
)  # fmt: skip
def test_forms_that_are_too_much(server: Server, video: bytes, body: bytes, kind: str, status: int) -> None:
    if kind == "multipart":
        body = part("file", video, more='; filename="v.mp4"') + body
        kind = "multipart/form-data; boundary=cut"
    else:
        kind = f"application/{kind}"
    found, answer, _ = server.ask("POST", "/v1/classify", body, Content_Type=kind)
    assert found == status, answer
    assert len(json.dumps(answer)) < 1000


@pytest.mark.parametrize(
    "name", ["../../../escaped.mp4", "FOLDER/escaped.mp4", "..\\escaped.mp4", "escaped.mp4\x00.txt", "e" * 4000, "%2e%2e/escaped.mp4"]
)  # fmt: skip
def test_names_of_uploads_lead_nowhere(server: Server, name: str) -> None:
    name = name.replace("FOLDER", str(server.folder))
    body = part("file", b"no video", more=f'; filename="{name}"') + END
    status, answer, _ = server.ask("POST", "/v1/classify", body, **KIND)
    assert status == 422
    assert "/" not in answer["error"]["message"].replace("application/", "").replace("multipart/", "")
    status, answer, _ = server.ask("POST", "/page/upload", b"no video", X_Name=quote(name))
    assert status == 200
    assert re.fullmatch("[A-Za-z0-9_-]{22}", answer["token"])
    found = {path.name for place in (server.folder.rglob("*"), server.folder.parent.iterdir()) for path in place}
    assert not any("escaped" in one or len(one) > 100 for one in found)
    [folder] = page_files(server)
    kept = [path for path in folder.iterdir() if path.name.startswith(answer["token"])]
    assert [path.suffix in ("", ".mp4", ".txt") for path in kept] == [True]
    assert folder.stat().st_mode & 0o077 == 0


ROOTS = ("/", "/static/", "/assets/", "/page/found/", "/page/example/", "/gradio_api/file=", "/file=", "/gradio_api/file/", "/theme.css/",
         "/gradio_api/heartbeat/", "/gradio_api/custom_component/", "/custom_component/", "/svelte/", "/v1/")  # fmt: skip
TRICKS = ("../../../../../../etc/passwd", "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
          "/etc/passwd", "%2fetc%2fpasswd", "..\\..\\..\\etc\\passwd", "....//....//etc/passwd", "..%252f..%252fetc%252fpasswd",
          "%c0%ae%c0%ae/etc/passwd", "~root", "/proc/self/environ", "http://127.0.0.1:1/", ".;/..;/etc/passwd")  # fmt: skip


@pytest.mark.parametrize("root", ROOTS)
def test_paths_lead_to_no_file(server: Server, root: str) -> None:
    for trick in TRICKS:
        status, content = said(server, head(f"GET {root}{trick} HTTP/1.1"))
        assert status in (400, 403, 404, 405), (root, trick)
        assert b"root:" not in content
        assert b"PATH=" not in content


def test_forged_events_of_the_page(server: Server) -> None:
    """Every event of the page with every wrong kind of value: refused, or answered on the page, and never a traceback."""
    config = server.ask("GET", "/config")[1]
    numbers = [one["id"] for one in config["dependencies"]]
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    values: list[Any] = [None, True, -1, 1e308, "x", "", "0.5", [], {}, file]
    carried: list[tuple[list[Any], dict[str, Any]]] = [
        *(([value], {}) for value in values),
        (["a"] * 3, {}),
        ([None] * 3, {}),
        ([], {}),
        ([], {"event_data": {"token": "a", "name": "b"}}),
        ([], {"event_data": {"place": 10**6}}),
        ([], {"event_data": [[]]}),
    ]
    statuses = set()
    for number in [*numbers, -1, 10**6]:
        for data, extra in carried:
            sent = event(number, *data, session_hash=f"s{number % 2}", **extra)
            statuses.add(server.ask("POST", "/gradio_api/queue/join", sent, **JSON)[0])
    assert statuses == {200, 400, 429}
    shut = "queue/data?session_hash=unknown heartbeat/../x call/recognise cancel reset upload component_server"
    for path in shut.split():
        for method in ("GET", "POST", "PUT"):
            assert server.ask(method, f"/gradio_api/{path}", b"{}")[0] in (400, 404, 405)


def test_a_reader_may_leave_at_any_time(server: Server) -> None:
    for path in ("queue/data?session_hash=reader", "heartbeat/reader") * 2:
        assert server.ask("POST", "/gradio_api/queue/join", event(1, session_hash="reader"), **JSON)[0] == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(head(f"GET /gradio_api/{path} HTTP/1.1"))
            assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_many_connections_that_say_nothing_hold_nobody_up(server: Server, video: bytes) -> None:
    address = ("127.0.0.1", server.port)
    silent = [socket.create_connection(address, timeout=PATIENCE_SECONDS) for _ in range(4 * MOST_CONNECTIONS)]
    for number, connection in enumerate(silent):
        with suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: "[: number % 24])
    body = part("file", video, more='; filename="v.mp4"') + END
    assert server.ask("POST", "/v1/classify", body, **KIND)[0] == 200
    assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 4 * MOST_CONNECTIONS
    for connection in silent:
        connection.close()


def test_uploads_that_trickle_end_and_give_their_places_back(server: Server, video: bytes) -> None:
    body = part("file", video, more='; filename="v.mp4"') + END
    slow = [server.begin(len(body), body[:1000]) for _ in range(4)]  # all the places there are
    until(lambda: server.ask("POST", "/v1/classify", body, **KIND)[0] == 429)
    assert [answer_of(connection)[0] for connection in slow] == [408] * 4
    assert server.ask("POST", "/v1/classify", body, **KIND)[0] == 200


@pytest.mark.parametrize(
    "path", ["/v1/classify", "/v1/search", "/page/upload", "/gradio_api/queue/join", "/", "/nothing"]
)
def test_more_bytes_than_are_taken_end_everywhere(server: Server, path: str) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
        try:
            connection.sendall(head(f"POST {path} HTTP/1.1", FORM, CHUNKED))
            while sent < 64 << 20:
                connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                sent += 0x10000
        except OSError:
            pass
    assert sent < 64 << 20

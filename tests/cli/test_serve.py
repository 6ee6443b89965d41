"""A real server in a process of its own, asked over sockets: by good clients, slow ones, and ones that leave."""

import json
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import m2clip.app
from tests.cli.conftest import Ran
from tests.program import NAMES, one_sentence
from tests.served import PATIENCE_SECONDS, TOKEN, Server, answer_of, until
from tests.small_inputs import moving_square, tiny_model, write_video


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    video = write_video(tmp_path_factory.mktemp("video") / "v.mp4", moving_square(frames=24))
    head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\n\r\n'
    return head + video.read_bytes() + b"\r\n--cut--\r\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    tiny_model(NAMES).save(path)
    return path


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("server"), checkpoint, "--no-page", "--queue", 1, "--max-mb", 1, M2CLIP_TOKEN=TOKEN
    )
    yield server
    server.process.kill()
    server.process.wait()


KIND = {"Content_Type": "multipart/form-data; boundary=cut"}


def test_an_upload_is_answered_and_deleted(server: Server, form: bytes) -> None:
    status, found, headers = server.ask("POST", "/v1/classify", form, **KIND)
    assert status == 200
    assert found["model"] == "mine"
    assert {one["label"] for one in found["predictions"]} == set(NAMES)
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    assert server.uploads() == []
    line = json.loads((server.folder / "log").read_text().splitlines()[-1])
    assert (line["request_id"], line["status"], line["route"]) == (headers["x-request-id"], 200, "/v1/classify")


def test_strangers_get_nothing(server: Server, form: bytes) -> None:
    assert server.ask("POST", "/v1/classify", form, Authorization="Bearer wrong", **KIND)[0] == 401
    assert server.ask("GET", "/metrics", Authorization="")[0] == 401
    assert server.ask("GET", "/healthz", Authorization="")[0] == 200
    assert server.ask("GET", "/healthz", Host="evil.example")[0] == 400
    assert server.ask("GET", "/healthz", Host=f"localhost:{server.port}")[0] == 200
    assert TOKEN.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert TOKEN not in (server.folder / "log").read_text()


def test_ten_gigabytes_are_refused_at_once(server: Server) -> None:
    connection = server.begin(10 << 30, b"--cut\r\n")
    status, text = answer_of(connection)
    assert (status, json.loads(text)["error"]["code"]) == (413, "too_large")
    assert connection.recv(1) == b""  # and the connection is over


def test_a_body_without_a_length_is_cut_where_it_becomes_too_large(server: Server) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: multipart/form-data; boundary=cut\r\nTransfer-Encoding: chunked\r\n\r\n"
    start = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="v"\r\n\r\n'
    connection.sendall(head.encode() + f"{len(start):x}\r\n".encode() + start + b"\r\n")
    sent, piece = 0, b"10000\r\n" + bytes(0x10000) + b"\r\n"
    try:
        while sent < 1000:  # 64 MB
            connection.sendall(piece)
            sent += 1
    except OSError:
        pass
    assert sent < 1000
    until(lambda: server.uploads() == [])


def test_one_request_too_many_is_told_when_to_come_again(server: Server, form: bytes) -> None:
    first = server.begin(len(form), form[:1000])
    until(lambda: len(server.uploads()) == 1)
    assert [path.stat().st_mode & 0o777 for path in (server.folder / "tmp").glob("m2clip-serve-*")] == [0o700]
    status, answer, headers = server.ask("POST", "/v1/classify", form, **KIND)
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "busy", "2")
    first.sendall(form[1000:])
    assert answer_of(first)[0] == 200
    assert server.ask("POST", "/v1/classify", form, **KIND)[0] == 200


def test_a_client_that_leaves_gives_its_place_back(server: Server, form: bytes) -> None:
    for sent in (form[:1000], form):
        server.begin(len(form), sent).close()
        until(lambda: server.uploads() == [])
        until(lambda: server.ask("POST", "/v1/classify", form, **KIND)[0] == 200)


def test_it_stops_when_it_is_asked_to_and_leaves_nothing(checkpoint: Path, form: bytes, tmp_path: Path) -> None:
    """The one before was killed: what it left goes, too."""
    killed = Server(tmp_path, checkpoint, "--no-page")
    unfinished = killed.begin(len(form), form[:1000])
    until(lambda: len(killed.uploads()) == 1)
    orphans = killed.children()
    killed.process.kill()
    killed.process.wait()
    unfinished.close()
    assert len(killed.uploads()) == 1
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))

    server = Server(tmp_path, checkpoint, "--no-page", M2CLIP_TOKEN=TOKEN)
    assert server.uploads() == []
    running = server.begin(len(form), form[:1000])
    until(lambda: len(server.uploads()) == 1)
    children = server.children()
    server.process.send_signal(signal.SIGTERM)

    def is_closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS).close()
        except OSError:
            return True
        return False

    until(is_closed)
    running.sendall(form[1000:])
    assert answer_of(running)[0] == 200
    assert server.process.wait(PATIENCE_SECONDS) == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert list((tmp_path / "tmp").glob("m2clip-*")) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_port_in_use_is_one_sentence(m2: Callable[..., Ran], checkpoint: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = m2("serve", checkpoint, "--port", port)
    assert ran.code == 1
    assert one_sentence(ran) == (
        f"m2clip: cannot listen on 127.0.0.1, port {port} (Address already in use); try another --port, or 0 for any"
    )


@pytest.mark.parametrize(
    ("arguments", "token", "words"),
    [
        (["--host", "no.such.host.invalid"], None, "no.such.host.invalid is no address of this machine"),
        (["--labels", "a,a"], None, "given twice"),
        (["--labels", ",".join(map(str, range(3))), "--max-labels", 2], None, "these are 3 labels; give 2 at most"),
        (["missing.safetensors"], None, "missing.safetensors is no file"),
        ([], "short", "the token in M2CLIP_TOKEN cannot be used"),
        ([], "with spaces in between it", "the token in M2CLIP_TOKEN cannot be used"),
        (["--token-file", "missing"], None, "missing: No such file"),
        (["--index", "missing"], None, "missing"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    arguments: list[Any], token: str | None, words: str, m2: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2clip.app.listening.run_server", None)
    if token is not None:
        monkeypatch.setenv("M2CLIP_TOKEN", token)
    ran = m2("serve", "--port", 0, *arguments)
    assert ran.code == 1
    assert words in one_sentence(ran)


def test_what_is_open_to_others_is_said(
    m2: Callable[..., Ran], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "m2clip.app.listening.run_server", lambda service, _, **options: served.append({"service": service, **options})
    )
    ran = m2("serve", checkpoint, "--compare", checkpoint, "--host", "0.0.0.0", "--port", 0, "--max-mb", 2.5)
    assert ran.code == 0
    assert one_sentence(ran) == (
        "m2clip: whoever reaches 0.0.0.0 can use this server: set M2CLIP_TOKEN or --token-file to ask for a token"
    )
    monkeypatch.setenv("M2CLIP_TOKEN", TOKEN)
    assert m2("serve", checkpoint, "--host", "0.0.0.0", "--port", 0).err == ""
    [first, second] = served
    assert (first["token"], second["token"]) == (None, TOKEN)
    assert list(first["service"].models) == ["mine", "mine (2)"]
    assert first["service"].limits.most_bytes == 2_621_440


@pytest.mark.parametrize("package", ["fastapi", "structlog", "prometheus_client", "uvicorn"])
def test_a_package_that_is_missing_is_named(
    package: str, m2: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m2clip, "app", m2clip.app)  # as it was, when the modules are back
    for name in [name for name in sys.modules if name.startswith("m2clip.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    ran = m2("serve", "--port", 0)
    assert ran.code == 1
    assert one_sentence(ran) == (
        f"m2clip: this command needs the package {package}, which is not installed: pip install 'm2clip[serve]'"
    )

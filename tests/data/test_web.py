"""A fetch ends within its limits, with the file or with one sentence, whatever the server does."""

import gzip
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from m2clip.data.web import WebLimits, fetch, is_web_address, shown_address
from m2clip.errors import ConfigError, VideoError
from tests.web_server import Server, body, serving, status

FILE = bytes(range(256)) * 700  # a few reads
ROOMY = WebLimits(most_bytes=len(FILE), total_seconds=60, wait_seconds=60)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        yield running


def fetched(url: str, limits: WebLimits = ROOMY) -> bytes:
    to = io.BytesIO()
    fetch(url, limits=limits, to=to)
    return to.getvalue()


def refusal(url: str, limits: WebLimits = ROOMY) -> str:
    with pytest.raises(VideoError) as caught:
        fetched(url, limits)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    assert shown_address(url) in message
    return message


def chunked(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(FILE), 50_000):
        chunk = FILE[start : start + 50_000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    handler.wfile.write(b"0\r\n\r\n")


def until_the_end(data: bytes) -> Callable[[BaseHTTPRequestHandler, threading.Event], None]:
    def answer(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + data)

    return answer


def endless(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        handler.wfile.write(bytes(2**16))


def cut_chunks(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nonly this")


def silent(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    over.wait(60)


def stalling(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    over.wait(60)


def dripping(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not over.wait(0.02):
        handler.wfile.write(b"x")


def dripping_head(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.02):
        handler.wfile.write(b"x")


def endless_redirect(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /file\r\n\r\n")
    while not over.is_set():
        handler.wfile.write(bytes(2**16))


@pytest.mark.parametrize("how", ["length", "chunks", "end", "gzip"])
def test_a_file_arrives_whole(server: Server, how: str) -> None:
    server.answers["/file"] = {
        "length": body(FILE),
        "chunks": chunked,
        "end": until_the_end(FILE),
        "gzip": body(gzip.compress(FILE), coding="gzip"),
    }[how]
    assert fetched(server.url + "/file") == FILE
    assert server.seen[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/a b/läufer ☃.mp4", "/a%20b/l%C3%A4ufer%20%E2%98%83.mp4"),
        ("/a%20b.mp4", "/a%20b.mp4"),
        ("/a.mp4?key=x y&z=%41#part", "/a.mp4?key=x%20y&z=%41"),
    ],
)
def test_any_letter_in_an_address(server: Server, asked: str, sent: str) -> None:
    server.answers[sent.partition("?")[0]] = body(b"good")
    assert fetched(server.url.replace("http:", "HTTP:") + asked) == b"good"
    assert server.seen[0][0] == sent


def test_redirects_are_followed(server: Server) -> None:
    server.answers |= {
        "/1": status(301, Location="/2"),
        "/2": status(307, Location=server.url + "/3"),
        "/3": status(308, Location="file"),
        "/file": body(FILE),
    }
    assert fetched(server.url + "/1") == FILE


def test_a_redirect_to_any_letter(server: Server) -> None:
    def away(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        handler.wfile.write("HTTP/1.1 302 Found\r\nLocation: /läufer 1%20.mp4\r\n\r\n".encode())

    server.answers |= {"/away": away, "/l%C3%A4ufer%201%20.mp4": body(b"good")}
    assert fetched(server.url + "/away") == b"good"


def test_heads_that_are_no_heads(server: Server) -> None:
    def many(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n")

    def long(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n")

    def strange(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\nContent-Type: \xff;;=\r\n\r\ngood")

    def goes_on(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        while not over.is_set():
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    server.answers |= {"/many": many, "/long": long, "/strange": strange, "/on": goes_on}
    assert "check the address" in refusal(server.url + "/many")
    assert "check the address" in refusal(server.url + "/long")
    assert fetched(server.url + "/strange") == b"good"
    limits = WebLimits(total_seconds=0.2, wait_seconds=60)
    assert "it takes longer than 0.2 seconds" in refusal(server.url + "/on", limits)


def test_the_body_of_a_redirect_is_not_read(server: Server) -> None:
    server.answers |= {"/endless": endless_redirect, "/file": body(b"good")}
    assert fetched(server.url + "/endless") == b"good"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "data:,x", "gopher://127.0.0.1/"])
def test_redirects_lead_to_the_web_only(server: Server, target: str) -> None:
    server.answers["/away"] = status(302, Location=target)
    assert f"redirects to {target.partition(':')[0]}://" in refusal(server.url + "/away")


def test_a_loop_of_redirects_ends(server: Server) -> None:
    server.answers |= {"/1": status(302, Location="/2"), "/2": status(302, Location="/1")}
    assert "it redirects more than 10 times" in refusal(server.url + "/1")
    assert len(server.seen) == 11


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "data:,x", "a.mp4", "//host/a.mp4"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(VideoError, match="only addresses that begin with http:// or https:// are"):
        fetched(url)


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///a.mp4", "http://h:port/", "http://[::1/", "http://" + "a" * 80, "http://127.0.0.1:99999/"],
)
def test_addresses_without_a_server(url: str) -> None:
    with pytest.raises(VideoError, match="check the address") as caught:
        fetched(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        body(FILE),
        body(b"", promised=len(FILE)),
        chunked,
        until_the_end(FILE),
        endless,
        body(gzip.compress(FILE), coding="gzip"),
    ],
    ids=["length", "promise", "chunks", "end", "endless", "gzip"],
)
def test_more_bytes_than_allowed(server: Server, answer: Callable[..., None]) -> None:
    server.answers["/file"] = answer
    limits = WebLimits(most_bytes=len(FILE) - 1, total_seconds=60, wait_seconds=60)
    assert f"it is larger than {len(FILE) - 1} bytes" in refusal(server.url + "/file", limits)


def test_a_bomb_is_not_unpacked_whole(server: Server) -> None:
    packed = gzip.compress(bytes(50_000_000))
    server.answers["/file"] = body(packed, coding="gzip")
    to = io.BytesIO()
    with pytest.raises(VideoError, match="it is larger than 100000 bytes"):
        fetch(server.url + "/file", limits=WebLimits(most_bytes=100_000), to=to)
    assert len(to.getvalue()) <= 100_000


@pytest.mark.parametrize("answer", [dripping, dripping_head], ids=["body", "head"])
def test_a_dripping_server_is_left_in_time(server: Server, answer: Callable[..., None]) -> None:
    server.answers["/file"] = answer
    limits = WebLimits(total_seconds=0.3, wait_seconds=60)
    assert "it takes longer than 0.3 seconds" in refusal(server.url + "/file", limits)


@pytest.mark.parametrize("answer", [silent, stalling], ids=["no answer", "half"])
def test_a_server_that_stalls(server: Server, answer: Callable[..., None]) -> None:
    server.answers["/file"] = answer
    limits = WebLimits(total_seconds=60, wait_seconds=0.2)
    assert "its server sends nothing for 0.2 seconds" in refusal(server.url + "/file", limits)


@pytest.mark.parametrize(
    "answer",
    [body(FILE[:1000], promised=len(FILE)), cut_chunks, body(gzip.compress(FILE)[:-20], coding="gzip")],
    ids=["length", "chunks", "gzip"],
)
def test_a_file_that_is_cut(server: Server, answer: Callable[..., None]) -> None:
    server.answers["/file"] = answer
    assert "its server stops in the middle of the file" in refusal(server.url + "/file")


def test_a_server_that_does_not_have_it(server: Server) -> None:
    assert "its server answers 404 Not Found" in refusal(server.url + "/nothing")
    server.answers["/empty"] = status(204)
    assert "its server answers 204" in refusal(server.url + "/empty")
    server.answers["/lost"] = status(302)
    assert "its server answers 302" in refusal(server.url + "/lost")


def test_a_web_page_is_no_video(server: Server) -> None:
    server.answers["/watch"] = body(b"<html>", kind="text/html; charset=utf-8")
    message = refusal(server.url + "/watch")
    assert "it is a web page (text/html); give the address of the video file itself" in message


def test_an_unknown_coding(server: Server) -> None:
    server.answers["/file"] = body(FILE, coding="br")
    assert "its server packs it as 'br'" in refusal(server.url + "/file")
    server.answers["/file"] = body(FILE, coding="gzip")  # it is not
    assert "check the address" in refusal(server.url + "/file")


def test_what_is_no_answer(server: Server) -> None:
    server.answers["/file"] = lambda handler, over: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert "check the address" in refusal(server.url + "/file")
    server.answers["/file"] = lambda handler, over: None
    assert "check the address" in refusal(server.url + "/file")


def test_nobody_listens() -> None:
    with serving() as gone:
        url = gone.url
    assert "Connection refused" in refusal(url + "/file")
    assert "check the address and the network" in refusal("https" + url[4:] + "/file")


def test_credentials_go_to_their_server_only(server: Server) -> None:
    with serving() as other:
        other.answers["/file"] = body(FILE)
        server.answers["/again"] = status(302, Location="/away")
        server.answers["/away"] = status(302, Location=other.url + "/file")
        assert fetched(server.url.replace("//", "//anna:p%40ss@") + "/again") == FILE
        assert [headers.get("authorization") for _, headers in server.seen] == ["Basic YW5uYTpwQHNz"] * 2  # anna:p@ss
        assert "authorization" not in other.seen[0][1]


def test_secrets_stand_in_no_message(server: Server) -> None:
    url = server.url.replace("//", "//anna:secret@") + "/a.mp4?key=secret#secret"
    assert "secret" not in refusal(url)
    assert shown_address(url) == server.url + "/a.mp4?..."
    assert [shown_address(text) for text in ("https://h/a.mp4", "x", "", "http://")] == [
        "https://h/a.mp4",
        "x",
        "",
        "http://",
    ]
    server.answers["/a.mp4"] = status(302, Location="http://anna:secret@[broken/")
    assert "secret" not in refusal(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("http://h/a", True), ("HTTPS://h/a", True), ("http:a.mp4", False), ("ftp://h/a", False), ("a/http://b", False)],
)
def test_what_is_a_web_address(text: str, expected: bool) -> None:
    assert is_web_address(text) is expected


@pytest.mark.parametrize("limits", [{"most_bytes": 0}, {"total_seconds": -1.0}, {"wait_seconds": float("nan")}])
def test_limits_are_above_nothing(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(limits))} is"):
        WebLimits(**limits)  # type: ignore[arg-type]

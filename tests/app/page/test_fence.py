"""What stands around Gradio."""

import asyncio
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from m2clip.app.page.fence import Fence

PAGE = """<head><meta charset="utf-8" />
<meta property="og:image" content="https://elsewhere/a.jpg" />
<meta
  name="twitter:image"
  content="https://elsewhere/b.jpg"
/><title>é</title></head>"""


async def gradio(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive()).get("body", b"") if scope["method"] == "POST" else b""
    await PlainTextResponse(PAGE if scope["path"] == "/" else f"{scope['path']} {body.decode()}")(scope, receive, send)


@pytest.fixture
def client() -> TestClient:
    return TestClient(Fence(gradio))


def test_the_page_names_no_other_machine(client: TestClient) -> None:
    page = client.get("/")
    assert "elsewhere" not in page.text
    assert '<meta charset="utf-8" />' in page.text
    assert "<title>é</title>" in page.text
    policy = page.headers["content-security-policy"]
    assert "http" not in policy
    assert "*" not in policy
    assert "connect-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=https://elsewhere/",
        "/gradio_api/call/recognise",
        "/gradio_api/run/recognise",
        "/gradio_api/stream/a",
        "/gradio_api/component_server",
        "/login",
        "/anything",
        f"/static/{'a' * 3000}",
        f"/assets/{'%C3%A9' * 200}",
    ],
)
def test_all_else_is_shut(client: TestClient, path: str) -> None:
    for answer in (client.get(path), client.post(path)):
        assert answer.status_code == 404
        assert answer.json() == {"error": {"code": "not_found", "message": "there is no such page"}}


def test_another_method_of_an_address_above_the_page_is_told() -> None:
    async def nothing(request: Any) -> Any: ...

    app = Starlette(routes=[Route("/v1/classify", nothing, methods=["POST"]), Mount("/", Fence(gradio))])
    answer = TestClient(app).get("/v1/classify")
    assert (answer.status_code, answer.headers["allow"], answer.json()["error"]["code"]) == (405, "POST", "method")
    assert TestClient(app).get("/v1/else").status_code == 404


@pytest.mark.parametrize(
    "path", ["/config", "/theme.css", "/assets/a.js", "/gradio_api/queue/data", "/gradio_api/heartbeat/abc"]
)
def test_what_the_page_needs_is_open(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


def join(client: TestClient, body: bytes) -> int:
    return client.post("/gradio_api/queue/join", content=body).status_code


def test_events_carry_texts_and_numbers(client: TestClient) -> None:
    body = json.dumps({"data": ["waving", 0.5, None, True], "event_data": {"token": "a"}, "fn_index": 1}).encode()
    answer = client.post("/gradio_api/queue/join", content=body)
    assert answer.text == f"/gradio_api/queue/join {body.decode()}"


@pytest.mark.parametrize(
    "value",
    [
        {"path": "https://elsewhere/a.mp4", "meta": {"_type": "gradio.FileData"}},
        [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
    ],
)
def test_no_event_can_name_a_file_or_an_address(client: TestClient, value: Any) -> None:
    assert join(client, json.dumps({"data": ["a", value]}).encode()) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"data": 1}',
        b"[" * 100_000,
        b'{"data": ["' + b"x" * 2**20 + b'"]}',
        b'{"data": [NaN]}',
        b'{"data": [], "fn_index": 1e999}',
        b'{"data": [], "event_data": {"name": "\\ud800"}}',
    ],
    ids=range(9),
)
def test_what_is_no_event_is_refused(client: TestClient, body: bytes) -> None:
    assert join(client, body) == 400


def test_a_browser_that_leaves_in_the_middle_breaks_nothing() -> None:
    sent = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
    asyncio.run(Fence(gradio)(scope, receive, send))
    assert sent[0]["status"] == 400

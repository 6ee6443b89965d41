"""What stands around Gradio."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

gradio = pytest.importorskip("gradio")

from m2clip.app.limits import Busy  # noqa: E402
from m2clip.app.page.events import MOST_SESSIONS, MOST_STREAMS, MOST_UNREAD, Events, Sessions  # noqa: E402
from m2clip.app.page.fence import Fence  # noqa: E402
from tests.app.page_events import event  # noqa: E402

PAGE = """<head><meta charset="utf-8" />
<meta property="og:image" content="https://elsewhere/a.jpg" />
<meta
  name="twitter:image"
  content="https://elsewhere/b.jpg"
/><title>é</title></head>"""


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """What stands in Gradio's place."""
    body = (await receive()).get("body", b"") if scope["method"] == "POST" else b""
    await PlainTextResponse(PAGE if scope["path"] == "/" else f"{scope['path']} {body.decode()}")(scope, receive, send)


@pytest.fixture(scope="module")
def blocks() -> Any:
    """A page with one event of each kind: names (0), strength and model (1), a choice (2), a closed page (3)."""
    with gradio.Blocks() as made:
        names, go = gradio.Textbox(), gradio.Button()
        dial, model = gradio.Slider(0.0, 1.0), gradio.Dropdown(["one", "two"])
        go.click(lambda names: None, [names])
        go.click(lambda strength, model: None, [dial, model])
        go.click(lambda: None)
        made.unload(lambda: None)
    made.queue()
    return made


@pytest.fixture
def sessions(blocks: Any) -> Iterator[Sessions]:
    yield Sessions(blocks)
    blocks._queue.pending_event_ids_session.clear()
    blocks._queue.pending_messages_per_session.clear()


@pytest.fixture
def client(blocks: Any, sessions: Sessions) -> TestClient:
    return TestClient(Fence(behind, Events(blocks), sessions))


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
        "/gradio_api/cancel",
        "/gradio_api/reset",
        "/gradio_api/info",
        "/gradio_api/heartbeat/a/b",
        "/gradio_api/heartbeat/%2e%2e",
        f"/gradio_api/heartbeat/{'a' * 65}",
        "/static/..%2f..%2froutes.py",
        "/assets/%2e%2e/%2e%2e/routes.py",
        "/assets//etc/..",
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


def test_another_method_of_an_address_above_the_page_is_told(blocks: Any, sessions: Sessions) -> None:
    async def nothing(request: Any) -> Any: ...

    app = Starlette(
        routes=[Route("/v1/classify", nothing, methods=["POST"]), Mount("/", Fence(behind, Events(blocks), sessions))]
    )
    answer = TestClient(app).get("/v1/classify")
    assert (answer.status_code, answer.headers["allow"], answer.json()["error"]["code"]) == (405, "POST", "method")
    assert TestClient(app).get("/v1/else").status_code == 404


@pytest.mark.parametrize(
    "path", ["/config", "/theme.css", "/assets/a-B_1.js", "/static/fonts/a.woff2", "/gradio_api/heartbeat/abc"]
)
def test_what_the_page_needs_is_open(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("number", "data", "others"),
    [
        (0, ["waving\nclapping"], {"event_data": None, "trigger_id": None}),
        (1, [0.5, "two"], {}),
        (1, [1, "one"], {}),
        (2, [], {"event_data": {"token": "a", "name": "b.mp4"}}),
        (2, [], {"event_data": {"place": 1}}),
        (2, [], {"event_data": 0.95}),
    ],
)
def test_events_of_the_page_pass(
    client: TestClient, blocks: Any, number: int, data: list[Any], others: dict[str, Any]
) -> None:
    body = event(number, *data, **others)
    answer = client.post("/gradio_api/queue/join", content=body)
    assert answer.text == f"/gradio_api/queue/join {body.decode()}"
    place = next(iter(blocks.blocks))
    assert client.post("/gradio_api/queue/join", content=event(2, trigger_id=place)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"data": 1}',
        b"[" * 100_000,
        event(0, "x" * 2**20),
        event(0, {"path": "https://elsewhere/a.mp4", "meta": {"_type": "gradio.FileData"}}),
        event(0, [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]),
        event(0),
        event(0, "a", "b"),
        event(0, 1),
        event(0, None),
        event(0, True),
        event(1, "0.5", "one"),
        event(1, True, "one"),
        event(1, 1.5, "one"),
        event(1, float("nan"), "one"),
        event(1, 0.5, "one").replace(b"0.5", b"1e999"),
        event(1, 0.5, "three"),
        event(2, event_data={"token": ["a"]}),
        event(2, event_data={"token": {"path": "/etc/passwd"}}),
        event(2, event_data=[1]),
        event(2, event_data={str(n): 0 for n in range(5)}),
        event(2, event_data={"name": "x"}).replace(b'"x"', b'"\\ud800"'),
        event(3),
        event(4),
        event(-1),
        event(10**30),
        event(2, fn_index="2"),
        event(2, fn_index=None),
        event(2, trigger_id=10**6),
        event(2, session_hash=None),
        event(2, session_hash="../x"),
        event(2, session_hash="a" * 65),
        event(2, session_hash=7),
        event(2, batched=True),
        event(2, simple_format=True),
        event(2, event_id="another's"),
        event(2, oauth_token="x"),
    ],
    ids=range(39),
)
def test_what_this_page_does_not_send_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/gradio_api/queue/join", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "request")


def test_answers_go_to_who_has_asked(client: TestClient, blocks: Any) -> None:
    for query in ("", "?session_hash=abc", "?session_hash=", "?session_hash=a&session_hash=b", "?session_hash=%00%ff"):
        answer = client.get(f"/gradio_api/queue/data{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "session")
    blocks._queue.pending_messages_per_session["abc"] = asyncio.Queue()
    assert client.get("/gradio_api/queue/data?session_hash=abc").status_code == 200


def test_a_page_that_reads_nothing_is_told_nothing_more(client: TestClient, blocks: Any) -> None:
    pending = blocks._queue.pending_event_ids_session.setdefault("abc", set())
    pending.update(range(MOST_UNREAD - 1))
    assert client.post("/gradio_api/queue/join", content=event(2)).status_code == 200
    pending.add(MOST_UNREAD)
    answer = client.post("/gradio_api/queue/join", content=event(2))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert client.post("/gradio_api/queue/join", content=event(2, session_hash="other")).status_code == 200


def test_of_too_many_pages_the_one_without_connections_is_forgotten(sessions: Sessions, blocks: Any) -> None:
    queue = blocks._queue

    async def run() -> None:
        for number in range(MOST_SESSIONS):
            await sessions.enter(f"s{number}")
            queue.pending_messages_per_session[f"s{number}"] = asyncio.Queue()
            queue.pending_event_ids_session[f"s{number}"] = {"unread"}
        async with sessions.stream("s1"), sessions.stream("s2"):
            await sessions.enter("s0")  # now s1 has asked for nothing the longest, but it is connected, and s2, too
            await sessions.enter("new")
            assert not sessions.has_asked("s3")
            assert "s3" not in queue.pending_event_ids_session
            assert sessions.has_asked("s1")
            for number in range(1, MOST_SESSIONS - 2):
                await sessions.enter(f"n{number}")
            assert sessions.has_asked("s1")
            assert sessions.has_asked("s2")
            assert len(queue.pending_messages_per_session) == 2

    asyncio.run(run())


def test_connections_are_counted_and_given_back(sessions: Sessions) -> None:
    async def run() -> None:
        async with AsyncExitStack() as held:
            for number in range(MOST_SESSIONS):
                await held.enter_async_context(sessions.stream(f"s{number}"))
            with pytest.raises(Busy, match="64 pages are open"):
                await sessions.enter("new")
            for _ in range(MOST_STREAMS - 1):
                await held.enter_async_context(sessions.stream("s0"))
            with pytest.raises(Busy, match="this page has 4 connections"):
                await held.enter_async_context(sessions.stream("s0"))
        async with sessions.stream("new"):
            pass

    asyncio.run(run())


@pytest.mark.parametrize("error", [HTTPException(404), KeyError("session")])
def test_a_stream_that_ends_is_no_fault(error: Exception, blocks: Any, sessions: Sessions) -> None:
    async def ends(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    fence = Fence(ends, Events(blocks), sessions)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/abc", "headers": []}
    asyncio.run(fence(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 200


def test_a_browser_that_leaves_in_the_middle_breaks_nothing(blocks: Any, sessions: Sessions) -> None:
    sent = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
    asyncio.run(Fence(behind, Events(blocks), sessions)(scope, receive, send))
    assert sent[0]["status"] == 400

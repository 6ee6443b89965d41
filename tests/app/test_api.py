"""The API in this process: right answers, and for everything that is wrong one form of error with the right status."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog.testing
import torch
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from m2clip.app.api import make_app
from m2clip.app.limits import Busy, Limits, TooSlow
from m2clip.app.service import Service
from m2clip.app.upload_folder import UploadFolder
from m2clip.errors import ConfigError
from m2clip.recognizer import Recognizer
from tests.app.jobs import Crashing
from tests.small_inputs import moving_square, tiny_model, write_sound, write_video

NAMES = ["bouncing", "moving", "spinning"]
LIMITS = Limits(most_bytes=100_000, most_seconds=5.0, most_pixels=100 * 100, most_labels=4, most_top=5, most_windows=50)
HOSTS = ["testserver"]


class Nearest:
    """An index of one video, as `search.VideoIndex` answers."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __len__(self) -> int:
        return 1

    def search(self, vector: Any, top: int) -> list[Any]:
        from m2clip.search import Found

        self.asked.append((vector, top))
        return [Found("/home/somebody/waving/film.mp4", 0.5, start_seconds=1.0)]


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(tiny_model(NAMES), web=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def good(place: Path) -> Path:
    return write_video(place / "good.mp4", moving_square(frames=24))


@pytest.fixture(scope="module")
def index() -> Nearest:
    return Nearest()


@pytest.fixture(scope="module")
def client(recognizer: Recognizer, place: Path, index: Nearest) -> Iterator[TestClient]:
    (place / "uploads").mkdir()
    with UploadFolder(place / "uploads") as uploads:
        service = Service({"tiny": recognizer}, limits=LIMITS, index=index)  # type: ignore[arg-type]
        with TestClient(make_app(service, uploads, hosts=HOSTS), raise_server_exceptions=False) as client:
            client.service, client.folder = service, uploads.path  # type: ignore[attr-defined]
            yield client


def ask(client: TestClient, route: str, video: Path | None, **fields: Any) -> Any:
    files = {} if video is None else {"file": (video.name, video.read_bytes())}
    return client.post(f"/v1/{route}", files=files, data=fields)


def error_of(answer: Any, client: TestClient) -> tuple[int, str, str]:
    """Status, code and sentence; nothing of this machine is in it, and no upload is left."""
    document = answer.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message"}
    message = document["error"]["message"]
    assert "/" not in message.replace("application/", "").replace("multipart/", "")
    assert [path.name for path in client.folder.iterdir()] == ["lock"]  # type: ignore[attr-defined]
    return answer.status_code, document["error"]["code"], message


def test_classify(client: TestClient, recognizer: Recognizer, good: Path) -> None:
    answer = ask(client, "classify", good, labels=["walking", "running, fast"], top=2)
    assert answer.status_code == 200
    found = answer.json()
    right = recognizer.classify(good, ["walking", "running, fast"], top=2)
    assert found["predictions"] == [{"label": one.label, "score": pytest.approx(one.score, abs=1e-6)} for one in right]
    assert found["video"] == {
        "width": 48, "height": 48, "frames": 24, "lost_frames": 0, "duration_seconds": pytest.approx(2.0), "fps": 12.0, "codec": "h264"
    }  # fmt: skip
    assert (found["model"], found["strength"], found["none_of_these"]) == ("tiny", 1.0, False)
    assert len(found["frame_seconds"]) == recognizer.sampling.frames
    assert [path.name for path in client.folder.iterdir()] == ["lock"]  # type: ignore[attr-defined]
    own = ask(client, "classify", good, strength="0.25", labels="").json()
    assert {one["label"] for one in own["predictions"]} == set(NAMES)
    assert own["strength"] == 0.25


def test_embed_and_timeline(client: TestClient, recognizer: Recognizer, good: Path) -> None:
    embedding = ask(client, "embed", good).json()["embedding"]
    np.testing.assert_allclose(embedding, recognizer.embed(good), atol=1e-6)
    windows = ask(client, "timeline", good, window_seconds=1, step_seconds=0.5, top=1).json()["windows"]
    right = recognizer.timeline(good, None, 1.0, 0.5, 1)
    assert [one["start_seconds"] for one in windows] == [0.0, 0.5, 1.0]
    assert [one["end_seconds"] for one in windows] == pytest.approx([1.0, 1.5, 2.0])
    assert [one["predictions"][0]["label"] for one in windows] == [one.predictions[0].label for one in right]


def test_search(client: TestClient, recognizer: Recognizer, good: Path, index: Nearest) -> None:
    expected = {"found": [{"video": "waving/film.mp4", "score": 0.5, "start_seconds": 1.0, "end_seconds": None}]}
    assert ask(client, "search", None, text="a man waves", top=3).json() == expected
    np.testing.assert_allclose(index.asked[-1][0], recognizer.embed_text("a man waves"), atol=1e-6)
    assert index.asked[-1][1] == 3
    assert ask(client, "search", good, top=1).json() == expected
    np.testing.assert_allclose(index.asked[-1][0], recognizer.embed(good), atol=1e-6)
    assert error_of(ask(client, "search", good, text="both", top=1), client)[:2] == (422, "request")
    assert error_of(ask(client, "search", None, top=1), client)[:2] == (422, "request")
    assert error_of(ask(client, "search", None, text=" ", top=1), client)[:2] == (422, "request")
    assert error_of(ask(client, "search", None, text="x" * 201, top=1), client)[:2] == (413, "too_large")


def test_a_server_without_an_index_says_so(recognizer: Recognizer, tmp_path: Path) -> None:
    with UploadFolder(tmp_path) as uploads:
        service = Service({"tiny": recognizer}, limits=LIMITS)
        client = TestClient(make_app(service, uploads))  # nothing is started: the question needs no model
        client.folder = uploads.path  # type: ignore[attr-defined]
        assert error_of(client.post("/v1/search", data={"text": "x"}), client)[:2] == (404, "no_index")
        health = client.get("/healthz")
        assert (health.status_code, health.json()["ready"]) == (503, False)


def test_an_index_that_is_gone_is_no_fault_of_the_question(
    client: TestClient, index: Nearest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(vector: Any, top: int) -> Any:
        raise ConfigError("/home/somebody/index is gone")

    monkeypatch.setattr(index, "search", gone)
    status, code, message = error_of(client.post("/v1/search", data={"text": "a", "top": "1"}), client)
    assert (status, code) == (503, "broken")
    assert "log" in message


def bad_file(kind: str, place: Path, good: Path) -> Path:
    path = place / f"{kind}.mp4"
    if kind == "sound":
        write_sound(path)
    elif kind == "text":
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(9000))
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:200])
    elif kind == "zip":
        path.write_bytes(b"PK\x03\x04" + bytes(500))
    elif kind == "frames":
        # The header of an index that claims more frames than memory holds.
        content = bytearray(good.read_bytes())
        at = content.index(b"stsz")
        content[at + 8 : at + 16] = (1).to_bytes(4, "big") + (0xFFFFFFF0).to_bytes(4, "big")
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["sound", "text", "noise", "empty", "cut", "zip", "frames"])
@pytest.mark.parametrize("route", ["classify", "timeline"])
def test_files_that_are_no_video(kind: str, route: str, client: TestClient, place: Path, good: Path) -> None:
    status, code, message = error_of(ask(client, route, bad_file(kind, place, good)), client)
    assert (status, code) == (422, "video")
    assert f"{kind}.mp4" in message


@pytest.mark.parametrize(
    ("frames", "side", "words"),
    [(61, 48, "it lasts 5.1 s; 5 s are allowed"), (5, 112, "112 x 112 pixels; 10,000 in all are allowed")],
)
def test_videos_that_are_too_large(frames: int, side: int, words: str, client: TestClient, place: Path) -> None:
    video = write_video(place / f"{frames}.mp4", moving_square(frames=frames, side=side))
    for route in ("classify", "timeline", "embed"):
        status, code, message = error_of(ask(client, route, video), client)
        assert (status, code) == (413, "too_large")
        assert words in message


def test_an_upload_of_too_many_bytes(client: TestClient, place: Path) -> None:
    (place / "large").write_bytes(bytes(LIMITS.most_bytes + 1))
    status, code, message = error_of(ask(client, "classify", place / "large"), client)
    assert (status, code, message) == (413, "too_large", "the file has more than the 0.0953674 MB that are allowed")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"top": "0"}, 422, "top is 0"),
        ({"top": "x"}, 422, "the field top is 'x'"),
        ({"top": "6"}, 413, "ask for 5 at most"),
        ({"strength": "2"}, 422, "strength is 2"),
        ({"model": "other"}, 422, "there is no model 'other' here; there is tiny"),
        ({"labels": ["a"] * 5}, 413, "these are 5 labels; give 4 at most"),
        ({"labels": "x" * 300}, 413, "a label has 300 characters"),
        ({"labels": '["a"'}, 422, "begins like a JSON list"),
        ({"labels": '["\\ud800", "b"]'}, 422, "a label holds half a character"),
        ({"labels": "a,a"}, 422, "given twice"),
        ({"surprise": "x"}, 422, "there is no field 'surprise' here; there are labels, top, strength, model"),
    ],
)
def test_fields_that_cannot_be_used(
    fields: dict[str, Any], status: int, words: str, client: TestClient, good: Path
) -> None:
    found, _, message = error_of(ask(client, "classify", good, **fields), client)
    assert found == status
    assert words in message


def test_other_requests_that_mean_nothing(client: TestClient) -> None:
    assert error_of(client.get("/nothing"), client)[:2] == (404, "not_found")
    assert error_of(client.get("/v1/classify"), client)[:2] == (405, "method")
    assert error_of(client.post("/v1/classify", json={"file": "/etc/passwd"}), client)[:2] == (422, "request")
    assert error_of(ask(client, "classify", None, labels="a"), client)[:2] == (422, "request")
    assert client.get("/docs").status_code == 404


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(Busy("full"), 429, "busy"), (TooSlow("late"), 504, "too_slow"), (RuntimeError("secret"), 500, "internal")],
)
def test_errors_of_the_server_itself(
    error: Exception, status: int, code: str, client: TestClient, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(client.service, "classify", fails)  # type: ignore[attr-defined]
    with structlog.testing.capture_logs() as lines:
        answer = ask(client, "classify", good)
    assert ("failed" in {line["event"] for line in lines}) == (status == 500)
    assert error_of(answer, client)[:2] == (status, code)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 429)


def test_a_crash_of_the_decoder_is_one_requests_error(
    client: TestClient, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("m2clip.app.decoding.ClipsJob", Crashing)
        status, code, message = error_of(ask(client, "classify", good), client)
    assert (status, code) == (422, "video")
    assert message == "cannot read good.mp4: the decoder crashed on it (ended by SIGSEGV); convert it"
    assert ask(client, "classify", good).status_code == 200


def test_counts(client: TestClient, good: Path) -> None:
    def counts() -> dict[tuple[str, tuple[Any, ...]], float]:
        text = client.get("/metrics").text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    before = counts()
    ask(client, "embed", good)
    ask(client, "embed", good, model="made up")
    client.get("/made/up")
    after = counts()

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert grown("m2clip_requests_total", route="/v1/embed", status="200") == 1
    assert grown("m2clip_requests_total", route="/v1/embed", status="422") == 1
    assert grown("m2clip_requests_total", route="other", status="404") == 1
    assert grown("m2clip_request_seconds_count", route="/v1/embed") == 2
    assert grown("m2clip_batch_clips_count") == 1
    assert after["m2clip_in_flight", ()] == 1  # the question itself
    assert after["m2clip_ready", ()] == after["m2clip_decoders_ready", ()] == 1
    assert after["m2clip_waiting", (("queue", "model"),)] == 0
    assert after["m2clip_resident_bytes", (("process", "decoders"),)] > 1e7
    assert "made" not in str(after)


def test_a_log_line_tells_how_it_went_and_nothing_of_what_was_sent(client: TestClient, good: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = ask(client, "classify", good, labels="my secret, other")
    [line] = lines
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["route"], line["status"], line["method"]) == ("/v1/classify", 200, "POST")
    assert line["received_bytes"] > good.stat().st_size
    assert line["sent_bytes"] == len(answer.content)
    assert not {"secret", "good"} & set(json.dumps(line).replace(".", " ").replace('"', " ").split())


def test_the_description_is_whole(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = document["paths"]
    assert set(paths) == {"/healthz", "/metrics", "/v1/classify", "/v1/embed", "/v1/timeline", "/v1/search"}
    for path in ("/v1/classify", "/v1/embed", "/v1/timeline", "/v1/search"):
        operation = paths[path]["post"]
        assert {"200", "404", "408", "413", "422", "429", "504"} <= set(operation["responses"])
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["properties"]["file"]["format"] == "binary"
        for answer in operation["responses"].values():
            name = answer["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            assert "properties" in document["components"]["schemas"][name]
    references = [line for line in json.dumps(document).split('"') if line.startswith("#/components/schemas/")]
    assert {name.rsplit("/", 1)[1] for name in references} <= set(document["components"]["schemas"])
    assert document["components"]["schemas"]["Classified"]["example"]["predictions"][0]["label"] == "waving a hand"


@pytest.fixture(scope="module")
def guarded(recognizer: Recognizer, place: Path) -> Callable[..., Any]:
    """A server with a token that nobody has started: its checks need no model."""
    uploads = UploadFolder(place)
    app = make_app(
        Service({"tiny": recognizer}, limits=LIMITS), uploads, token="a-long-token-1234", hosts=["localhost", "[::1]"]
    )
    client = TestClient(app, base_url="http://localhost")
    return client.request


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer a-long-token-1234"}, 404),
        ({"Authorization": "bearer  a-long-token-1234"}, 404),
        ({"Authorization": "Bearer a-long-token-123"}, 401),
        ({"Authorization": "Bearer ä"}, 401),
        (basic("a-long-token-1234"), 404),
        (basic("other"), 401),
        ({"Authorization": "Basic ???"}, 401),
        ({"Authorization": "a-long-token-1234"}, 401),
        ({"Authorization": "Bearer a-long-token-1234", "Host": "evil.example"}, 400),
        ({"Authorization": "Bearer a-long-token-1234", "Host": "[::1]:80"}, 404),
        ({"Authorization": "Bearer a-long-token-1234", "Origin": "http://evil.example"}, 403),
        ({"Authorization": "Bearer a-long-token-1234", "Origin": "http://localhost"}, 404),
    ],
)
def test_who_may_ask(headers: dict[str, str], status: int, guarded: Callable[..., Any]) -> None:
    encoded = {name: value.encode("utf-8") for name, value in headers.items()}
    answer = guarded("POST", "/v1/search", headers=encoded)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    if status == 401:
        for path in ("/metrics", "/openapi.json", "/anything", "/"):
            assert guarded("GET", path, headers=encoded).status_code == 401
        assert guarded("GET", "/healthz").status_code == 503


def test_many_at_once_get_what_each_gets_alone(client: TestClient, recognizer: Recognizer, good: Path) -> None:
    sets = [["a", "b"], ["c", "d", "e"], NAMES]
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda k: ask(client, "classify", good, labels=sets[k % 3]).json(), range(9)))
    for k, answer in enumerate(answers):
        right = recognizer.score(good, sets[k % 3])
        scores = {one["label"]: one["score"] for one in answer["predictions"]}
        found = torch.tensor([scores[name] for name in right.classes.names])
        torch.testing.assert_close(found, right.probabilities, rtol=0, atol=1e-5)

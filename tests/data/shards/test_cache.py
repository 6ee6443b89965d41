"""Shards behind web addresses: fetched once, checked, within a bound, whatever servers and other processes do."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from m2clip.data.places import ShardMember
from m2clip.data.shards import cache as shard_cache
from m2clip.data.shards.members import member_bytes
from m2clip.data.web import WebLimits
from m2clip.errors import ConfigError, VideoError
from tests.web_server import Answer, Server, body, serving, status

CONTENT = bytes(range(256)) * 40
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a cache of the test's own; nobody waits between tries."""
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shard_cache, "_WAITS_SECONDS", (0.0, 0.0, 0.0))
    with serving() as server:
        server.answers["/a.tar"] = body(CONTENT, kind="application/x-tar")
        yield server


def read(url: str, sha256: str = SUM) -> bytes:
    with shard_cache.opened(url, sha256=sha256) as file:
        return file.read()


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "shards").glob("*.tar"))


def in_turn(*answers: Answer) -> Answer:
    """Another answer each time, the last one for ever."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler, over)

    return answer


def stalled(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    """Half of the file, and then nothing more."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])
    handler.wfile.flush()
    over.wait(60)


def test_a_shard_is_fetched_once_and_whole(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/a.tar"
    member = ShardMember(url, "x.mp4", 100, 7, SUM)
    assert member_bytes(member) == CONTENT[100:107]
    assert read(url) == CONTENT
    assert [(path, "range" in headers) for path, headers in server.seen] == [("/a.tar", False)]  # any server will do
    assert [path.read_bytes() for path in kept(tmp_path)] == [CONTENT]


def test_an_address_may_change_where_the_sum_does_not(server: Server) -> None:
    assert read(f"{server.url}/a.tar?signature=1") == read(f"{server.url}/a.tar?signature=2") == CONTENT
    assert len(server.seen) == 1


def test_a_shard_that_nobody_has_summed_is_known_by_its_sum_from_then_on(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/a.tar"
    assert read(url, "") == read(url, "") == read(url, SUM) == CONTENT
    assert len(server.seen) == 1
    kept(tmp_path)[0].unlink()
    server.answers["/a.tar"] = body(b"newer")
    assert read(url, "") == b"newer"
    with pytest.raises(VideoError, match="is not the file that its index was made of"):
        read(url, SUM)


@pytest.mark.parametrize("fault", [status(503), body(CONTENT[:99], promised=len(CONTENT)), body(b"other"), stalled])
def test_a_server_that_fails_for_a_while(server: Server, monkeypatch: pytest.MonkeyPatch, fault: Answer) -> None:
    monkeypatch.setattr(shard_cache, "_LIMITS", WebLimits(wait_seconds=0.2))
    server.answers["/a.tar"] = in_turn(fault, fault, body(CONTENT))
    assert read(f"{server.url}/a.tar") == CONTENT
    assert len(server.seen) == 3


def test_a_server_that_goes_on_failing_is_left_alone_for_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Thousands of samples may lie in the shard, and each of them asks for it."""
    url = f"{server.url}/a.tar"
    server.answers["/a.tar"] = status(503)
    sentences = set()
    for _ in range(3):
        with pytest.raises(VideoError) as caught:
            member_bytes(ShardMember(url, "x.mp4", 0, 5, SUM))
        sentences.add(str(caught.value))
    (sentence,) = sentences
    assert "503" in sentence
    assert sentence.endswith("(asked 4 times)")
    assert len(server.seen) == 4
    server.answers["/a.tar"] = body(CONTENT)
    with pytest.raises(VideoError):
        read(url)
    now = shard_cache.time.time()
    monkeypatch.setattr(shard_cache.time, "time", lambda: now + 301)
    assert read(url) == CONTENT
    assert kept(tmp_path) != []


def test_a_shard_that_is_not_the_one_of_the_index(server: Server, tmp_path: Path) -> None:
    server.answers["/a.tar"] = body(b"another shard")
    with pytest.raises(VideoError, match=r"a\.tar\?\.\.\. is not the file that its index was made of \(SHA-256 "):
        read(f"{server.url}/a.tar?key=secret")
    assert [path.suffix for path in (tmp_path / "cache" / "shards").iterdir()] == [".lock"]


def test_the_longest_unused_shards_make_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2CLIP_SHARDS_GIB", str(3.5 * len(CONTENT) / 2**30))
    names = "abcd"
    contents = {name: name.encode() + CONTENT[1:] for name in names}
    for name in names:
        server.answers[f"/{name}.tar"] = body(contents[name])
    paths: dict[str, Path] = {}
    for n, name in enumerate("abc", start=1):
        before = set(kept(tmp_path))
        assert read(f"{server.url}/{name}.tar", "")[:1] == name.encode()
        (paths[name],) = set(kept(tmp_path)) - before
        os.utime(paths[name], (n, n))
    with shard_cache.opened(f"{server.url}/b.tar") as in_use:
        os.utime(paths["b"], (0, 0))
        assert read(f"{server.url}/d.tar", "") == contents["d"]
        assert [paths[name].exists() for name in "abc"] == [True, False, True]
        assert in_use.read() == contents["b"]  # whoever reads it reads on
    assert sum(path.stat().st_size for path in kept(tmp_path)) == 3 * len(CONTENT)


def test_a_shard_that_is_larger_than_the_cache_is_read_all_the_same(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2CLIP_SHARDS_GIB", "0.0000001")
    server.answers["/b.tar"] = body(CONTENT)
    for name in ("a", "b"):
        assert read(f"{server.url}/{name}.tar") == CONTENT
    assert len(kept(tmp_path)) == 1


def _read_and_exit(url: str) -> None:
    os._exit(0 if read(url) == CONTENT else 1)


def test_processes_fetch_a_shard_once(server: Server) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_read_and_exit, args=(f"{server.url}/a.tar",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(server.seen) == 1


def test_a_process_that_is_killed_while_it_fetches(server: Server, tmp_path: Path) -> None:
    begun = threading.Event()

    def half(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        begun.set()
        stalled(handler, over)

    server.answers["/a.tar"], server.answers["/b.tar"] = half, body(CONTENT)
    process = multiprocessing.get_context("fork").Process(target=_read_and_exit, args=(f"{server.url}/a.tar",))
    process.start()
    assert begun.wait(60)
    assert any((tmp_path / "cache" / "shards").glob("*.draft"))
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert kept(tmp_path) == []
    read(f"{server.url}/b.tar")  # takes the dead one's draft away
    assert not any((tmp_path / "cache" / "shards").glob("*.draft"))
    server.answers["/a.tar"] = body(CONTENT)
    assert read(f"{server.url}/a.tar") == CONTENT


def test_a_cache_that_cannot_be(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(VideoError, match=r"a\.tar cannot be kept in the cache \(.*\): make room, or set M2CLIP_CACHE"):
        read(f"{server.url}/a.tar")


def test_the_size_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("M2CLIP_SHARDS_GIB", raising=False)
    assert shard_cache.most_bytes() == 20 * 2**30
    monkeypatch.setenv("M2CLIP_SHARDS_GIB", "0.5")
    assert shard_cache.most_bytes() == 2**29
    for wrong in ("0", "-1", "many", "nan", "inf"):
        monkeypatch.setenv("M2CLIP_SHARDS_GIB", wrong)
        with pytest.raises(ConfigError, match=f"M2CLIP_SHARDS_GIB is '{wrong}': give the size"):
            shard_cache.most_bytes()

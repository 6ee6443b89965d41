"""The folder of what visitors send."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from m2clip.app.limits import Busy, LimitError
from m2clip.app.page.uploads import MOST_RECEIVED_AT_ONCE, UPLOADS_KEPT, Uploads
from m2clip.errors import VideoError


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


def receive(uploads: Uploads, *sizes: int, name: str = "a.mp4") -> str:
    return asyncio.run(uploads.receive(pieces(*sizes), name=name))


def test_an_upload_is_kept_under_a_token_until_it_is_dropped() -> None:
    uploads = Uploads(100)
    token = receive(uploads, 30, 20)
    path = uploads.path(token)
    assert path.read_bytes() == b"x" * 50
    assert path.parent == uploads.folder
    assert uploads.folder.stat().st_mode & 0o777 == 0o700
    uploads.drop(token)
    assert not path.exists()
    with pytest.raises(VideoError, match="choose it again"):
        uploads.path(token)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.mp4/../../b", "nul\0.mp4", "x.<script>", "é" * 300 + ".mp4"])
def test_a_name_reaches_no_other_folder(name: str) -> None:
    uploads = Uploads(100)
    path = uploads.path(receive(uploads, 1, name=name))
    assert path.parent == uploads.folder
    assert path.suffix in ("", ".mp4")


def test_an_upload_that_is_too_large_is_stopped_and_leaves_nothing() -> None:
    uploads = Uploads(2**20)
    with pytest.raises(LimitError, match=r"a\.mp4 is larger than the 1 MiB that are taken here: cut it"):
        receive(uploads, 2**20, 1)
    assert list(uploads.folder.iterdir()) == []


def test_an_empty_file_is_named() -> None:
    with pytest.raises(VideoError, match=r"a\.mp4 is empty"):
        receive(Uploads(100))


def test_the_oldest_make_room() -> None:
    uploads = Uploads(100)
    tokens = [receive(uploads, 100) for _ in range(UPLOADS_KEPT + 1)]
    assert [path.name for path in sorted(uploads.folder.iterdir())] == sorted(f"{token}.mp4" for token in tokens[1:])


def test_the_oldest_of_very_many_small_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2clip.app.page.uploads.MOST_FILES_KEPT", 3)
    uploads = Uploads(100)
    tokens = [receive(uploads, 1) for _ in range(5)]
    assert sorted(path.stem for path in uploads.folder.iterdir()) == sorted(tokens[2:])


def test_so_many_at_once_and_no_more() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.001)

    async def many() -> None:
        uploads = Uploads(10**9)
        begun = [asyncio.create_task(uploads.receive(endless(), name="a.mp4")) for _ in range(MOST_RECEIVED_AT_ONCE)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="8 videos are on their way here"):
            await uploads.receive(pieces(1), name="b.mp4")
        begun[0].cancel()
        await asyncio.gather(*begun[:1], return_exceptions=True)
        assert uploads.path(await uploads.receive(pieces(1), name="b.mp4")).is_file()
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)

    asyncio.run(many())


@pytest.mark.parametrize("token", [None, "", "../a", 7, ["a"]])
def test_what_is_no_token_has_no_file(token: object) -> None:
    with pytest.raises(VideoError):
        Uploads(100).path(token)


def test_what_is_lent_is_never_dropped(tmp_path: Path) -> None:
    uploads = Uploads(100)
    (tmp_path / "a.mp4").write_bytes(b"x")
    uploads.lend("example-0", tmp_path / "a.mp4")
    uploads.drop("example-0")
    assert uploads.path("example-0") == tmp_path / "a.mp4"
    uploads.close()
    assert not uploads.folder.exists()

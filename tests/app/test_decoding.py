"""What goes wrong in a process that decodes costs its own job, and another process takes its place."""

import asyncio
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from multiprocessing import process
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.app.decode_process import ClipsJob, VideoLimits
from m2clip.app.decoding import DecodePool, _Decoder
from m2clip.app.limits import LimitError, Limits
from m2clip.app.service import Service
from m2clip.data.clip_reader import ClipReader
from m2clip.data.sampling import ClipSampling
from m2clip.data.video import Video
from m2clip.errors import M2CLIPError, VideoError
from m2clip.recognizer import Recognizer
from tests.app.jobs import Crashing, Hanging, Hungry, Lying, Writing
from tests.small_inputs import moving_square, tiny_model, write_video

READERS = {"m": ClipReader(ClipSampling(frames=4), 32), "n": ClipReader(ClipSampling(frames=2), 16, views_temporal=3)}


def with_pool(work: Callable[[DecodePool], Awaitable[Any]], *, workers: int = 1, **limits: Any) -> Any:
    async def run() -> Any:
        pool = DecodePool(Limits(**limits), workers=workers)
        await pool.start()
        try:
            return await work(pool)
        finally:
            await pool.stop()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("decoding") / "v.mp4", moving_square(frames=24))


def test_clips_are_those_that_this_process_would_read(video: Path) -> None:
    read = with_pool(lambda pool: pool.read(video, READERS, name="v"))
    assert set(read.clips) == {"m", "n"}
    with Video(video) as opened:
        for name, reader in READERS.items():
            right = reader.read(opened)
            assert read.clips[name].pixels.equal(right.pixels)
            assert (read.clips[name].frame_indices == right.frame_indices).all()
            assert (read.clips[name].frame_seconds == right.frame_seconds).all()
        assert read.info.frame_count == opened.info.frame_count == 24
        assert (read.info.pts_seconds == opened.info.pts_seconds).all()


def test_a_temporary_folder_too_deep_for_a_socket(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.delitem(
        process.current_process()._config, "tempdir", raising=False
    )  # what multiprocessing found before
    assert with_pool(lambda pool: pool.read(video, READERS, name="v")).info.frame_count == 24


def test_a_picture_is_the_middle_frame_drawn_small(tmp_path: Path) -> None:
    pixels = np.zeros((12, 48, 64, 3), np.uint8)
    pixels[6, :, :, 1] = 200
    path = write_video(tmp_path / "a.mp4", pixels)
    (tmp_path / "b.mp4").write_bytes(b"no video")

    async def work(pool: DecodePool) -> Any:
        for wrong in (Crashing(path, "a"), Lying(path, "a")):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("m2clip.app.decoding.PictureJob", lambda *_, wrong=wrong: wrong)
                with pytest.raises(VideoError, match="cannot read a"):
                    await pool.picture(path, 32)
        assert pool.failures == 2
        with pytest.raises(VideoError, match=r"cannot read b\.mp4"):
            await pool.picture(tmp_path / "b.mp4", 32)
        drawn = await pool.picture(path, 32)
        assert pool.failures == 2
        return drawn

    picture = with_pool(work, most_seconds=0.5)  # of an upload; what the index holds may be longer
    assert (picture.shape, picture.dtype) == ((24, 32, 3), np.uint8)
    assert picture[12, 16, 1] > 150


async def one_after(pool: DecodePool, job: Any, video: Path) -> tuple[str, int]:
    """What a bad job says, and how many frames a good one after it has."""
    with pytest.raises(VideoError) as failed:
        async for _ in pool._parts(job):
            pass
    read = await pool.read(video, READERS, name="v")
    return str(failed.value), read.info.frame_count


@pytest.mark.parametrize(
    ("kind", "sentence", "lost"),
    [
        (Crashing, "cannot read holiday.mp4: the decoder crashed on it (ended by SIGSEGV); convert it", 1),
        (Hungry, "cannot read holiday.mp4: decoding it takes more memory than is allowed; make it smaller", 0),
        (Lying, "cannot read holiday.mp4: the process that decoded it gave no sensible answer; convert it", 1),
    ],
)
def test_what_ends_a_process_costs_its_own_job(kind: Any, sentence: str, lost: int, video: Path) -> None:
    async def work(pool: DecodePool) -> None:
        said, frames = await one_after(pool, kind(video, "holiday.mp4"), video)
        assert said.startswith(sentence)
        assert (frames, pool.failures, pool.ready) == (24, lost, 1)

    with_pool(work)


def test_a_job_that_hangs_is_ended(video: Path) -> None:
    async def work(pool: DecodePool) -> None:
        said, frames = await one_after(pool, Hanging(video, "holiday.mp4"), video)
        assert said == "cannot read holiday.mp4: decoding took longer than 4 s; make it shorter or smaller"
        assert frames == 24

    with_pool(work, decode_seconds=4.0)


def test_a_process_that_decodes_writes_no_file(tmp_path: Path) -> None:
    async def work(pool: DecodePool) -> list[Any]:
        return [document async for document, _ in pool._parts(Writing(tmp_path / "left", "v"))]  # type: ignore[arg-type]

    assert with_pool(work) == [{"refused": "OSError"}]


def test_whoever_gives_up_leaves_the_process_to_others(video: Path) -> None:
    async def work(pool: DecodePool) -> int:
        hanging = asyncio.ensure_future(anext(pool._parts(Hanging(video, "v"))))  # type: ignore[arg-type]
        while pool._free.qsize():
            await asyncio.sleep(0.01)
        waiting = asyncio.ensure_future(pool.read(video, READERS, name="v"))
        while not pool.waiting:
            await asyncio.sleep(0.01)
        hanging.cancel()
        return (await waiting).info.frame_count

    assert with_pool(work) == 24


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"most_seconds": 1.5}, "v is too large: it lasts 2.0 s; 1.5 s are allowed; cut it"),
        (
            {"most_pixels": 2000},
            "v is too large: its frames have 48 x 48 pixels; 2,000 in all are allowed; make them smaller",
        ),
        ({"most_frames": 23}, "v is too large: it has 24 frames; 23 are allowed; cut it"),
    ],
)
def test_a_video_that_is_too_large_is_refused(limits: dict[str, Any], sentence: str, video: Path) -> None:
    with pytest.raises(LimitError) as refused:
        with_pool(lambda pool: pool.read(video, READERS, name="v"), **limits)
    assert str(refused.value) == sentence


def test_messages_tell_the_clients_name_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"no video at all" * 100)
    with pytest.raises(VideoError) as failed:
        with_pool(lambda pool: pool.read(tmp_path / "secret", READERS, name="mine.mp4"))
    assert str(failed.value).startswith("cannot read mine.mp4: ")
    assert str(tmp_path) not in str(failed.value)


@pytest.mark.parametrize("error", [EOFError, RuntimeError])
def test_a_pool_that_does_not_start_leaves_no_process(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class OneFails(_Decoder):
        def receive(self) -> Any:
            started.append(self)
            if len(started) == 2:
                raise error("does not start")
            return super().receive()

    async def run() -> None:
        service = Service({"m": Recognizer(tiny_model(), web=None)}, workers=3)
        with pytest.raises(M2CLIPError if error is EOFError else error, match="does not start"):
            await service.start()
        assert not service.ready
        assert not service.thread.alive
        await service.stop()

    before = set(multiprocessing.active_children())
    monkeypatch.setattr("m2clip.app.decoding._Decoder", OneFails)
    asyncio.run(run())
    assert len(started) == 3
    assert set(multiprocessing.active_children()) <= before


def test_jobs_are_plain_data(video: Path) -> None:
    parts = list(ClipsJob(video, "v", VideoLimits(60.0, 10_000, 100), READERS).run())
    assert [next(iter(document)) for document, _ in parts] == ["reader", "reader", "frame_count"]


def test_a_process_that_ended_while_it_was_idle_costs_no_request(video: Path) -> None:
    async def work(pool: DecodePool) -> int:
        [pid] = pool.pids()
        os.kill(pid, signal.SIGKILL)
        while next(iter(pool._decoders)).child.lives:
            await asyncio.sleep(0.01)
        return (await pool.read(video, READERS, name="v")).info.frame_count

    assert with_pool(work) == 24


def test_a_process_that_has_done_enough_is_replaced(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2clip.app.decoding._MOST_JOBS", 2)

    async def work(pool: DecodePool) -> list[int]:
        seen = []
        for _ in range(5):
            seen += pool.pids()
            await pool.read(video, READERS, name="v")
            while not pool.ready:
                await asyncio.sleep(0.01)
        assert pool.failures == 0
        return seen

    a, b, c, d, e = with_pool(work)
    assert a == b != c == d != e

"""A pool of processes that decode uploads: a file that crashes, hangs or fills one costs its own request and nothing else."""

import asyncio
import json
import math
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2clip.apart import Child, StartMethod
from m2clip.app.decode_process import ClipsJob, Job, PictureJob, TimelineJob, VideoLimits, serve_decoding
from m2clip.app.limits import LimitError, Limits
from m2clip.data.clip_reader import ClipReader, ReadClips
from m2clip.data.steady_frames import SteadyFrames
from m2clip.data.timeline_reader import FrameWindow, TimelineReader, WindowClips, WindowedFrames
from m2clip.data.video import VideoInfo
from m2clip.errors import M2CLIPError, VideoError

_START_SECONDS = 120.0
_RETRY_SECONDS = 5.0
_LONGEST_TEMPORARY_PATH = 70  # bytes; multiprocessing puts /pymp-xxxxxxxx/listener-xxxxxxxx behind it
_MOST_JOBS = 100
"""That one process does. A decoder's memory goes to pieces with thousands of files of all sizes; a new process costs little."""
_MOST_DOCUMENT_BYTES = 1 << 20
_MOST_BLOCK_BYTES = 1 << 30
_DTYPES = ("uint8", "int64", "float64")


@dataclass(frozen=True)
class ReadVideo:
    """An upload that was decoded; what is asked of it later, with whatever labels and strength, needs no decoding again."""

    clips: Mapping[str, ReadClips]
    """By the name of the model that takes them."""
    info: VideoInfo


class DecodePool:
    """`workers` processes. `jobs` of one pool wait for a free one in the order in which they come."""

    def __init__(self, limits: Limits, *, workers: int = 1) -> None:
        self._limits, self._workers, self._start_method = limits, workers, _start_method()
        self._video_limits = VideoLimits(limits.most_seconds, limits.most_pixels, limits.most_frames)
        self._free: asyncio.Queue[_Decoder] = asyncio.Queue()
        self._decoders: set[_Decoder] = set()
        self._threads = ThreadPoolExecutor(workers, "decode")
        self._refills: set[asyncio.Task[None]] = set()
        self.failures = 0
        """Processes that crashed or were killed for being too slow."""
        self.waiting = 0
        """Jobs that have no process yet."""

    @property
    def ready(self) -> int:
        """How many processes are up."""
        return sum(decoder.is_ready for decoder in self._decoders)

    async def start(self) -> None:
        """Start the processes. M2CLIPError where one of them does not get ready; then none is left."""
        starting = [asyncio.create_task(self._add()) for _ in range(self._workers)]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all processes, whatever they do."""
        refills = [*self._refills]
        for task in refills:
            task.cancel()
        await asyncio.gather(*refills, return_exceptions=True)
        decoders, self._decoders = self._decoders, set()
        for decoder in decoders:
            decoder.child.kill()
        for decoder in decoders:
            await asyncio.to_thread(decoder.end)
        self._threads.shutdown(wait=True)

    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [pid for decoder in self._decoders if (pid := decoder.child.pid) is not None]

    async def read(self, upload: Path, readers: Mapping[str, ClipReader], *, name: str) -> ReadVideo:
        """Decode a file as each reader does; `name` stands in messages.

        VideoError for a file that cannot be read, that crashes the process or keeps it too long, LimitError for one that is too large.
        """
        clips: dict[str, ReadClips] = {}
        info = None
        async with aclosing(self._parts(ClipsJob(upload, name, self._video_limits, readers))) as parts:
            async for document, arrays in parts:
                if "reader" in document:
                    pixels, indices, seconds = arrays
                    clips[document["reader"]] = ReadClips(torch.from_numpy(pixels), indices, seconds)
                else:
                    info = VideoInfo(**document, pts_seconds=arrays[0])
        if info is None or set(clips) != set(readers):
            raise VideoError(f"cannot read {name}: the process that decoded it gave no whole answer")
        return ReadVideo(clips, info)

    async def read_timeline(
        self, upload: Path, reader: TimelineReader, *, name: str
    ) -> AsyncGenerator[WindowedFrames | WindowClips, None]:
        """What `reader` gives, chunk by chunk; the process waits while nobody takes them. Errors as of `read`."""
        job = TimelineJob(upload, name, self._video_limits, reader, self._limits.most_windows)
        async with aclosing(self._parts(job)) as parts:
            async for document, arrays in parts:
                if "spans" in document:
                    pixels, indices, seconds = arrays
                    clips = ReadClips(torch.from_numpy(pixels), indices, seconds)
                    yield WindowClips(tuple((start, end) for start, end in document["spans"]), clips)
                else:
                    pixels, seconds = arrays
                    windows = tuple(FrameWindow(*window) for window in document["windows"])
                    yield WindowedFrames(SteadyFrames(torch.from_numpy(pixels), seconds), windows)

    async def picture(self, path: Path, side: int) -> np.ndarray:
        """The middle frame of a video of any length, uint8 RGB [H, W, 3], `side` pixels long at most. Errors as of `read`."""
        limits = VideoLimits(math.inf, self._limits.most_pixels, sys.maxsize)
        async with aclosing(self._parts(PictureJob(path, path.name, limits, side))) as parts:
            drawn = [picture async for _, arrays in parts for picture in arrays]
        if len(drawn) != 1 or drawn[0].dtype != np.uint8 or drawn[0].ndim != 3 or drawn[0].shape[2] != 3:
            raise VideoError(f"cannot read {path.name}: the process that decoded it gave no picture")
        return drawn[0]

    async def _parts(self, job: Job) -> AsyncGenerator[tuple[dict[str, Any], list[np.ndarray]], None]:
        """What a process makes of a job. VideoError for a file that cannot be read, or ends the process or takes too long."""
        self.waiting += 1
        try:
            decoder = await self._free.get()
            while not decoder.child.lives:  # it ended while it had nothing to do, which is no fault of this file
                self._replace(decoder, failed=True)
                decoder = await self._free.get()
        finally:
            self.waiting -= 1
        done = False
        try:
            left = self._limits.decode_seconds
            loop = asyncio.get_running_loop()
            decoder.give(job)
            while True:
                started = loop.time()
                try:
                    async with asyncio.timeout(left):
                        message, arrays = await loop.run_in_executor(self._threads, decoder.receive)
                except TimeoutError:
                    raise VideoError(
                        f"cannot read {job.name}: decoding took longer than {self._limits.decode_seconds:g} s; "
                        "make it shorter or smaller"
                    ) from None
                except ValueError:
                    raise VideoError(
                        f"cannot read {job.name}: the process that decoded it gave no sensible answer; convert it"
                    ) from None
                except (EOFError, OSError):
                    ending = await asyncio.to_thread(decoder.child.ending)
                    raise VideoError(
                        f"cannot read {job.name}: the decoder crashed on it ({ending}); convert it"
                    ) from None
                left -= loop.time() - started
                if "end" in message:
                    done = True
                    return
                if "error" in message:
                    done = True
                    kind, sentence = message["error"]
                    if kind == "limit":
                        raise LimitError(f"{job.name} is too large: {sentence}")
                    raise VideoError(str(sentence))
                yield message["document"], arrays
        finally:
            decoder.jobs += 1
            if done and decoder.jobs < _MOST_JOBS:
                self._free.put_nowait(decoder)
            else:  # worn out, crashed, too slow, or nobody wants the rest any more
                self._replace(decoder, failed=not done)

    async def _add(self) -> None:
        decoder = None
        try:
            decoder = _Decoder(self._limits.decode_memory_bytes, self._start_method)
            self._decoders.add(decoder)
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._threads, decoder.receive)
        except BaseException as error:
            if decoder is not None:
                self._decoders.discard(decoder)
                decoder.end()
            if not isinstance(error, TimeoutError | EOFError | OSError | ValueError):
                raise
            raise M2CLIPError(
                "a process that decodes videos does not start; free some memory, or take fewer workers"
            ) from None
        decoder.is_ready = True
        self._free.put_nowait(decoder)

    def _replace(self, decoder: "_Decoder", *, failed: bool) -> None:
        if decoder not in self._decoders:  # the pool has stopped
            return
        self.failures += failed
        self._decoders.discard(decoder)
        decoder.child.kill()
        task = asyncio.create_task(self._refill(decoder))
        self._refills.add(task)
        task.add_done_callback(self._refills.discard)

    async def _refill(self, dead: "_Decoder") -> None:
        await asyncio.to_thread(dead.end)
        while True:
            try:
                return await self._add()
            except M2CLIPError:
                await asyncio.sleep(_RETRY_SECONDS)  # memory may be free again by then


class _Decoder:
    """One process and what it sends."""

    def __init__(self, memory_bytes: int, start: StartMethod) -> None:
        self.child = Child(serve_decoding, memory_bytes, start=start)
        self.is_ready = False
        self.jobs = 0
        self._receiving = threading.Lock()

    def give(self, job: Job) -> None:
        """Hand a job over. A process that has ended meanwhile shows when it is heard."""
        with suppress(OSError):
            self.child.connection.send(job)

    def receive(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The next message and its arrays. EOFError, OSError, ValueError where the process ends, or sends what it should not."""
        connection = self.child.connection
        with self._receiving:
            message = json.loads(connection.recv_bytes(_MOST_DOCUMENT_BYTES))
            arrays = []
            for dtype, shape in message.get("blocks", ()):
                if dtype not in _DTYPES:
                    raise ValueError(f"the dtype {dtype}")
                block = connection.recv_bytes(_MOST_BLOCK_BYTES)
                arrays.append(np.frombuffer(bytearray(block), dtype).reshape(shape))
            return message, arrays

    def end(self) -> None:
        """End the process. Nobody reads from the pipe any more when it is closed: its number may be another one's at once."""
        self.child.kill()
        with self._receiving:
            self.child.end()


def _start_method() -> StartMethod:
    """A server of forks has the libraries loaded once, so that a new process is there in milliseconds.

    It listens at a socket in the temporary folder, and a socket's path is short: 108 bytes on Linux, 104 on macOS.
    """
    too_deep = len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMPORARY_PATH
    if too_deep or "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["__main__", "m2clip.app.decode_process"])
    return "forkserver"

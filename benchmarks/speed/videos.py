"""Synthetic videos for measuring how they are read: textured things that move over a moving ground, with a camera's noise."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 30
NOISE = 7.0
"""Standard deviation of the noise, of 255: x264 at its usual quality then gives rates like those of videos on the web."""


def make_video(folder: Path, *, size: tuple[int, int], seconds: int, gop_frames: int) -> Path:
    """An h264 file with a key frame every `gop_frames` frames and no other; one that is there already is kept.

    Files of a minute and more repeat their first ten seconds (the packets are copied): to read a place in a file costs
    what it costs, whether or not the same was seen before.
    """
    width, height = size
    path = folder / f"{width}x{height}-{seconds}s-gop{gop_frames}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    unit = 10
    if seconds <= unit:
        _encode(partial, size=size, frames=FPS * seconds, gop_frames=gop_frames)
    else:
        _repeat(make_video(folder, size=size, seconds=unit, gop_frames=gop_frames), partial, seconds=seconds)
    return partial.rename(path)


def _encode(path: Path, *, size: tuple[int, int], frames: int, gop_frames: int) -> None:
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "23", "sc_threshold": "0", "g": str(gop_frames)}
        options["keyint_min"] = str(gop_frames)
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in _pictures(size, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _repeat(source: Path, target: Path, *, seconds: int) -> None:
    """Copy the packets of a file over and over, until there are so many seconds of them."""
    with av.open(str(target), "w") as container:
        out = None
        for turn in range(seconds // 10):
            with av.open(str(source)) as unit:
                stream = unit.streams.video[0]
                out = out or container.add_stream_from_template(stream)
                assert stream.time_base is not None
                shift = round(turn * 10 / stream.time_base)
                for packet in unit.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue  # the empty packet at the end
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = out
                    container.mux(packet)


def _pictures(size: tuple[int, int], frames: int) -> Iterator[NDArray[np.uint8]]:
    width, height = size
    rng = np.random.default_rng(0)
    ground = _texture(rng, height, width + 2 * frames, cells=24)
    things = [
        (_texture(rng, height // 4, height // 4, cells=6), rng.uniform(0.1, 0.5), rng.uniform(0, 6)) for _ in range(4)
    ]
    noise = [rng.normal(0, NOISE, (height, width, 3)).astype(np.float32) for _ in range(7)]  # drawing them is slow
    for t in range(frames):
        picture = ground[:, 2 * t : 2 * t + width].copy()
        for thing, speed, phase in things:
            side = len(thing)
            top = round((height - side) * (0.5 + 0.5 * np.sin(speed * t / 4 + phase)))
            left = round((width - side) * (0.5 + 0.5 * np.cos(speed * t / 5 + 2 * phase)))
            picture[top : top + side, left : left + side] = thing
        shifted = np.roll(noise[t % len(noise)], 13 * t, axis=(0, 1))
        yield (picture + shifted).clip(0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, height: int, width: int, *, cells: int) -> NDArray[np.float32]:
    """Smooth colours with some fine structure on them, float32 [H, W, 3] in 0..255."""
    coarse = rng.uniform(40, 215, (cells, cells, 3))
    rows, columns = np.linspace(0, cells - 1.001, height), np.linspace(0, cells - 1.001, width)
    r, c = rows.astype(int), columns.astype(int)
    v, h = (rows - r)[:, None, None], (columns - c)[None, :, None]
    above = coarse[r][:, c] * (1 - h) + coarse[r][:, c + 1] * h
    below = coarse[r + 1][:, c] * (1 - h) + coarse[r + 1][:, c + 1] * h
    stripes = 12 * np.sin(np.arange(width)[None, :, None] / 2.5 + np.arange(height)[:, None, None] / 4)
    return (above * (1 - v) + below * v + stripes).astype(np.float32)

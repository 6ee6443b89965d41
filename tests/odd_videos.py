"""Real video files with the oddities that files in the wild have, made when a test runs."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
_NOT_CODED = b"\x7f"  # what XviD writes in place of a picture that is in another packet
_VOP = b"\x00\x00\x01\xb6"  # starts an MPEG-4 picture
VP8 = {"g": "16", "deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "2M"}


def pattern(count: int, *, height: int = 48, width: int = 64) -> Pictures:
    """[T, H, W, 3]: a moving colour ramp, every picture another."""
    rows, columns = np.mgrid[:height, :width]
    pictures = [np.stack([columns * 3 + i * 5, rows * 4 + i * 2, rows * 0 + i * 2], axis=-1) for i in range(count)]
    return (np.stack(pictures) % 256).astype(np.uint8)


def greys(values: Iterable[int], *, height: int = 32, width: int = 48) -> Pictures:
    """[T, H, W, 3]: one plain grey a picture."""
    return np.stack([np.full((height, width, 3), value, np.uint8) for value in values])


def encode(
    path: Path,
    codec: str,
    pictures: Pictures,
    *,
    ticks: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    colour: tuple[int, int] | None = None,
    rate: int = 25,
) -> Path:
    """Write pictures [T, H, W, 3] to a container of the path's suffix; `ticks` are times in 1/rate s, `colour` is (matrix, range)."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pix_fmt
        if colour:
            stream.codec_context.colorspace, stream.codec_context.color_range = colour
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if colour:
                frame = frame.reformat(
                    format=pix_fmt, dst_colorspace=colour[0], src_color_range=2, dst_color_range=colour[1]
                )
            frame.pts = i if ticks is None else ticks[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def x264(**settings: object) -> dict[str, str]:
    """Options of add_stream for libx264."""
    return {"x264-params": ":".join(f"{name.replace('_', '-')}={value}" for name, value in settings.items())}


def packets_of(path: Path) -> list[bytes]:
    """The payload of every packet of the video stream."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def break_packet(path: Path, ordinal: int, change: Callable[[bytes], bytes]) -> None:
    """Write over one packet of a file, in place."""
    payload = packets_of(path)[ordinal]
    data = path.read_bytes()
    assert data.count(payload) == 1
    path.write_bytes(data.replace(payload, change(payload)))


def remux(source: Path, target: Path, payloads: Sequence[bytes], *, keys: Sequence[int] = (0,)) -> Path:
    """Write payloads as the packets of a stream that is described as in `source`, one a tick."""
    with av.open(str(source)) as model, av.open(str(target), "w") as container:
        template = model.streams.video[0]
        stream = container.add_stream_from_template(template)
        for i, payload in enumerate(payloads):
            packet = av.Packet(payload)
            packet.stream, packet.time_base = stream, 1 / template.average_rate
            packet.pts = packet.dts = i
            packet.is_keyframe = i in keys
            container.mux(packet)
    return target


def packed_avi(folder: Path, count: int) -> Path:
    """DivX "packed" AVI: a P and its B picture in one packet, a filler packet after it, two more fillers at the end."""
    plain = encode(folder / "plain.avi", "mpeg4", pattern(count), options={"bf": "1", "sc_threshold": "1000000000"})
    payloads: list[bytes] = []
    for payload in packets_of(plain):
        is_b = payload[payload.find(_VOP) + 4] >> 6 == 2
        payloads[-1:] = [payloads[-1] + payload, _NOT_CODED] if is_b else [*payloads[-1:], payload]
    first = payloads[0].find(_VOP)
    payloads[0] = payloads[0][:first] + b"\x00\x00\x01\xb2DivX503b1393p" + payloads[0][first:]
    return remux(plain, folder / "packed.avi", [*payloads, _NOT_CODED, _NOT_CODED])


def vp8_with_hidden_frames(folder: Path, count: int) -> Path:
    """VP8 whose every fifth picture is marked as not to be shown, as alternative reference frames are."""
    plain = encode(folder / "plain.webm", "libvpx", pattern(count), options=VP8)
    payloads = [bytes([data[0] & ~0x10]) + data[1:] if i % 5 == 4 else data for i, data in enumerate(packets_of(plain))]
    return remux(plain, folder / "hidden.webm", payloads, keys=range(0, count, 16))


def two_sizes(folder: Path, count: int) -> Path:
    """A stream of `count` pictures of 64x48 that goes on with as many of 96x64."""
    small = encode(folder / "small.webm", "libvpx-vp9", pattern(count), options={"cpu-used": "8"})
    large = encode(folder / "large.webm", "libvpx-vp9", pattern(count, height=64, width=96), options={"cpu-used": "8"})
    payloads = [*packets_of(small), *packets_of(large)]
    return remux(small, folder / "two_sizes.webm", payloads, keys=(0, len(payloads) // 2))


def with_display_matrix(path: Path, *, a: int, b: int, c: int, d: int) -> Path:
    """Set the display matrix of an mp4's first track: a stored pixel (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = (
        data.find(b"tkhd") + 44
    )  # after the name: 4 version and flags, 20 times and id, 16 reserved, layer, group, volume
    rows = ((a, b, 0), (c, d, 0), (0, 0, 1 << 14))  # 16.16 fixed point, the last column 2.30
    data[at : at + 36] = b"".join((value << 16).to_bytes(4, "big", signed=True) for row in rows for value in row)
    path.write_bytes(data)
    return path


def sequential(path: Path) -> list[Pictures]:
    """Every picture, as decoding the whole file from its start gives it, until the data breaks."""
    pictures: list[Pictures] = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        try:
            for frame in container.decode(video=0):
                pictures.append(
                    np.rot90(frame.to_ndarray(format="rgb24", interpolation="BICUBIC"), round(frame.rotation / 90))
                )
        except av.FFmpegError:
            pass
    return pictures


def without_frames(path: Path) -> Path:
    """An AVI whose header tells of a video, and which ends where its frames would begin."""
    whole = encode(path, "mpeg4", pattern(3)).read_bytes()
    path.write_bytes(whole[: whole.index(b"movi") + 4])
    return path

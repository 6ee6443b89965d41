"""Live sources of the tests' own, on this machine only: streams whose pictures say their own number, over HTTP and RTSP."""

import contextlib
import io
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import av
import numpy as np

from tests.web_server import Answer

RATE = 25
STEP = 4  # picture n is all n * STEP
TS_PACKET_BYTES = 188


def grey(level: int, size: tuple[int, int] = (64, 48)) -> av.VideoFrame:
    """A picture of one colour, width x height."""
    return av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), format="rgb24")


def transport_stream(count: int, *, first: int = 0, size: tuple[int, int] = (64, 48), step: int = STEP) -> bytes:
    """MPEG-TS of pictures `first` to `first` + `count` - 1 at 25 a second, shown at their number / 25 seconds."""
    content = io.BytesIO()
    with av.open(content, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "5", "tune": "zerolatency"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(first, first + count):
            picture = grey(step * number % 256, size)
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return content.getvalue()


def number(level: float, step: int = STEP) -> int:
    """The number of the picture that has this mean."""
    return round(level / step)


def sending(
    *parts: bytes | Callable[[threading.Event], object], kind: str = "video/mp2t", seconds_each: float = 0.0
) -> Answer:
    """Sends the parts one after another and then ends; a function among them is called, and may wait for the event."""

    def answer(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        for part in parts:
            if over.is_set():
                return
            if callable(part):
                part(over)
                continue
            handler.wfile.write(part)
            handler.wfile.flush()
            over.wait(seconds_each)

    return answer


def in_pieces(data: bytes, count: int) -> list[bytes]:
    """The data cut into about so many pieces of whole packets of MPEG-TS."""
    length = max(1, len(data) // TS_PACKET_BYTES // count) * TS_PACKET_BYTES
    return [data[start : start + length] for start in range(0, len(data), length)]


def silence(over: threading.Event) -> None:
    """A source that keeps its connection and sends nothing more."""
    over.wait()


def motion_jpeg(count: int, *, seconds_each: float) -> Answer:
    """Pictures one by one, as cameras with a web page of their own send them."""
    parts = []
    for n in range(count):
        content = io.BytesIO()
        with av.open(content, "w", format="image2pipe") as container:
            stream = container.add_stream("mjpeg", rate=RATE)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p"
            container.mux(stream.encode(grey(STEP * n % 256)))
            container.mux(stream.encode())
        head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {content.tell()}\r\n\r\n"
        parts.append(head.encode() + content.getvalue() + b"\r\n")
    return sending(*parts, kind="multipart/x-mixed-replace; boundary=cut", seconds_each=seconds_each)


@contextlib.contextmanager
def rtsp_serving(data: bytes, *, seconds: float, ends: bool = True) -> Iterator[str]:
    """The address of an RTSP server that sends MPEG-TS as RTP (RFC 2250) inside of its connection, over so many seconds.

    It then ends the connection, or keeps it and is silent.
    """
    over = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while request := self._request():
                    self._answer(*request)

        def _request(self) -> tuple[str, str] | None:
            lines = []
            while (line := self.rfile.readline().decode().strip()) or not lines:
                if not line:
                    return None
                lines.append(line)
            number = next(line for line in lines if line.lower().startswith("cseq:"))
            return lines[0].split()[0], number

        def _answer(self, method: str, number: str) -> None:
            head, body = "Session: 1\r\n", ""
            if method == "OPTIONS":
                head = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                body += "m=video 0 RTP/AVP 33\r\na=control:video\r\n"  # 33: MPEG-TS
                head = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            self.wfile.write(f"RTSP/1.0 200 OK\r\n{number}\r\n{head}\r\n{body}".encode())
            if method == "PLAY":
                pieces = in_pieces(data, max(1, len(data) // (7 * TS_PACKET_BYTES)))
                for n, piece in enumerate(pieces):
                    packet = struct.pack(">BBHII", 0x80, 33, n, round(90_000 * seconds * n / len(pieces)), 1) + piece
                    self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
                    time.sleep(seconds / len(pieces))
                if not ends:
                    over.wait()
                raise BrokenPipeError  # ends the connection

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"rtsp://user:secret@127.0.0.1:{server.server_address[1]}/camera"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()

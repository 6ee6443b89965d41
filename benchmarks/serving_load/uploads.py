"""The requests of the load, and what each should be answered."""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from m2clip.data.video import Video
from m2clip.errors import M2CLIPError

MOST_MB = 8
LABELS = ["a person waving", "two people fighting", "someone running", "a person jumping", "playing an instrument"]
SUFFIXES = {".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"}
BORDER = "the-border-between-parts"


@dataclass(frozen=True)
class Upload:
    """A request and the status that it should be answered with."""

    kind: str
    route: str
    status: int
    name: str
    content: bytes
    fields: tuple[tuple[str, str], ...] = ()
    leaves: bool = False
    """The client closes the connection after half of it."""

    def body(self) -> bytes:
        parts = [
            f'--{BORDER}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
            for name, text in self.fields
        ]
        head = f'--{BORDER}\r\nContent-Disposition: form-data; name="file"; filename="{self.name}"\r\n\r\n'
        return b"".join([*parts, head.encode(), self.content, f"\r\n--{BORDER}--\r\n".encode()])


def make_videos(folder: Path) -> None:
    """Some small videos, where none are given."""
    rng = np.random.default_rng(0)
    for number, (width, height, count) in enumerate([(320, 240, 100), (176, 144, 250), (640, 360, 60)]):
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, width=width, height=height, pix_fmt="yuv420p")
            ground = rng.integers(0, 255, (height, width, 3), np.uint8)
            for t in range(count):
                picture = np.roll(ground, 3 * t, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def is_readable(path: Path) -> bool:
    try:
        with Video(path, web=None) as video:
            video.frames([0, video.info.frame_count // 2])
    except M2CLIPError:
        return False
    return True


def uploads_of(folder: Path) -> tuple[list[Upload], list[Upload]]:
    """Good ones and bad ones."""
    good, bad = [], []
    names = (("labels", json.dumps(LABELS)),)
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        if path.stat().st_size > MOST_MB * 2**20:
            continue
        content = path.read_bytes()
        if not is_readable(path):
            bad.append(Upload("bad: video that cannot be read", "classify", 422, path.name, content, names))
            continue
        good += [Upload("good: classify", "classify", 200, path.name, content, names)] * 3
        good.append(Upload("good: embed", "embed", 200, path.name, content))
        steps = (*names, ("step_seconds", "0.5"))
        good.append(Upload("good: timeline", "timeline", 200, path.name, content, steps))
        bad.append(Upload("leaves in the middle", "classify", 0, path.name, content, names, leaves=True))
        bad.append(Upload("bad: cut video", "classify", 422, path.name, content[:64], names))
    rng = np.random.default_rng(0)
    some = good[0].content
    others = [
        Upload("bad: text", "classify", 422, "x.mp4", b"no video at all\n" * 1000, names),
        Upload("bad: noise", "timeline", 422, "x.avi", rng.bytes(1 << 20), names),
        Upload("bad: empty", "embed", 422, "x.mkv", b""),
        Upload("bad: playlist", "classify", 422, "x.m3u8", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", names),
        Upload("too large: file", "classify", 413, "x.mp4", bytes(MOST_MB * 2**20 + 1), names),
        Upload(
            "too large: labels",
            "classify",
            413,
            "x.mp4",
            some,
            (("labels", json.dumps([str(k) for k in range(1001)])),),
        ),
        Upload("wrong field", "classify", 422, "x.mp4", some, (("top", "many"),)),
    ]
    return good, bad + others * max(1, len(bad) // (2 * len(others)))

"""A ten-minute video of 1920x1080 in evaluation: how much memory its reading takes, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.odd_videos import x264

MOST_MIB = (
    200  # beside what is there before anything is read: PyTorch's own libraries take 200 to 570 MiB by how it was built
)
SECONDS, RATE = 600, 30

READ = """
import json, sys
from pathlib import Path
from m2clip.data.dataset import Item, VideoDataset
from m2clip.data.manifest import Manifest, Sample

def most_resident_mib():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

manifest = Manifest((Sample(Path(sys.argv[1]), 0),), ("a",), (), "here", "0" * 64)
dataset = VideoDataset(
    manifest, frames=16, size=224, mean=(0.5,) * 3, std=(0.5,) * 3, train=False, views_temporal=4, views_spatial=3
)
before = most_resident_mib()
item = dataset[0]
assert isinstance(item, Item), item
print(json.dumps({"shape": list(item.pixels.shape), "before": before, "most": most_resident_mib()}))
"""


def long_video(path: Path, *, group: int) -> Path:
    """Ten minutes of 1920x1080: one group of pictures with one key frame, whose packets are written again and again."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"preset": "ultrafast", **x264(keyint=10_000, qp=40)}
        )
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        packets = []
        for i in range(group):
            frame = av.VideoFrame.from_ndarray(np.full((1620, 1920), 16 + i % 200, np.uint8), format="yuv420p")
            frame.pts = i
            packets += stream.encode(frame)
        packets += stream.encode()
        payloads = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for i in range(SECONDS * RATE):
            payload, is_key = payloads[i % group]
            packet = av.Packet(payload)
            packet.stream, packet.time_base, packet.is_keyframe = stream, stream.codec_context.time_base, is_key
            packet.pts = packet.dts = i
            container.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.case("D14")
def test_ten_minutes_in_evaluation(tmp_path: Path) -> None:
    path = long_video(tmp_path / "long.mp4", group=100)
    child = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["shape"] == [12, 16, 3, 224, 224]
    assert found["most"] - found["before"] < MOST_MIB, found
    print(found)

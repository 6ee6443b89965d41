"""Memory of the processes that read: five epochs over two hundred files leave it as it was."""

import json
import multiprocessing
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from m2clip.data.dataset import VideoDataset
from m2clip.data.loading import make_loader
from m2clip.data.manifest import Manifest, Sample
from tests.small_inputs import moving_square

KINDS = (("libx264", "mp4"), ("mpeg4", "avi"), ("libx264", "mkv"), ("libvpx", "webm"), ("gif", "gif"))
FILES, EPOCHS = 200, 5


def write(path: Path, codec: str, *, shift: int) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(12))
        stream.height = stream.width = 48
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for picture in moving_square(frames=16, shift=shift):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def many_files(folder: Path) -> Manifest:
    """Five kinds of files in equal shares; each tenth is cut, each twentieth has broken bytes in its middle, a few are empty."""
    contents = [
        (write(folder / f"{codec}{shift}.{suffix}", codec, shift=shift), suffix)
        for codec, suffix in KINDS
        for shift in range(4)
    ]
    paths = []
    for number in range(FILES):
        content, suffix = contents[number % len(contents)]
        if number % 10 == 7:
            content = content[: len(content) * 8 // 10]
        elif number % 20 == 11:
            middle = len(content) // 2
            content = content[:middle] + bytes(200) + content[middle + 200 :]
        elif number % 50 == 3:
            content = b""
        paths.append(folder / f"{number}.{suffix}")
        paths[-1].write_bytes(content)
    samples = tuple(Sample(path, 0, where=f"list.txt:{n + 1}") for n, path in enumerate(paths))
    return Manifest(samples, ("one",), (), "list.txt", "0" * 64)


def kilobytes(pid: int | str) -> tuple[int, int]:
    """Resident memory of a process, and the part of it that no other has."""
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    sizes = {words[0]: int(words[1]) for words in lines}
    return sizes["Rss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def main(folder: str) -> None:
    """Read the files for all epochs, and print the memory of this process and of both workers after each of them."""
    dataset = VideoDataset(
        many_files(Path(folder)),
        frames=8,
        size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        train=True,
        recipe="something",
    )
    before = set(multiprocessing.active_children())
    memory = []
    with make_loader(dataset, batch_size=8, workers=2, shuffle=True) as loader:
        for epoch in range(EPOCHS):
            dataset.set_epoch(epoch)
            met = sum(len(batch.labels) + len(batch.bad) for batch in loader)
            assert met == FILES
            workers = sorted(child.pid or 0 for child in set(multiprocessing.active_children()) - before)
            assert len(workers) == 2
            memory.append([kilobytes(pid) for pid in (os.getpid(), *workers)])
    print(json.dumps(memory))


@pytest.mark.slow
@pytest.mark.case("D14")
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_five_epochs_over_two_hundred_files_are_flat(tmp_path: Path) -> None:
    """In a program of its own: workers that are forked from a process with a large heap copy more of it the longer they live."""
    program = "import sys; from tests.data.test_loader_memory import main; main(sys.argv[1])"
    command = [sys.executable, "-c", program, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr
    memory = json.loads(run.stdout)
    assert len(memory) == EPOCHS
    for process in range(3):
        # What the first process has alone grows without its having more: whatever a worker writes to is no longer shared with it.
        # A worker's own part (150 MB) grows by up to 8 MB once, whenever it happens to get what needs most; 15 MB in three epochs
        # would be 50 KB a file.
        for kind, most in enumerate((1.05, 1.1) if process else (1.05,)):
            later = [epoch[process][kind] for epoch in memory[1:]]
            assert max(later) <= most * later[0], (process, kind, later)

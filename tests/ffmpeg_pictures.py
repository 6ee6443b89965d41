"""Pictures as FFmpeg's own program gives them: another way from the same file, and another build of the library."""

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from tests.odd_videos import Pictures


def ffmpeg_pictures(
    path: Path, *, size: tuple[int, int], ranks: Collection[int] | None = None, chroma_left: bool = False
) -> tuple[int, dict[int, Pictures]]:
    """How many pictures there are, and those of these ranks (None: all), each [H, W, 3]; `size` is (width, height).

    The program turns pictures by their display matrix, as a player does, and here it neither drops nor repeats any.
    `chroma_left`: place the colour of 4:2:0 pictures where the file says it lies; versions before 7 put it in the middle
    wherever they interpolate it, which they do for more than 8 bits. Skips the test where there is no such program.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not on the PATH")
    command = [program, "-v", "quiet", "-nostdin", "-i", f"file:{path}", "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-vf", "scale=in_h_chr_pos=0"] if chroma_left else []
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    picture_bytes = 3 * size[0] * size[1]
    found: dict[int, Pictures] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count = 0
        while len(content := process.stdout.read(picture_bytes)) == picture_bytes:
            if ranks is None or count in ranks:
                found[count] = np.frombuffer(content, np.uint8).reshape(size[1], size[0], 3)
            count += 1
    return count, found

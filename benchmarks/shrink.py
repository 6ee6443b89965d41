"""Write small copies of the videos of a list, for quick training on a CPU: `python benchmarks/shrink.py LIST ROOT OUT [--side 80]`.

Every frame is kept, in order; the short side becomes `--side` pixels (an even number, as H.264 wants it; the other side
keeps the shape of the picture). OUT gets the videos under their names in the list, ending in .mp4, and the list itself.
"""

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from m2clip.builtin.shapes import write_video
from m2clip.data.video import Video


def shrink(source: Path, target: Path, *, side: int) -> None:
    """One video. Frames are resized antialiased, as in training."""
    with Video(source) as video:
        height, width = video.info.height, video.info.width
        factor = side / min(height, width)
        size = [2 * round(factor * length / 2) for length in (height, width)]
        frames = torch.from_numpy(video.frames(np.arange(video.info.frame_count))).permute(0, 3, 1, 2)
        small = F.resize(frames, size, antialias=True).permute(0, 2, 3, 1).contiguous().numpy()
        fps = Fraction(video.info.fps).limit_denominator(1001)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, small, fps=fps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="lines `path label`")
    parser.add_argument("root", type=Path, help="the folder that its paths are relative to")
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=80)
    options = parser.parse_args()
    lines = []
    for line in options.list.read_text(encoding="utf-8").splitlines():
        path, label = line.rsplit(" ", 1)
        small = Path(path).with_suffix(".mp4")
        shrink(options.root / path, options.out / small, side=options.side)
        lines.append(f"{small} {label}\n")
    (options.out / options.list.name).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

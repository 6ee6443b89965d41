"""What many tests need: a tiny random CLIP and small real video files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from m2clip.config import BackboneConfig

TINY = BackboneConfig(
    image_size=32, patch_size=16, vision_width=32, vision_layers=2, vision_heads=2,
    embed_dim=24, text_width=32, text_layers=2, text_heads=2,
)  # fmt: skip


def tiny_model(class_names: Sequence[str] = (), *, seed: int = 0, **options: Any) -> Any:
    """A fresh M2CLIP with random weights of the sizes TINY."""
    import torch

    from m2clip import create

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create(TINY, class_names=tuple(class_names), **options)


def moving_square(*, frames: int = 12, side: int = 48, shift: int = 0) -> NDArray[np.uint8]:
    """[T, H, W, 3] uint8: a white square that wanders over a coloured ground; `shift` makes another video."""
    pixels = np.zeros((frames, side, side, 3), np.uint8)
    pixels[..., shift % 3] = 40 + 20 * (shift % 8)
    for t in range(frames):
        left = (3 * t + 7 * shift) % (side - 12)
        pixels[t, 10:22, left : left + 12] = 255
    return pixels


def write_video(path: Path, pixels: NDArray[np.uint8], *, rate: int = 12) -> Path:
    """Write frames [T, H, W, 3] as an mp4 (or whatever the suffix says) and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if path.suffix == ".mp4" else "mpeg4", rate=rate)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """Write an mp4 that has sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def class_folders(root: Path, names: Sequence[str], *, each: int = 2) -> Path:
    """A data set of the form folder per class."""
    for k, name in enumerate(names):
        for i in range(each):
            write_video(root / name / f"{i}.mp4", moving_square(shift=each * k + i))
    return root

"""A manifest of five small videos, and the settings with which tests take clips from it."""

from pathlib import Path

from m2clip.data.manifest import Manifest, Sample
from tests.small_inputs import moving_square, write_video

SETTINGS = {"frames": 4, "size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "seed": 3}


def listed(*samples: Sample) -> Manifest:
    return Manifest(samples, ("one", "two"), (), "list.txt", "0" * 64)


def five_videos(folder: Path) -> Manifest:
    """Every video another; lines 1 to 5 of a list, of two classes in turn."""
    paths = [write_video(folder / f"{i}.mp4", moving_square(shift=i)) for i in range(5)]
    return listed(*(Sample(path, i % 2, where=f"list.txt:{i + 1}") for i, path in enumerate(paths)))

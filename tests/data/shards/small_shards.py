"""Small tar files of members with any content, for tests of what reads shards."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from m2clip.data.dataset import VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.samples import Samples
from tests.small_inputs import moving_square, write_video

Members = Mapping[str, bytes] | Sequence[tuple[str, bytes]]


def write_tar(path: Path, members: Members, *, form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar file of these members; several may have one name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def small_videos(folder: Path, count: int) -> Manifest:
    """Real videos of two classes, listed."""
    paths = [write_video(folder / f"{n}.mp4", moving_square(frames=8, side=32, shift=n)) for n in range(count)]
    samples = tuple(Sample(path, n % 2, where=f"list.txt:{n + 1}") for n, path in enumerate(paths))
    return Manifest(samples, ("one", "two"), (), str(folder / "list.txt"), "0" * 64)


def dataset_of(samples: Samples, *, train: bool = True, cache: FrameCache | None = None) -> VideoDataset:
    """Small clips of samples of two classes."""
    manifest = Manifest(samples, ("one", "two"), (), "somewhere", "0" * 64)
    settings = {"frames": 4, "size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "seed": 3}
    return VideoDataset(manifest, train=train, flip=train, cache=cache, **settings)  # type: ignore[arg-type]

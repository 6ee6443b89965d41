"""A manifest becomes clips, and several of them a batch; a file that cannot be read becomes a BadFile, never another clip.

Every random number of a clip comes from (seed, epoch, index), so it is the same for any number of workers and processes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from m2clip.data.clip_reader import ClipReader
from m2clip.data.frame_cache import FrameCache
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.parts import Part, part_between
from m2clip.data.places import Place
from m2clip.data.sampling import ClipSampling
from m2clip.data.transforms import PixelStatistics, TrainTransform
from m2clip.data.video import Video
from m2clip.errors import ConfigError, VideoError

MOST_LOST = 0.5  # a video that has lost more of its frames than it has left may show anything


@dataclass(frozen=True)
class BadFile:
    """A sample whose video cannot be read."""

    path: Place
    where: str
    """The manifest's line that lists it."""
    reason: str
    """The whole sentence, with the file's name."""
    index: int
    """Position in the manifest."""
    crashed: bool = False
    """Whether it ended the process that read it, or kept it for too long."""


@dataclass(frozen=True)
class DamagedFile:
    """A sample whose video can be read, but for frames that damage has taken."""

    path: Place
    where: str
    """The manifest's line that lists it."""
    lost_share: float
    """Lost frames as a share of those that the file promises, 0..1."""
    index: int
    """Position in the manifest."""

    @property
    def lost_percent(self) -> str:
        """The lost share in words."""
        return f"{100 * self.lost_share:.1f} %"


@dataclass(frozen=True)
class Item:
    """One sample: a clip a view."""

    pixels: Tensor
    """uint8 [V, T, 3, H, W]; views run temporal first."""
    label: int
    index: int
    """Position in the manifest."""
    statistics: PixelStatistics
    damage: DamagedFile | None = None

    @property
    def clip(self) -> Tensor:
        """float32 [V, T, 3, H, W], normalised."""
        return self.statistics.normalize(self.pixels)


@dataclass(frozen=True)
class Batch:
    """B readable samples and the files that could not be read; B may be 0."""

    pixels: Tensor
    """uint8 [B, V, T, 3, H, W]: a quarter of what workers would hand over and a GPU would be sent as float32. Or, without
    `statistics`, float32 that is normalised already."""
    labels: Tensor
    """int64 [B]."""
    indices: Tensor
    """int64 [B]: positions in the manifest."""
    bad: tuple[BadFile, ...] = ()
    statistics: PixelStatistics | None = None
    damaged: tuple[DamagedFile, ...] = ()
    """Those of the readable samples whose videos have lost frames."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 6 or not len(self.pixels) == len(self.labels) == len(self.indices):
            shapes = [tuple(tensor.shape) for tensor in (self.pixels, self.labels, self.indices)]
            raise ValueError(f"a batch needs clips [B, V, T, 3, H, W], labels [B] and indices [B], not {shapes}")
        if self.pixels.dtype == torch.uint8 and self.statistics is None:
            raise ValueError("a batch of uint8 pixels needs the statistics that normalise them")

    @property
    def clips(self) -> Tensor:
        """float32 [B, V, T, 3, H, W], normalised, where the pixels are; made anew each time."""
        return self.pixels if self.statistics is None else self.statistics.normalize(self.pixels)

    def take(self, rows: Tensor) -> Self:
        """The samples in these rows, int64 [M], in this order and as often as they are named; bad and damaged files stay behind."""
        return replace(
            self, pixels=self.pixels[rows], labels=self.labels[rows], indices=self.indices[rows], bad=(), damaged=()
        )

    def view(self, number: int, *, device: torch.device) -> Tensor:
        """The clips of one view, float32 [B, T, 3, H, W], normalised on this device. It is not waited for."""
        pixels = self.pixels[:, number].to(device, non_blocking=True)
        return pixels if self.statistics is None else self.statistics.normalize(pixels)


class VideoDataset(Dataset[Item | BadFile]):
    """The samples of a manifest as clips.

    `train`: one random clip a sample, augmented by `recipe` and, with `flip`, mirrored at random. Otherwise
    `views_temporal` x `views_spatial` fixed views. `frames` to `clip_seconds` are those of `ClipSampling`. `size` in pixels,
    `mean` and `std` in 0..1. With a `cache`, frames are decoded once and taken from there afterwards. A video that has lost more
    than the share `most_lost` of its frames to damage is bad.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        frames: int,
        stride_frames: int = 0,
        fps: float | None = None,
        clip_seconds: float | None = None,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        train: bool,
        recipe: Literal["kinetics", "something"] = "kinetics",
        flip: bool = False,
        views_temporal: int = 1,
        views_spatial: int = 1,
        seed: int = 0,
        cache: FrameCache | None = None,
        most_lost: float = MOST_LOST,
    ) -> None:
        self.manifest = manifest
        self.sampling = ClipSampling(frames, stride_frames, fps, clip_seconds)
        self.size = size
        self.statistics = PixelStatistics(tuple(mean), tuple(std))
        self.views_temporal, self.views_spatial = (1, 1) if train else (views_temporal, views_spatial)
        self.seed = seed
        self._cache, self._most_lost = cache, most_lost
        self._augment = TrainTransform(size=size, recipe=recipe, flip=flip, mean=mean) if train else None
        self.epoch = 0
        """The epoch that the random numbers belong to; workers are told it with each sample."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch."""
        self.epoch = epoch

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Shape of an item's clip, (V, T, 3, H, W)."""
        return (self.views_temporal * self.views_spatial, self.sampling.frames, 3, self.size, self.size)

    def __len__(self) -> int:
        return len(self.manifest.samples)

    def sample(self, index: int) -> Sample:
        """The sample that an index stands for."""
        return self.manifest.samples[index]

    def __getitem__(self, index: int) -> Item | BadFile:
        sample = self.sample(index)
        try:
            return self._item(sample, index)
        except VideoError as error:
            return BadFile(sample.path, sample.where, str(error), index)
        except MemoryError:
            reason = f"{sample.path} cannot be read: its frames need more memory than there is"
            return BadFile(sample.path, sample.where, reason, index)

    def _item(self, sample: Sample, index: int) -> Item:
        with self._opened(sample) as (video, part):
            self._lost_share(video)  # what is mostly lost need not be decoded
            pixels = self.clips_of(video, part, index)
            lost = self._lost_share(video)  # some damage shows only in the pictures
        damage = DamagedFile(sample.path, sample.where, lost, index) if lost else None
        return Item(pixels, sample.label, index, self.statistics, damage)

    def _lost_share(self, video: Video) -> float:
        """The share of the video's frames that damage has taken. Raises VideoError where it is more than may be."""
        info = video.info
        if info.lost_share > self._most_lost:
            raise VideoError(
                f"{video.name} has lost {info.lost_frames} of its {info.frame_count + info.lost_frames} frames to damage, a share of "
                f"{info.lost_share:.2f}, and most_lost allows {self._most_lost:g}"
            )
        return info.lost_share

    @contextmanager
    def _opened(self, sample: Sample) -> Iterator[tuple[Video, Part]]:
        """The sample's video, and its part of it."""
        frames = self._cache.frames(sample) if self._cache else None
        if frames is None:
            with Video(sample.path) as video:
                part = part_of(video, sample)
                keep = self._cache and not video.info.lost_frames  # what is kept does not say that frames are lost
                frames = self._cache.keep(sample, part) if self._cache and keep else None
                if frames is None:
                    yield video, part
                    return
        with Video(frames.pixels) as video:
            yield video, frames.part

    def frames_of(self, part: Part, index: int) -> np.ndarray:
        """The frames of the video that the sample of this index takes, int64 [temporal views, T]."""
        return self._frames_of(part, self._random(index))

    def _random(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, index))

    def _frames_of(self, part: Part, rng: np.random.Generator) -> np.ndarray:
        if self._augment is None:
            return part.test_indices(self.sampling, self.views_temporal)
        return part.train_indices(self.sampling, rng)[None]

    def clips_of(self, video: Video, part: Part, index: int) -> Tensor:
        """The clips of the sample of this index, uint8 [V, T, 3, H, W]."""
        if self._augment is None:
            reader = ClipReader(self.sampling, self.size, self.views_temporal, self.views_spatial)
            return reader.read(video, [part]).pixels[0]
        rng = self._random(index)
        chosen = self._frames_of(part, rng).flatten()
        info = video.info
        drawn = self._augment.draw(info.height, info.width, seed=int(rng.integers(2**63)))
        return drawn.finish(video.frames(chosen, each=drawn.cut))[None]


def part_of(video: Video, sample: Sample) -> Part:
    """The sample's part of its video."""
    info = video.info
    times = {"start_seconds": sample.start_seconds, "end_seconds": sample.end_seconds}
    try:
        return part_between(info.pts_seconds, info.duration_seconds, **times)
    except ConfigError as error:  # the times are one sample's fault, not the whole run's
        raise VideoError(f"{video.name}: {error}") from None

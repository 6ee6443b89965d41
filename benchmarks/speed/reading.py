"""Reading videos against the naive ways: decode and resize everything, or decode everything in order. One thread, as in a worker."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from m2clip.config.model import CLIP_MEAN, CLIP_STD
from m2clip.data.dataset import Item, VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.manifest import Manifest, Sample
from m2clip.data.sampling import spatial_corners, test_indices
from m2clip.data.video import Video
from speed.timing import Case, alternate
from speed.videos import FPS, make_video
from speed.workload import Workload

VIEWS_TEMPORAL, VIEWS_SPATIAL, STRIDE_FRAMES = 3, 4, 16
GOPS = (30, 250)
SETTLED_SECONDS = 3.0  # the packets of a file that changed just now are not kept


def measure(workload: Workload, folder: Path) -> dict[str, Any]:
    """Seconds for a test item with its views, for a clip's frames of a larger file, and for those of a long one."""
    torch.set_num_threads(1)
    rounds = 2 * workload.rounds - 1
    seconds, ratios = {}, {}

    def compare(what: str, yardstick: tuple[str, Case], cases: dict[str, Case]) -> None:
        found = alternate({**cases, yardstick[0]: yardstick[1]}, rounds=rounds)
        seconds.update({f"{case}, {what}": value for case, value in found.document().items()})
        ratios.update({f"{case} / {yardstick[0]}, {what}": found.ratio(case, yardstick[0]) for case in cases})

    short = make_video(folder, size=workload.small_video, seconds=workload.short_seconds, gop_frames=250)
    dataset, chosen = test_item(workload, short)
    naive = ("everything in float32", lambda: everything_in_float32(workload, short, chosen))
    compare("test item, normalised", naive, {"ours": lambda: our_clips(dataset)})
    naive = ("resizing everything", lambda: resize_everything(workload, short, chosen))
    compare("test item", naive, {"ours": lambda: our_item(dataset)})

    with TemporaryDirectory() as kept:
        frames = FrameCache(kept, most_bytes=2**30)
        cached, decoded = (_dataset(workload, short, train=True, cache=cache) for cache in (frames, None))
        decoding = ("decoding", lambda: our_item(decoded))
        compare("training item", decoding, {"data.cache": lambda: our_item(cached)})  # the warm-up fills it

    for gop in GOPS:
        path = make_video(folder, size=workload.large_video, seconds=workload.middle_seconds, gop_frames=gop)
        ours = _some_frames_of(workload, path)
        naive = ("decoding everything", lambda path=path: decode_all(path))
        compare(f"{workload.middle_seconds} s, GOP {gop}", naive, {"ours": first_time(ours), "ours again": ours})

    for gop in GOPS:
        few, many = (
            _some_frames_of(workload, make_video(folder, size=workload.small_video, seconds=length, gop_frames=gop))
            for length in (workload.short_seconds, workload.long_seconds)
        )
        time.sleep(SETTLED_SECONDS)
        cases = {"ours": first_time(many), "ours again": many}
        compare(f"{workload.long_seconds} s, GOP {gop}", ("short file", first_time(few)), cases)
    return {"seconds": seconds, "ratios": ratios, "values": {"views": [VIEWS_TEMPORAL, VIEWS_SPATIAL], "fps": FPS}}


def first_time(case: Case) -> Case:
    """The same as if this machine had never seen the file: with an empty cache folder."""

    def run() -> None:
        with TemporaryDirectory() as empty, patch.dict(os.environ, {"M2CLIP_CACHE": empty}):
            case()

    return run


def _some_frames_of(workload: Workload, path: Path) -> Case:
    return lambda: some_frames(workload, path)


def test_item(workload: Workload, path: Path) -> tuple[VideoDataset, np.ndarray]:
    """A data set of this one video with all its test views, and the frames [V, T] that these take."""
    dataset = _dataset(workload, path, train=False)
    chosen = test_indices(
        FPS * workload.short_seconds, frames=workload.frames, stride_frames=STRIDE_FRAMES, views=VIEWS_TEMPORAL
    )
    return dataset, chosen


def _dataset(workload: Workload, path: Path, *, train: bool, cache: FrameCache | None = None) -> VideoDataset:
    return VideoDataset(
        Manifest((Sample(path, 0),), ("a",), (), "none", ""),
        frames=workload.frames,
        stride_frames=STRIDE_FRAMES,
        size=workload.backbone.image_size,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        train=train,
        views_temporal=VIEWS_TEMPORAL,
        views_spatial=VIEWS_SPATIAL,
        cache=cache,
    )


def our_item(dataset: VideoDataset) -> Tensor:
    """The pixels of its only sample, uint8 [V, T, 3, H, W], as a worker hands them over."""
    item = dataset[0]
    assert isinstance(item, Item)
    return item.pixels


def our_clips(dataset: VideoDataset) -> Tensor:
    """The same as the model takes them, float32 and normalised."""
    return dataset.statistics.normalize(our_item(dataset))


def everything_in_float32(workload: Workload, path: Path, chosen: np.ndarray) -> Tensor:
    """The same the way of much research code: the whole video as float32, normalised and resized, then views cut out of it."""
    video = torch.from_numpy(decoded(path)).permute(0, 3, 1, 2).float().div_(255)
    video = (video - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    return views_of(workload, video, chosen)


def resize_everything(workload: Workload, path: Path, chosen: np.ndarray) -> Tensor:
    """The same pixels the naive way: the whole video in memory, every frame resized, then views cut out of it."""
    return views_of(workload, torch.from_numpy(decoded(path)).permute(0, 3, 1, 2), chosen)


def decoded(path: Path) -> np.ndarray:
    """Every picture, uint8 [frames, H, W, 3]."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def views_of(workload: Workload, video: Tensor, chosen: np.ndarray) -> Tensor:
    """Every frame of a video [frames, 3, H, W] resized, then its views."""
    size = workload.backbone.image_size
    height, width = video.shape[-2:]
    assert height <= width
    small = F.resize(
        video, [size, round(size * width / height)], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    corners = spatial_corners(*small.shape[-2:], size=size, crops=VIEWS_SPATIAL)
    views = [small[frames][..., top : top + size, left : left + size] for frames in chosen for top, left in corners]
    return torch.stack(views)


def some_frames(workload: Workload, path: Path) -> np.ndarray:
    """A clip's frames, spread evenly over the whole file."""
    with Video(path) as video:
        return video.frames(test_indices(video.info.frame_count, frames=workload.frames)[0])


def decode_all(path: Path) -> int:
    """Decode every frame in order and convert none."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        return sum(1 for _ in container.decode(stream))

"""Measuring a model in the course of its training, and the best one at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m2clip.checkpoint import load
from m2clip.config import RunConfig
from m2clip.data.dataset import BadFile
from m2clip.data.frame_cache import FrameCache
from m2clip.data.manifest import Manifest
from m2clip.evaluate import Evaluation, evaluate
from m2clip.model.precision import for_inference
from m2clip.model.video_clip import VideoCLIP

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def validate(
    fabric: "Fabric",
    model: VideoCLIP,
    videos: Manifest,
    *,
    config: RunConfig,
    cache: FrameCache | None,
    known_bad: Sequence[BadFile],
) -> Evaluation:
    """The model as it is, with one view a video. `known_bad`: as of `evaluate`."""
    with fabric.autocast():
        return evaluate(
            model,
            videos,
            batch_size=config.eval.batch_size,
            workers=config.data.workers,
            masked_words=False,
            on_bad_file=config.data.on_bad_file,
            most_lost=config.data.most_lost,
            file_seconds=config.data.file_seconds,
            known_bad=known_bad,
            cache=cache,
        )


def measure_checkpoint(fabric: "Fabric", checkpoint: Path, videos: Manifest, *, config: RunConfig) -> Evaluation:
    """What `m2clip evaluate` would say of a checkpoint, with the views of `eval`."""
    return evaluate(
        for_inference(load(checkpoint).to(fabric.device), config.eval.precision, in_place=True),
        videos,
        views_temporal=config.eval.views_temporal,
        views_spatial=config.eval.views_spatial,
        batch_size=config.eval.batch_size,
        workers=config.data.workers,
        on_bad_file=config.data.on_bad_file,
        most_lost=config.data.most_lost,
        file_seconds=config.data.file_seconds,
        checkpoint=str(checkpoint),
    )

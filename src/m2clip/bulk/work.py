"""What bulk work makes of the clips of videos: their embeddings, or the labels that they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import torch

from m2clip.bulk.label_table import LabelForm, LabelRow, LabelSource, label_table
from m2clip.bulk.row_table import TableForm
from m2clip.bulk.source_model import SourceModel
from m2clip.bulk.stretches import ReadStretches
from m2clip.bulk.vector_table import VectorForm, VectorRow, table_of
from m2clip.bulk.wanted_videos import State
from m2clip.errors import M2CLIPError
from m2clip.model.video_clip import VideoFeatures
from m2clip.recognizer import Recognizer, mean_embedding
from m2clip.scoring import top_predictions
from m2clip.video_scores import Classes

CLIPS_AT_A_TIME = 16


@dataclass(frozen=True)
class ReadVideo:
    """A video, or a piece of one, whose clips have been read."""

    path: str
    """By which it is found again."""
    state: State | None
    read: ReadStretches


class Work(Protocol):
    """Makes rows of a table out of clips. It is sent to other processes and machines, with its model."""

    command: str
    """That does it."""

    @property
    def recognizer(self) -> Recognizer:
        """With the model."""

    @property
    def every_seconds(self) -> float | None:
        """Length of the stretches that videos are cut into; None: each is taken whole."""

    @property
    def form(self) -> TableForm:
        """Of the table."""

    def rows(self, videos: Sequence[ReadVideo]) -> list[pa.Table]:
        """The rows of each of these videos, which are encoded together. M2CLIPError where the model gives no numbers."""


@dataclass(frozen=True)
class EmbeddingWork:
    """The embedding of each video, or of each of its stretches."""

    recognizer: Recognizer
    source: SourceModel
    command = "embed"

    @property
    def every_seconds(self) -> float | None:
        """Length of the stretches."""
        return self.source.every_seconds

    @property
    def form(self) -> VectorForm:
        """Of the table."""
        return VectorForm(self.source)

    def rows(self, videos: Sequence[ReadVideo]) -> list[pa.Table]:
        """See `Work`."""
        coming = iter(_features(self.recognizer, videos).embedding.split(_views(self.recognizer)))
        found = []
        for video in videos:
            rows = []
            for start, end in video.read.spans:
                vector = mean_embedding(next(coming))
                if not bool((vector == vector).all()):
                    raise _not_finite(video)
                size, mtime = video.state or (None, None)
                facts = (video.read.duration_seconds, video.read.lost_frames)
                rows.append(VectorRow(video.path, start, end, size, mtime, *facts, vector))
            found.append(table_of(rows, self.source))
        return found


@dataclass(frozen=True)
class LabelWork:
    """The most probable labels of each video."""

    recognizer: Recognizer
    classes: Classes
    source: LabelSource
    command = "classify"

    @property
    def every_seconds(self) -> None:
        """Videos are taken whole."""

    @property
    def form(self) -> LabelForm:
        """Of the table."""
        return LabelForm(self.source)

    def rows(self, videos: Sequence[ReadVideo]) -> list[pa.Table]:
        """See `Work`."""
        features = _features(self.recognizer, videos)
        judged = self.recognizer.judged(features, self.classes, parts=len(videos))
        found = []
        for video, (probabilities, _, none_of_these) in zip(videos, judged, strict=True):
            if not bool(probabilities.isfinite().all()):
                raise _not_finite(video)
            best = top_predictions(probabilities, self.classes.names, top=self.source.top)
            ((start, end),) = video.read.spans
            size, mtime = video.state or (None, None)
            row = LabelRow(
                video.path, start, end, size, mtime, video.read.duration_seconds, video.read.lost_frames,
                none_of_these, tuple(one.label for one in best), tuple(one.score for one in best),
            )  # fmt: skip
            found.append(label_table([row], self.source))
        return found


def _views(recognizer: Recognizer) -> int:
    return recognizer.views_temporal * recognizer.views_spatial


def _features(recognizer: Recognizer, videos: Sequence[ReadVideo]) -> VideoFeatures:
    """Of the views of all parts of these videos, one after another, a few clips at a time.

    The last bits of a product depend on how many rows it has. So who is encoded together follows from the list alone (`batches_of`),
    and a run that is broken off, or goes on elsewhere, gives the same bits.
    """
    views = _views(recognizer)
    clips = torch.cat([video.read.pixels[: len(video.read.spans) * views] for video in videos])
    found = [recognizer.encode(some) for some in clips.split(CLIPS_AT_A_TIME)]
    logits = [one.visual_logits for one in found if one.visual_logits is not None]
    return VideoFeatures(
        torch.cat([one.embedding for one in found]),
        torch.cat([one.frames for one in found]),
        torch.cat(logits) if logits else None,
    )


def _not_finite(video: ReadVideo) -> M2CLIPError:
    return M2CLIPError(
        f"{video.path}: its embedding is not finite; the checkpoint's weights are broken, so use an earlier one"
    )

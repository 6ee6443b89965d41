"""What the HTTP API answers: typed, so that its description (/openapi.json) says it all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from m2clip.app.decoding import ReadVideo
from m2clip.data.video import VideoInfo
from m2clip.scoring import Prediction
from m2clip.timeline import Window
from m2clip.video_scores import VideoScores

if TYPE_CHECKING:
    from m2clip.search import Found


class Scored(BaseModel):
    """A label and its score."""

    label: str
    score: float = Field(description="Probability among the labels that were asked for, 0 to 1.")


class VideoFacts(BaseModel):
    """What the upload is."""

    width: int
    height: int
    frames: int
    lost_frames: int = Field(description="Frames that the file promises and that its damage has taken.")
    duration_seconds: float
    fps: float
    codec: str

    @classmethod
    def of(cls, info: VideoInfo) -> "VideoFacts":
        """The facts of a video that was opened."""
        named = {name: getattr(info, name) for name in cls.model_fields if name != "frames"}
        return cls(**named, frames=info.frame_count)


class Classified(BaseModel):
    """The best labels of a video."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "best",
                "strength": 1.0,
                "reading": "similarity",
                "video": {"width": 320, "height": 240, "frames": 250, "lost_frames": 0, "duration_seconds": 10.0, "fps": 25.0,
                          "codec": "h264"},
                "predictions": [{"label": "waving a hand", "score": 0.93}, {"label": "jumping", "score": 0.07}],
                "none_of_these": False,
                "frame_seconds": [0.0, 1.25, 2.5, 3.75, 5.0, 6.25, 7.5, 8.75],
            }
        }
    )  # fmt: skip

    model: str
    strength: float
    reading: str = Field(description="What the scores are read from: similarity, visual or ensemble.")
    video: VideoFacts
    predictions: list[Scored] = Field(description="Best first.")
    none_of_these: bool = Field(description="Whether the video shows none of them, by the checkpoint's own threshold.")
    frame_seconds: list[float] = Field(description="Times of the frames that were looked at, in order.")

    @classmethod
    def of(cls, read: ReadVideo, scores: VideoScores, *, top: int, model: str, strength: float) -> "Classified":
        """The answer for one video."""
        return cls(
            model=model,
            strength=strength,
            reading=scores.classes.reading,
            video=VideoFacts.of(read.info),
            predictions=_scored(scores.top(top)),
            none_of_these=scores.none_of_these,
            frame_seconds=scores.frame_seconds.flatten().tolist(),
        )


class Embedded(BaseModel):
    """The embedding of a video."""

    model: str
    video: VideoFacts
    embedding: list[float] = Field(description="D numbers, of unit norm.")


class ScoredWindow(BaseModel):
    """A stretch of a video and the best labels in it."""

    start_seconds: float
    end_seconds: float
    predictions: list[Scored]
    none_of_these: bool

    @classmethod
    def of(cls, window: Window) -> "ScoredWindow":
        """The answer for one window."""
        return cls(
            start_seconds=window.start_seconds,
            end_seconds=window.end_seconds,
            predictions=_scored(window.predictions),
            none_of_these=window.none_of_these,
        )


class Timeline(BaseModel):
    """What happens when."""

    model: str
    windows: list[ScoredWindow]


class FoundVideo(BaseModel):
    """A video of the index."""

    video: str = Field(description="The file's name and that of its folder; where these lie is not told.")
    score: float = Field(description="Cosine, -1 to 1.")
    start_seconds: float | None = Field(description="Where a stretch of the video begins; null: at its start.")
    end_seconds: float | None = Field(description="Where it ends; null: at the video's end.")

    @classmethod
    def of(cls, found: "Found") -> "FoundVideo":
        """The answer for one of them."""
        return cls(
            video=found.name, score=found.score, start_seconds=found.start_seconds, end_seconds=found.end_seconds
        )


class SearchResult(BaseModel):
    """The nearest videos, nearest first."""

    found: list[FoundVideo]


class Health(BaseModel):
    """Whether the server can answer."""

    ready: bool
    models: list[str]
    decoders_ready: int
    decode_waiting: int
    model_waiting: int


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="A fixed word for programs.")
    message: str = Field(description="A sentence for people.")


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail


def _scored(predictions: Sequence[Prediction]) -> list[Scored]:
    return [Scored(label=found.label, score=found.score) for found in predictions]


_ERRORS = {
    404: "There is no such address, or no index to search.",
    408: "The upload took too long to arrive.",
    413: "The upload, the video or the list of labels is larger than is allowed.",
    422: "The file is no video that can be read, or a field cannot be used.",
    429: "Too much is waiting; try again after the seconds in Retry-After.",
    503: "The server's disk is full, or its index is gone.",
    504: "It took too long and was dropped.",
}
ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": words} for status, words in _ERRORS.items()
}

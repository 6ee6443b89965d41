"""Which model made some embeddings, and how: what a table or an index says of itself, so that a search finds the same one."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2clip.errors import ConfigError
from m2clip.model.fingerprint import model_id
from m2clip.model.info import first_fault
from m2clip.model.precision import precision_of
from m2clip.recognizer import Recognizer

METADATA_KEY = b"m2clip"
"""Under which the schema of a table holds the record as JSON."""


class SourceModel(BaseModel):
    """The record of the model behind a set of embeddings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model_id: str
    """SHA-256 of weights, strength, sampling, views and precision: embeddings of two ids are not comparable."""
    checkpoint: str
    """Where it was loaded from: an absolute path, a hub id or a backbone's name."""
    weights: str | None = None
    """The CLIP's file, where it was given."""
    dim: Annotated[int, Field(ge=1, le=2**16)]
    """D."""
    strength: Annotated[float, Field(ge=0, le=1)]
    """Share of the adapters' effect."""
    precision: Literal["fp32", "bf16"]
    """What the image blocks computed in."""
    frames: int
    """T of a clip."""
    stride_frames: int = 0
    """Gap between frames, in frames of the video; 0: not dense."""
    fps: float | None = None
    """Frames that a clip takes of each second."""
    clip_seconds: float | None = None
    """Seconds that a clip spans."""
    views_temporal: Annotated[int, Field(ge=1)] = 1
    """Temporal views of a video."""
    views_spatial: Annotated[int, Field(ge=1)] = 1
    """Crops of each."""
    every_seconds: float | None = None
    """Length of the stretches that each video was cut into; None: one embedding a video. No part of the id."""

    @classmethod
    def of(
        cls, recognizer: Recognizer, checkpoint: str, *, weights: str | None = None, every_seconds: float | None = None
    ) -> Self:
        """The record of a recognizer that was loaded from `checkpoint`."""
        facts = _facts(recognizer)
        return cls(
            model_id=id_of(recognizer),
            checkpoint=_lasting(checkpoint),
            weights=None if weights is None else _lasting(weights),
            dim=recognizer.model.info.sizes.embed_dim,
            every_seconds=every_seconds,
            **facts,
        )

    @classmethod
    def from_json(cls, text: bytes | str | None, *, where: str) -> Self:
        """The record in the metadata of a table; ConfigError where there is none."""
        if text is None:
            raise ConfigError(f"{where} does not say which model made it: make it with m2clip embed")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(
                f"{where}: its record of the model is broken ({first_fault(error)}); make it again"
            ) from None

    def recognizer(self, *, checkpoint: str | None = None, device: str | None = None) -> Recognizer:
        """The same model, as it was used; `checkpoint` says where it lies now. Raises ConfigError where that is another model."""
        recognizer = Recognizer(
            checkpoint or self.checkpoint,
            weights=self.weights,
            frames=self.frames,
            stride_frames=self.stride_frames if self.fps is None and self.clip_seconds is None else None,
            fps=self.fps,
            clip_seconds=self.clip_seconds,
            views_temporal=self.views_temporal,
            views_spatial=self.views_spatial,
            device=device,
            strength=self.strength,
            precision=self.precision,
        )
        if id_of(recognizer) != self.model_id:
            raise ConfigError(
                f"{checkpoint or self.checkpoint} is not the model that made these embeddings: it has other weights; give the "
                "checkpoint that they were made with, or embed the videos again"
            )
        return recognizer


def id_of(recognizer: Recognizer) -> str:
    """The model id of what `recognizer.embed` gives."""
    return model_id(recognizer.model, image_size=recognizer.model.info.image_size, **_facts(recognizer))


def _facts(recognizer: Recognizer) -> dict[str, Any]:
    return {
        "strength": recognizer.model.strength,
        "precision": precision_of(recognizer.model),
        **recognizer.sampling.document(),
        "views_temporal": int(recognizer.views_temporal),
        "views_spatial": int(recognizer.views_spatial),
    }


def _lasting(name: str) -> str:
    """A path as it can be found from anywhere; other names as they are."""
    return str(Path(name).resolve()) if Path(name).exists() else name

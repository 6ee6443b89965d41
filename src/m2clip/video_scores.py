"""What one video showed: classes that were made ready for scoring, and their probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from m2clip.model.info import Calibration
from m2clip.scoring import Prediction, Reading, top_predictions


@dataclass(frozen=True)
class Classes:
    """K classes made ready for scoring."""

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    """The texts of each class, exactly as the text tower reads them."""
    reading: Reading
    """What scores are read from; see `Recognizer.classify`."""
    embeddings: Tensor
    """[K, D], unit norm."""
    head_columns: tuple[int, ...] | None
    """Each class's column in the visual head, where it is read."""
    calibration: Calibration | None = None
    """How scores are read, where that was set on these classes (`m2clip calibrate`)."""

    @property
    def temperature(self) -> float:
        """Of the reading; 1 without a calibration."""
        return 1.0 if self.calibration is None else self.calibration.temperatures.get(self.reading, 1.0)

    def threshold(self, *, strength: float) -> float | None:
        """The evidence below which a video shows none of these, if one was set for this reading and this adapter strength."""
        if self.calibration is None:
            return None
        return self.calibration.threshold_for(visual_head=self.head_columns is not None, strength=strength)


@dataclass(frozen=True)
class VideoScores:
    """The probabilities of K classes for one video (or one window of it)."""

    classes: Classes
    probabilities: Tensor
    """[K]: the mean over the views, calibrated where the model is."""
    views: Tensor
    """[V, K]: of each view by itself."""
    frame_indices: NDArray[np.int64]
    """[temporal views, T]: the frames of the video that were looked at."""
    frame_seconds: NDArray[np.float64]
    """[temporal views, T]: their times from the video's first frame."""
    none_of_these: bool = False
    """Whether the video shows none of the classes; only ever true where a threshold was set for them (`m2clip calibrate --reject`)."""

    def top(self, count: int) -> list[Prediction]:
        """The best `count` classes, best first."""
        return top_predictions(self.probabilities, self.classes.names, top=count)

"""Training: the loop (`loop.py`), the loss of a batch over all processes (`objective.py`), what a run leaves on disk."""

from m2clip.train.loop import STATE, train
from m2clip.train.readback import NonFiniteLoss
from m2clip.train.report import REPORT

__all__ = ["REPORT", "STATE", "NonFiniteLoss", "train"]

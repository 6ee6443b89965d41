"""Measuring a model on labelled videos."""

from m2clip.evaluate.evaluation import (
    Evaluation,
    data_document,
    evaluate,
    evaluation_dataset,
    model_document,
    versions,
)

__all__ = ["Evaluation", "data_document", "evaluate", "evaluation_dataset", "model_document", "versions"]

"""Measuring a model on labelled videos."""

from m2clip.evaluate.documents import data_document, model_document, versions
from m2clip.evaluate.evaluation import Evaluation, evaluate, evaluation_dataset

__all__ = ["Evaluation", "data_document", "evaluate", "evaluation_dataset", "model_document", "versions"]

"""Numbers, files, figures and the page that an evaluation leaves; pure functions of arrays, no model and no video."""

from m2clip.report.evaluation import write_evaluation
from m2clip.report.files import write_json
from m2clip.report.metrics import ClassAccuracy, Metrics, measure
from m2clip.report.page import Picture, Section, Table, page

__all__ = [
    "ClassAccuracy",
    "Metrics",
    "Picture",
    "Section",
    "Table",
    "measure",
    "page",
    "write_evaluation",
    "write_json",
]

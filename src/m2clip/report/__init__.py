"""Numbers, files, figures and the page that an evaluation leaves; pure functions of arrays, no model and no video."""

from m2clip.report.evaluation import accuracy_table, write_evaluation
from m2clip.report.files import json_text, write_json, write_whole
from m2clip.report.masked_words import masked_word_lines
from m2clip.report.metrics import ClassAccuracy, Metrics, measure
from m2clip.report.page import Gallery, Picture, Section, Table, page

__all__ = [
    "ClassAccuracy",
    "Gallery",
    "Metrics",
    "Picture",
    "Section",
    "Table",
    "accuracy_table",
    "json_text",
    "masked_word_lines",
    "measure",
    "page",
    "write_evaluation",
    "write_json",
    "write_whole",
]

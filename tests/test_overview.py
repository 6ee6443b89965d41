"""Figures of a whole run: drawn from odd input, too, and showing what they were given."""

import struct

import numpy as np

from m2clip.report.overview import accuracy_bars, frame_strip, training_curves
from m2clip.scoring import Prediction


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def test_more_data_sets_make_a_wider_figure() -> None:
    one = accuracy_bars({"frozen": {"base": 0.25}}, chance={"base": 0.1}, title="$x")
    two = accuracy_bars(
        {"frozen": {"base": 0.25, "novel": 0.0}, "adapted": {"base": 1.0, "novel": 0.5}},
        chance={"base": 0.1, "novel": 0.2},
        title="two",
    )
    assert size_of(two)[0] > size_of(one)[0]


def test_curves_of_whole_short_and_empty_logs() -> None:
    steps = [{"kind": "step", "step": s, "total": 1 / s, "visual": 2 / s, "mlm": "nan"} for s in range(1, 9)]
    epochs = [{"kind": "epoch", "epoch": e, "similarity_top1": e / 4} for e in (1, 2)]
    whole = training_curves([*steps, *epochs, {"kind": "warning", "step": 1, "text": "x"}])
    assert size_of(whole) == size_of(training_curves(steps[:1])) == size_of(training_curves([]))
    assert whole != training_curves(steps)


def test_a_strip_shows_frames_and_marks_the_truth() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 10, 12, 3), dtype=np.uint8)
    best = [Prediction("a $1 class", 0.75), Prediction("<b>", 0.25)]
    marked = frame_strip(frames, {"model": best}, truth="<b>")
    assert marked != frame_strip(frames, {"model": best}, truth="a $1 class")
    assert size_of(frame_strip(frames[:2], {"model": best}))[0] < size_of(marked)[0]

"""The page's figures of timelines are those of the last measurement, and what measures them works."""

import json
from pathlib import Path

import pytest
import timeline

from m2clip import Recognizer
from tests.small_inputs import moving_square, tiny_model, write_video

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_has_the_figures_of_the_measurement() -> None:
    document = json.loads(timeline.RESULT.read_text("utf-8"))
    page = timeline.PAGE.read_text("utf-8")
    assert set(timeline.tables(document)) == set(timeline.TABLES)
    assert timeline.with_tables(page, document) == page


def test_the_benchmark_measures(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_square(frames=72))  # 6 s
    model = tiny_model()
    found = timeline.exactness(model, video, frames=30)
    assert (found["frames"], found["delay_frames"]) == (30, 3)
    assert found["embeddings"] < 1e-4 < found["embeddings_largest"]
    one = timeline.cost(Recognizer(model), video, overlaps=["75 %"], rounds=1)["75 %"]
    assert one["frames"] == {"shared": 24, "alone": 72}  # 4 frames a second; nine windows of eight
    assert one["frames_ratio"] == pytest.approx(3)
    assert one["whole_ratio"] > 0

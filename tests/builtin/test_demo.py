"""The demo from end to end, with fewer videos and one epoch: every file it promises, and numbers that belong together."""

import json
from pathlib import Path

import numpy as np
import pytest

from m2clip.builtin import demo
from m2clip.errors import M2CLIPError

TWO_EPOCHS = {"epochs": 2, "warmup_epochs": 1, "batch_size": 28, "lr": 3e-3}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "VIDEOS_PER_CLASS", {"train": 1, "val": 1, "test": 1})
    patch.setitem(demo.RECIPE, "train", TWO_EPOCHS)
    out = tmp_path_factory.mktemp("demo") / "out"
    try:
        demo.run_demo(out, progress=False, tell=lambda sentence: None)
    finally:
        patch.undo()
    return out


@pytest.mark.slow
@pytest.mark.case("L11")
def test_the_report_has_what_is_relied_on(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    for model in ("adapted", "frozen_clip"):
        for part in ("base", "novel"):
            assert 0.0 <= report[model][part]["top1"] <= 1.0
    assert report["adapted"]["base"]["reading"] == "ensemble"
    assert report["adapted"]["novel"]["reading"] == "similarity"
    assert (report["adapted"]["base"]["classes"], report["adapted"]["novel"]["classes"]) == (56, 24)
    assert report["chance"] == {"base": 1 / 56, "novel": 1 / 24}
    assert report["seconds"] > 0
    # The frozen tiny CLIP knows the objects and not the motions: far above chance, far from right.
    assert 0.1 < report["frozen_clip"]["base"]["top1"] < 0.6


@pytest.mark.slow
def test_the_page_shows_figures_that_are_there(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for name in ("accuracy.png", "example.png", "curves.png", "confusion_base.png", "confusion_novel.png"):
        assert f'src="{name}"' in page
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    example = json.loads((finished / "report.json").read_text())["example"]
    assert Path(example["video"]).is_file()
    assert all(len(best) == 5 for best in example["predictions"].values())
    assert example["label"] in page


@pytest.mark.slow
def test_a_demo_is_not_mixed_with_another_one(finished: Path) -> None:
    """The fixture's settings are not the real demo's: its folder is refused, and stays as it is."""
    before = (finished / "report.json").read_bytes()
    with pytest.raises(M2CLIPError, match="already holds other or unfinished data"):
        demo.run_demo(finished, progress=False, tell=lambda sentence: None)
    assert (finished / "report.json").read_bytes() == before


@pytest.mark.slow
def test_the_same_demo_again_keeps_what_is_done(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "VIDEOS_PER_CLASS", {"train": 1, "val": 1, "test": 1})
    monkeypatch.setitem(demo.RECIPE, "train", TWO_EPOCHS)
    first = json.loads((finished / "report.json").read_text())
    weights = (finished / "run" / "best.safetensors").read_bytes()
    again = demo.run_demo(finished, progress=False, tell=lambda sentence: None)
    assert again["resumed"]
    assert not first["resumed"]
    assert again["adapted"] == first["adapted"]
    assert (finished / "run" / "best.safetensors").read_bytes() == weights


def test_the_example_is_no_lucky_half_of_a_biased_pair() -> None:
    """Class 0 is always right, but only since its partner is called by its name, too; class 2 is told best in truth."""
    confusion = np.array([[5, 0, 0, 0], [5, 0, 0, 0], [0, 0, 5, 0], [0, 0, 1, 4]])
    assert demo.best_told(confusion) == 2

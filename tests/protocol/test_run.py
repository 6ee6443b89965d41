"""A protocol's parts evaluated, and what they come to together."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2clip.errors import ConfigError, ManifestError
from m2clip.evaluate import evaluate
from m2clip.protocol import Protocol, load_protocol
from m2clip.protocol.run import run_protocol, summarise
from m2clip.report import Metrics, measure
from tests.small_inputs import class_folders, tiny_model

BASE, NOVEL = ("bouncing", "moving"), ("walking", "running", "jumping")
PROTOCOL = """
title: small, base to novel
source: made for this test
folder: data
views: 1x3
frames: 4
tests:
  base: {list: base/test.csv, classes: base.csv, kind: supervised}
  novel: {list: novel/test.csv, classes: novel.csv, kind: zero-shot}
summary: harmonic
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("protocol")
    for part, names in (("base", BASE), ("novel", NOVEL)):
        class_folders(root / part, names)
        rows = "".join(f"{name}/{i}.mp4,{k}\n" for k, name in enumerate(names) for i in range(2))
        (root / part / "test.csv").write_text(f"path,label\n{rows}")
        (root / f"{part}.csv").write_text("id,name\n" + "".join(f"{k},{name}\n" for k, name in enumerate(names)))
    (root / "p.yaml").write_text(PROTOCOL)
    return root


def protocol(place: Path, **changes: str) -> Protocol:
    """The protocol, with lines of its file exchanged."""
    text = PROTOCOL
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = place / f"changed{abs(hash(text))}.yaml"
    path.write_text(text)
    return load_protocol(path, folder=place)


def trained(**options: Any) -> Any:
    model = tiny_model(BASE, **options)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    return model


def of(rate: float, *, classes: int = 2) -> Metrics:
    """Metrics of 20 videos of which a share is named right."""
    table = np.zeros((20, classes), np.float32)
    table[np.arange(20), (np.arange(20) >= round(20 * rate)).astype(int)] = 1
    return measure(table, np.zeros(20, np.int64), [str(k) for k in range(classes)])


def test_each_part_is_evaluated_as_evaluate_does_it(place: Path) -> None:
    model, plan = trained(), protocol(place)
    result = run_protocol(model, plan, checkpoint="m.safetensors")
    document = result.document
    assert (document["name"], document["title"], document["source"], document["choices"]) == (
        plan.name, "small, base to novel", "made for this test", {},
    )  # fmt: skip
    assert list(document["parts"]) == ["base", "novel"]
    for name, kind in (("base", "supervised"), ("novel", "zero-shot")):
        alone = evaluate(model, plan.manifest(name), protocol=kind, views_spatial=3, frames=4).document  # type: ignore[arg-type]
        found = document["parts"][name]
        assert found["metrics"] == alone["metrics"]
        assert found["protocol"]["name"] == kind
        assert found["protocol"]["views"]["spatial"] == 3
        assert found["protocol"]["frames"] == 4
        assert found["protocol"]["model"]["checkpoint"] == "m.safetensors"
    assert document["parts"]["novel"]["protocol"]["texts"] == [[f"A video of {name}"] for name in NOVEL]
    assert list(document["parts"]["base"]["metrics"]) == ["similarity", "visual", "ensemble"]
    assert list(document["parts"]["novel"]["metrics"]) == ["similarity"]


def test_arguments_and_a_template_stand_above_the_checkpoint(place: Path) -> None:
    plan = protocol(place, **{"frames: 4": 'frames: 4\ntemplate: "{} it"'})
    result = run_protocol(trained(), plan, views=(2, 1), frames=3)
    for name, names in (("base", BASE), ("novel", NOVEL)):
        used = result.document["parts"][name]["protocol"]
        assert used["texts"] == [[f"{one} it"] for one in names]
        assert (used["views"]["temporal"], used["views"]["spatial"], used["frames"]) == (2, 1, 3)


def test_many_other_classes_are_read_by_the_text_head_alone(place: Path) -> None:
    """A checkpoint with 2 classes on 3 others: the test above has zero-shot's one reading; supervised is refused before any video."""
    wrong = protocol(place, **{"classes: novel.csv, kind: zero-shot": "classes: novel.csv, kind: supervised"})
    with pytest.raises(
        ConfigError, match="needs the checkpoint's 2 classes, but 'walking' is none of them: choose zero-shot"
    ):
        run_protocol(trained(), wrong, progress=lambda done, total: pytest.fail("a video was read"))


def test_a_missing_list_ends_the_run_before_the_first_video(place: Path) -> None:
    plan = protocol(place, **{"novel/test.csv": "novel/gone.csv"})
    with pytest.raises(ManifestError, match=r"gone.csv does not exist"):
        run_protocol(trained(), plan, progress=lambda done, total: pytest.fail("a video was read"))


def test_a_part_without_a_single_video_ends_the_run_before_the_first_video(place: Path) -> None:
    (place / "novel" / "elsewhere.csv").write_text("path,label\nwalking/gone.mp4,0\n")
    plan = protocol(place, **{"novel/test.csv": "novel/elsewhere.csv"})
    with pytest.raises(ManifestError, match=r"novel: none of the 1 listed videos exists, the first being .*gone.mp4"):
        run_protocol(trained(), plan, progress=lambda done, total: pytest.fail("a video was read"))


def test_missing_videos_are_counted(place: Path) -> None:
    listed = (place / "novel" / "test.csv").read_text()
    (place / "novel" / "more.csv").write_text(f"{listed}walking/gone.mp4,0\n")
    told: list[str] = []
    result = run_protocol(trained(), protocol(place, **{"novel/test.csv": "novel/more.csv"}), tell=told.append)
    data = result.document["parts"]["novel"]["protocol"]["data"]
    assert (data["listed"], data["missing"], data["scored"]) == (7, 1, 6)
    assert len(told) == 1
    assert "gone.mp4" in told[0]


def test_everything_is_written(place: Path, tmp_path: Path) -> None:
    result = run_protocol(trained(), protocol(place))
    names = result.write(tmp_path / "out")
    assert sorted(names) == sorted(
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    )
    assert {"report.json", "report.html", "base/report.json", "novel/scores.csv"} <= set(names)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == json.loads(json.dumps(result.document))
    page = (tmp_path / "out" / "report.html").read_text()
    harmonic = written["summary"]["readings"]["ensemble"]["top1"]["harmonic"]
    assert "harmonic mean" in page
    assert f"{100 * harmonic:.1f} %" in page
    lines = result.summary().splitlines()
    assert lines[0] == "small, base to novel"
    assert any(line.startswith("ensemble") and line.endswith(f"{100 * harmonic:.1f} %") for line in lines)


def test_mean_and_std_by_hand() -> None:
    parts = {
        "split-1": {"similarity": of(0.5)},
        "split-2": {"similarity": of(0.6)},
        "split-3": {"similarity": of(0.85)},
    }
    summary = summarise(parts, rule="mean")
    assert (summary["rule"], summary["reading"]) == ("mean", "similarity")
    found = summary["readings"]["similarity"]
    assert found["top1"]["parts"] == {"split-1": 0.5, "split-2": 0.6, "split-3": 0.85}
    assert found["top1"]["mean"] == pytest.approx(0.65)
    assert found["top1"]["std"] == pytest.approx(math.sqrt((0.15**2 + 0.05**2 + 0.2**2) / 2))  # n - 1
    assert found["top5"] is None  # two classes
    assert "harmonic" not in found["top1"]


def test_one_part_has_no_spread() -> None:
    found = summarise({"val": {"similarity": of(0.5, classes=6)}}, rule="mean")["readings"]["similarity"]
    assert found["top1"] == {"parts": {"val": 0.5}, "mean": 0.5, "std": None}
    assert found["top5"] == {"parts": {"val": 1.0}, "mean": 1.0, "std": None}


def test_a_part_without_a_reading_counts_with_its_similarity() -> None:
    base = {"similarity": of(0.5), "visual": of(0.75), "ensemble": of(0.8)}
    summary = summarise({"base": base, "novel": {"similarity": of(0.4)}}, rule="harmonic")
    assert summary["reading"] == "ensemble"
    found = {reading: one["top1"]["harmonic"] for reading, one in summary["readings"].items()}
    assert found == pytest.approx(
        {"similarity": 2 / (2 + 2.5), "visual": 2 / (1 / 0.75 + 2.5), "ensemble": 2 / (1.25 + 2.5)}
    )
    assert summary["readings"]["visual"]["used"] == {"base": "visual", "novel": "similarity"}
    assert summary["readings"]["visual"]["top1"]["parts"] == {"base": 0.75, "novel": 0.4}


@pytest.mark.parametrize(
    ("rates", "expected"),
    [((0.5, 1.0), 2 / 3), ((0.8, 0.6, 0.4), 3 / (1 / 0.8 + 1 / 0.6 + 1 / 0.4)), ((0.0, 0.9), 0.0)],
)
def test_the_harmonic_mean_by_hand(rates: tuple[float, ...], expected: float) -> None:
    parts = {f"part-{n}": {"similarity": of(rate)} for n, rate in enumerate(rates)}
    found = summarise(parts, rule="harmonic")["readings"]["similarity"]["top1"]
    assert found["harmonic"] == pytest.approx(expected)
    assert "mean" not in found

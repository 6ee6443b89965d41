"""The benchmark of speed: ratios of neighbours, honest yardsticks, and a page that holds what was measured."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from speed import figures, inference, page, reading, scale, startup, text, training, workload
from speed.goals import GOALS, Goal
from speed.markdown import number
from speed.timing import Timings, alternate, growth
from speed.videos import FPS, make_video

from m2clip.data.video import Video

ROOT = Path(__file__).resolve().parents[1]
QUICK = workload.QUICK


@pytest.fixture
def _threads() -> Iterator[None]:
    """Reading sets its own."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def test_cases_take_turns_there_and_back() -> None:
    calls: list[str] = []
    found = alternate({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3, warmup=1)
    assert "".join(calls) == "cba" + "abc" + "cba" + "abc"
    assert {case: len(values) for case, values in found.seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_that_of_neighbours() -> None:
    """The machine was busy in the second round and slowed both down: the ratio of the medians would be 1.5."""
    found = Timings({"a": [2.0, 20.0, 3.0], "b": [1.0, 10.0, 2.0]})
    assert found.ratio("a", "b") == 2.0
    assert found.median("a") == 3.0
    assert found.document()["b"] == {"median": 2.0, "rounds": [1.0, 10.0, 2.0]}


def test_growth_is_the_exponent() -> None:
    assert growth({1: 3.0, 2: 12.0, 4: 48.0}) == pytest.approx(2)
    assert growth({10: 5.0, 1000: 5.0}) == pytest.approx(0)


def test_memory_of_a_stretch_of_work() -> None:
    """In a process of its own: what other tests freed would be used again, and not count."""
    program = (
        "import torch; from speed.timing import PeakMemory; kept = torch.ones(2**24)\n"  # what is there before does not count
        "with PeakMemory() as memory: torch.ones(2**25).sum()\n"
        "print(memory.gib)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    if ran.stdout.strip() == "None":
        pytest.skip("the system does not tell")
    assert 0.12 < float(ran.stdout) < 0.16


def test_a_longer_file_is_the_short_one_again_and_again(tmp_path: Path) -> None:
    short, long = (make_video(tmp_path, size=(64, 48), seconds=s, gop_frames=250) for s in (10, 30))
    with Video(short) as one, Video(long) as three:
        assert (one.info.frame_count, three.info.frame_count) == (10 * FPS, 30 * FPS)
        assert np.array_equal(np.diff(three.info.pts_seconds).round(6), np.full(30 * FPS - 1, round(1 / FPS, 6)))
        pictures = one.frames([0, 7, 299])
        assert np.array_equal(three.frames([300, 307, 599]), pictures)
        assert np.array_equal(three.frames([600, 607, 899]), pictures)
        moved = np.abs(pictures[0].astype(int) - pictures[1]).mean()
    assert moved > 3  # there is something to decode
    assert make_video(tmp_path, size=(64, 48), seconds=30, gop_frames=250) == long
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("gop", reading.GOPS)
def test_key_frames_are_where_they_are_said_to_be(tmp_path: Path, gop: int) -> None:
    import av

    with av.open(str(make_video(tmp_path, size=(64, 48), seconds=10, gop_frames=gop))) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    keys = [packet.pts for packet in sorted(packets, key=lambda packet: packet.pts)]
    order = {pts: rank for rank, pts in enumerate(keys)}
    assert [order[packet.pts] for packet in packets if packet.is_keyframe] == list(range(0, 10 * FPS, gop))


def test_the_naive_test_item_is_the_same_item(files: Path) -> None:
    path = make_video(files, size=QUICK.small_video, seconds=QUICK.short_seconds, gop_frames=250)
    dataset, chosen = reading.test_item(QUICK, path)
    ours, naive = reading.our_item(dataset), reading.resize_everything(QUICK, path, chosen)
    assert torch.equal(ours, naive)
    assert len(ours) == reading.VIEWS_TEMPORAL * reading.VIEWS_SPATIAL
    assert ours.float().std() > 10
    # Bytes are rounded once more where pictures are resized as bytes: half a step of 1/255, over the smallest deviation.
    floats = reading.everything_in_float32(QUICK, path, chosen)
    assert (reading.our_clips(dataset) - floats).abs().quantile(0.99) < 1 / 255 / 0.26


def test_sequential_decoding_decodes_everything(files: Path) -> None:
    path = make_video(files, size=QUICK.small_video, seconds=QUICK.short_seconds, gop_frames=250)
    assert reading.decode_all(path) == FPS * QUICK.short_seconds


def test_arithmetic_is_counted_by_the_book() -> None:
    """Multiply-adds of the plain form, by hand; ours leaves out what nobody reads of the last block."""
    sizes = QUICK.backbone
    width, frames, patches = sizes.vision_width, QUICK.frames, (sizes.image_size // sizes.patch_size) ** 2
    tokens, adapter, embed = patches + 1, width // 2, sizes.embed_dim
    block = tokens * width * width * (3 + 1 + 4 + 4)  # queries, keys, values; out; MLP
    block += 2 * tokens * tokens * width  # scores, and their mixture of the values
    block += tokens * (2 * width * adapter + 3 * adapter)  # TE
    block += patches * (2 * width * adapter + 9 * adapter)  # TD
    embedding = patches * width * 3 * sizes.patch_size**2
    output = width * embed + 2 * embed * (embed // 2) + 3 * (embed // 2)
    by_hand = frames * (embedding + sizes.vision_layers * block + output) + 2 * width  # the visual head has two classes
    found = inference.arithmetic(QUICK)
    assert found["plain"] == pytest.approx(2 * by_hand / 1e9, rel=1e-9)
    share_of_the_last_block = block / (sizes.vision_layers * block + embedding + output)
    assert 1 - share_of_the_last_block < found["ours"] / found["plain"] < 1


def test_the_yardstick_has_the_sizes_of_our_tower() -> None:
    ours = sum(p.numel() for p in workload.build_model(QUICK).clip.visual.parameters())
    assert sum(p.numel() for p in workload.clip_tower(QUICK).parameters()) == ours


def test_class_names_are_all_different() -> None:
    names = workload.class_names(1000)
    assert len(set(names)) == 1000
    assert workload.class_names(2) == ("abseiling", "air drumming")


def test_the_page_holds_what_was_measured() -> None:
    """Both are made by `python benchmarks/bench.py tables`; nobody edits a number by hand."""
    documents = page.read(ROOT / "docs" / "results" / "performance")
    made = (ROOT / "docs" / "performance.md").read_text()
    assert page.performance_page(made, documents) == made
    assert all((ROOT / "docs" / "images" / name).exists() for name in figures.draw(documents))
    for name, document in documents.items():
        assert document["settings"]["backbone"]["vision_width"] == 768, f"{name} holds a quick run"


def test_a_goal_is_met_or_not() -> None:
    goal = Goal("a", "s", "k", 0.85, compiled="c", at_least=True, percent=True)
    document = {"ratios": {}, "values": {"k": 0.9}, "seconds": {}}
    assert goal.row({"s": document}) == ["a", "≥ 85 %", "90 %", "", "yes"]
    assert goal.row({"s": document | {"values": {"k": 0.8}}}) == ["a", "≥ 85 %", "80 %", "", "no"]
    assert goal.row({"s": document | {"values": {"k": 0.8, "c": 0.9}}}) == ["a", "≥ 85 %", "80 %", "90 %", "yes"]
    assert goal.row({}) == ["a", "≥ 85 %", "", "", ""]
    seconds = {"ratios": {}, "values": {}, "seconds": {"k": {"median": 4.51}}}
    assert Goal("b", "s", "k", 4.0, unit=" s").row({"s": seconds}) == ["b", "≤ 4.00 s", "4.51 s", "", "no"]
    with pytest.raises(KeyError):
        Goal("b", "s", "other", 4.0).row({"s": seconds})


def test_a_ratio_stands_beside_its_seconds() -> None:
    seconds = {name: {"median": value} for name, value in {"a, x, y": 2.0, "b, x, y": 4.0, "c": 1.0}.items()}
    rows = page.ratio_table({"ratios": {"a / b, x, y": 0.5}, "seconds": seconds}).splitlines()[2:]
    assert rows == ["| x, y: a / b | 0.50 | *2.00 / 4.00 s* |"]
    rows = page.ratio_table({"ratios": {"c / c": 1.0}, "seconds": seconds}).splitlines()[2:]
    assert rows == ["| c / c | 1.00 | *1.00 / 1.00 s* |"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0123, "0.012"), (0.85, "0.85"), (1.234, "1.23"), (31.4, "31.4"), (402.6, "403")]
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_page_without_a_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="it needs"):
        page.performance_page("<!-- goals: made by benchmarks/bench.py -->", {})


@pytest.mark.slow
@pytest.mark.usefixtures("_threads")
def test_every_section_measures_what_the_page_shows(files: Path) -> None:
    """A quick run of everything, in this process where a process of its own does not matter; then page and figures from it."""
    # Curves: their first two points are enough.
    small = replace(
        QUICK, **{name: getattr(QUICK, name)[:2] for name in ("scale_frames", "scale_images", "scale_videos")}
    )
    found: dict[str, Any] = {
        "inference": inference.measure(small),
        "training": training.measure(small, files),
        "reading": reading.measure(small, files),
        "text": text.measure(small),
        "startup": startup.measure(small, files),
    }
    curves = {}
    for name, series in scale.all_series(small).items():
        point = scale.measure_point(small, files, curve=name, number=0)
        assert point["seconds"] > 0
        curves[name] = {"x": series.x, "points": [{"x": x, **point} for x in series.points], "exponent": 0.0}
    found["scale"] = {"seconds": {}, "ratios": {}, "values": {"curves": curves}}
    where = {
        "machine": {"processor": "p", "cores": 2, "bf16_instructions": [], "memory_gib": 8.0, "load_before": 0.1},
        "versions": dict.fromkeys(("torch", "transformers", "av", "python"), "1"),
        "settings": {"batch": small.batch},
        "command": "c",
    }
    documents = {name: where | document for name, document in found.items()}
    text_of_page = (ROOT / "docs" / "performance.md").read_text()
    made = page.performance_page(text_of_page, documents)
    assert page.ABSENT not in made
    assert all(goal.row(documents)[2] and goal.row(documents)[-1] in ("yes", "no") for goal in GOALS)
    assert figures.draw(documents)["performance-scale.png"].startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_command_writes_a_document(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "bench.py"), "run"]
    out = ["--out", str(tmp_path / "out"), "--files", str(tmp_path / "files")]
    subprocess.run([*command, "text", "--quick", *out], check=True, capture_output=True)
    document = json.loads((tmp_path / "out" / "text.json").read_text())
    assert document["section"] == "text"
    assert document["machine"]["cores"] >= 1
    assert document["versions"]["torch"] == version("torch")
    assert document["ratios"]["anew / plain form"] > 0
    assert document["process_peak_gib"] > 0.1
    for wrong in (["nothing"], ["text", "--quick"]):  # no such section; quick figures among the results
        failed = subprocess.run([*command, *wrong], capture_output=True, text=True)
        assert failed.returncode == 2
        assert "Traceback" not in failed.stderr

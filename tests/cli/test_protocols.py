"""evaluate --protocol, --dry-run, and data protocols."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from m2clip.config import load_config
from m2clip.model.video_clip import VideoCLIP
from m2clip.protocol import shipped_names
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import class_folders

PROTOCOL = """
title: known and new
folder: nowhere
root: videos
views: 1x3
choices: {shots: [2, 4]}
train: {list: "train_{shots}.txt", classes: known.csv}
tests:
  known: {list: known.txt, classes: known.csv, kind: supervised}
  new: {list: new.txt, classes: new.csv, kind: zero-shot}
summary: harmonic
"""
NEW = ("walking", "running")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("protocols")
    for part, names in (("known", NAMES), ("new", NEW)):
        class_folders(root / "videos", names, each=1)
        (root / f"{part}.csv").write_text("id,name\n" + "".join(f"{k},{name}\n" for k, name in enumerate(names)))
        (root / f"{part}.txt").write_text("".join(f"{name}/0.mp4 {k}\n" for k, name in enumerate(names)))
    (root / "p.yaml").write_text(PROTOCOL)
    return root


@pytest.mark.case("E6")
def test_a_protocol_is_evaluated_and_written(m2: Callable[..., Ran], place: Path, folder: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", place / "model.safetensors", "--protocol", folder / "p.yaml", "--data", folder)
    ran = m2(*arguments, "--choose", "shots=4", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert (
        "known: supervised, 3 classes, 8 frames in uniform segments, 1x3 views: 3 of 3 videos scored, 0 missing, 0 bad"
        in ran.out
    )
    assert "new: zero-shot, 2 classes, 8 frames in uniform segments, 1x3 views: 2 of 2 videos scored" in ran.out
    assert "Harmonic mean of the parts" in ran.out
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["choices"] == {"shots": "4"}
    assert (tmp_path / "out" / "new" / "report.html").is_file()
    printed = json.loads(m2(*arguments, "--views", "1x1", "--json").out)
    assert printed["summary"]["rule"] == "harmonic"
    assert printed["parts"]["new"]["protocol"]["views"]["spatial"] == 1


def test_a_dry_run_tells_what_would_be_done_and_loads_no_weights(
    m2: Callable[..., Ran], place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoCLIP, "__init__", lambda *_, **__: pytest.fail("a model was made"))
    listed = (folder / "new.txt").read_text()
    (folder / "more.yaml").write_text(PROTOCOL.replace("list: new.txt", "list: more.txt"))
    (folder / "more.txt").write_text(listed + "".join(f"running/gone{n}.mp4 1\n" for n in range(5)))
    arguments = ("evaluate", place / "model.safetensors", "--protocol", folder / "more.yaml", "--data", folder)
    ran = m2(*arguments, "--choose", "shots=2", "--frames", 16, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "known and new",
        "",
        "known: supervised, 3 classes, 16 frames in uniform segments, 1x3 views, readings similarity, visual, ensemble",
        f"  list      {folder}/known.txt",
        "  videos    3 listed, 3 found, 0 missing; 9 clips to encode",
        *(f"  text      A video of {name}" for name in NAMES),
        "",
        "new: zero-shot, 2 classes, 16 frames in uniform segments, 1x3 views, readings similarity",
        f"  list      {folder}/more.txt",
        "  videos    7 listed, 2 found, 5 missing; 6 clips to encode",
        *(f"  missing   {folder}/videos/running/gone{n}.mp4 (listed at {folder}/more.txt:{n + 3})" for n in range(3)),
        *(f"  text      A video of {name}" for name in NEW),
        "",
        "summary: harmonic mean of the parts",
        "",
        f"train: data.train={folder}/train_2.txt data.val=null data.test=null data.classes={folder}/known.csv data.root={folder}/videos",
    ]
    document = json.loads(m2(*arguments, "--dry-run", "--strength", 0.5, "--json").out)
    assert (document["dry_run"], document["strength"], document["train"]) == (True, 0.5, None)
    assert document["parts"]["new"]["texts"] == [[f"A video of {name}"] for name in NEW]
    assert document["parts"]["new"]["videos"]["missing"] == 5
    assert len(document["parts"]["new"]["videos"]["first_missing"]) == 3


def test_a_dry_run_agrees_with_the_run(m2: Callable[..., Ran], place: Path, folder: Path) -> None:
    arguments = ("evaluate", place / "model.safetensors", "--protocol", folder / "p.yaml", "--data", folder, "--json")
    before, after = json.loads(m2(*arguments, "--dry-run").out), json.loads(m2(*arguments).out)
    assert list(before["parts"]) == list(after["parts"])
    for name, found in before["parts"].items():
        done = after["parts"][name]["protocol"]
        assert found["kind"] == done["name"]
        assert found["readings"] == list(after["parts"][name]["metrics"])
        assert found["list"] == done["data"]["source"]
        assert found["videos"]["found"] == done["data"]["scored"]
        for key in ("texts", "template", "more_templates", "class_names", "classes", "frames", "stride_frames"):
            assert found[key] == done[key], key
        assert found["sha256"] == done["data"]["sha256"]


def test_a_dry_run_of_plain_data(m2: Callable[..., Ran], place: Path) -> None:
    ran = m2("evaluate", place / "model.safetensors", "--data", place / "data", "--views", "2x1", "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines()[0] == (
        "data: supervised, 3 classes, 8 frames in uniform segments, 2x1 views, readings similarity, visual, ensemble"
    )
    assert "6 listed, 6 found, 0 missing; 12 clips to encode" in ran.out


def test_a_dry_run_without_a_single_video_fails_after_telling(
    m2: Callable[..., Ran], place: Path, folder: Path
) -> None:
    arguments = ("evaluate", place / "model.safetensors", "--protocol", folder / "p.yaml", "--data", folder)
    ran = m2(*arguments, "--root", folder / "elsewhere", "--dry-run")
    assert ran.code == 1
    assert "3 listed, 0 found, 3 missing; 0 clips to encode" in ran.out
    sentence = one_sentence(ran)
    assert "known: none of the 3 listed videos exists, the first being" in sentence
    assert sentence.endswith(
        f"elsewhere/{NAMES[0]}/0.mp4 (listed at {folder}/known.txt:1); give the folder of the videos with --root"
    )
    ran = m2(*arguments, "--root", folder / "elsewhere")
    assert (ran.code, ran.out) == (1, "")
    assert one_sentence(ran) == sentence


def test_other_classes_than_the_checkpoints_are_refused_before_and_in_the_run(
    m2: Callable[..., Ran], place: Path, folder: Path
) -> None:
    (folder / "wrong.yaml").write_text(PROTOCOL.replace("kind: zero-shot", "kind: supervised"))
    for more in ((), ("--dry-run",)):
        ran = m2("evaluate", place / "model.safetensors", "--protocol", folder / "wrong.yaml", "--data", folder, *more)
        assert ran.code == 1
        assert "needs the checkpoint's 3 classes, but 'walking' is none of them: choose zero-shot" in one_sentence(ran)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--protocol", "few-shot"), 2, "'few-shot' is neither a YAML file nor one of supervised, zero-shot, base-to-novel"),
        (("--protocol", "zero-shot"), 2, "--protocol zero-shot needs --data"),
        (("--data", "x", "--choose", "shots=4"), 2, "leaves nothing to choose"),
        (("--protocol", "few-shot-ucf101", "--choose", "shots"), 2, "'shots' is not of the form shots=4"),
        (("--protocol", "few-shot-ucf101", "--choose", "shots=2", "--choose", "shots=4"), 2, "shots is chosen twice"),
        (("--protocol", "few-shot-ucf101", "--choose", "shots=3"), 1, "shots is '3', but it must be one of 2, 4, 8, 16"),
        (("--protocol", "gone.yaml"), 1, "gone.yaml: the configuration cannot be read"),
        (("--protocol", "ucf101-zero-shot", "--data", "gone"), 1, "gone/ucfTrainTestlist/testlist01.txt does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(
    m2: Callable[..., Ran], place: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    ran = m2("evaluate", place / "model.safetensors", *arguments, "--dry-run")
    assert ran.code == code
    assert sentence in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err


def test_the_protocols_of_the_package_are_listed(m2: Callable[..., Ran]) -> None:
    ran = m2("data", "protocols")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == list(shipped_names())
    listed = json.loads(m2("data", "protocols", "--json").out)["protocols"]
    assert [one["name"] for one in listed] == list(shipped_names())
    assert all(len(one["title"]) > 10 for one in listed)


def test_the_printed_settings_are_those_of_a_run(m2: Callable[..., Ran], folder: Path, tmp_path: Path) -> None:
    """They take the place of whatever the run's own file says of its data, paths with spaces included."""
    ran = m2("data", "protocols", folder / "p.yaml", "--data", folder, "--root", "a b", "--choose", "shots=2")
    (tmp_path / "run.yaml").write_text("out: o\ndata: {train: x, val: y, test: z, classes: c, root: r}\n")
    data = load_config(tmp_path / "run.yaml", shlex.split(ran.out.splitlines()[-1].removeprefix("train: "))).data
    assert (data.train, data.val, data.test) == (f"{folder}/train_2.txt", None, None)
    assert (data.classes, data.root) == (f"{folder}/known.csv", "a b")


def test_one_protocol_is_told_with_what_it_trains_on(m2: Callable[..., Ran], folder: Path) -> None:
    ran = m2("data", "protocols", folder / "p.yaml", "--data", folder)
    assert "choose shots: 2, 4" in ran.out
    assert "train:" not in ran.out
    ran = m2("data", "protocols", folder / "p.yaml", "--data", folder, "--root", "v", "--choose", "shots=2")
    assert ran.out.splitlines()[-1] == (
        f"train: data.train={folder}/train_2.txt data.val=null data.test=null data.classes={folder}/known.csv data.root=v"
    )
    told = json.loads(m2("data", "protocols", "kinetics-400", "--json").out)
    assert told["views"] == "4x3"
    assert told["tests"]["val"]["kind"] == "supervised"
    assert told["train"]["train"] == "data/kinetics-400/train.txt"

"""--strength in every command that reads a model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from m2clip import load
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import class_folders, tiny_model


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose adapters are far from the identity."""
    model = tiny_model(NAMES)
    model.info = model.info.model_copy(update={"training": {"epochs": 1, "seed": 3}})
    with torch.no_grad():
        for parameter in model.trained_parameters().values():
            parameter += 0.05
    return model.save(tmp_path_factory.mktemp("learned") / "learned.safetensors")


def test_every_command_takes_a_strength(m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path) -> None:
    video, model = place / "good.mp4", ("--checkpoint", learned)
    tiny_model(NAMES, method="frozen").save(tmp_path / "frozen.safetensors")
    frozen = ("--checkpoint", tmp_path / "frozen.safetensors")
    for command in (
        ("classify", video, "--labels", "a,b"),
        ("timeline", video, "--labels", "a,b"),
        ("embed", video),
    ):
        weak, strong, clip = (
            json.loads(m2(*command, "--json", *options).out) for options in ((*model, "--strength", 0), model, frozen)
        )
        assert (weak["strength"], strong["strength"]) == (0, 1)
        seen = "windows" if command[0] == "timeline" else "videos"
        assert weak[seen] == clip[seen] != strong[seen]
    reports = [
        json.loads(m2("evaluate", learned, "--data", place / "data", "--json", *options).out)
        for options in ((), ("--strength", 1), ("--strength", 0.5))
    ]
    assert [report["protocol"]["strength"] for report in reports] == [1, 1, 0.5]
    assert reports[0]["metrics"] == reports[1]["metrics"]


def test_a_checkpoints_own_strength_is_used_unless_told_otherwise(
    m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path
) -> None:
    model = load(learned)
    model.info = model.info.model_copy(update={"strength": 0.25})
    model.save(tmp_path / "tuned.safetensors")

    def embedding(*options: object) -> list[float]:
        (video,) = json.loads(m2("embed", place / "good.mp4", "--json", *options).out)["videos"]
        return video["embedding"]

    tuned = embedding("--checkpoint", tmp_path / "tuned.safetensors")
    assert tuned == embedding("--checkpoint", learned, "--strength", 0.25)
    full = embedding("--checkpoint", tmp_path / "tuned.safetensors", "--strength", 1)
    assert full == embedding("--checkpoint", learned)
    assert not np.allclose(full, tuned, atol=1e-4)


def test_a_strength_that_cannot_be(m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path) -> None:
    for value in ("-0.1", "1.5", "nan", "much"):
        ran = m2("evaluate", learned, "--data", place / "data", f"--strength={value}")
        assert ran.code == 2
        assert "--strength" in ran.err
    tiny_model(NAMES, method="frozen").save(tmp_path / "frozen.safetensors")
    ran = m2("embed", place / "good.mp4", "--json", "--checkpoint", tmp_path / "frozen.safetensors", "--strength", 0.5)
    assert ran.code == 1
    assert "the method frozen has no adapters to weaken" in one_sentence(ran)


def test_tune_strength(m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "novel", ["walking", "running"], each=1)
    command = ("tune-strength", learned, "--data", place / "data", "--novel", tmp_path / "novel")
    ran = m2(*command, "--out", tmp_path / "out", "--save", tmp_path / "tuned.safetensors")
    assert ran.code == 0
    *rows, last = ran.out.splitlines()
    assert rows[0].split() == ["strength", "trained", "(ensemble)", "novel", "(similarity)", "harmonic", "mean"]
    assert [row.split()[0] for row in rows[1:]] == [f"{k / 10:g}" for k in range(11)]
    document = json.loads((tmp_path / "out/strength.json").read_text())
    assert f"best by harmonic mean: strength {document['best']:g}" in last
    assert load(tmp_path / "tuned.safetensors").strength == document["best"]
    printed = json.loads(m2(*command, "--strengths", "0.2, 1", "--json").out)
    assert [point["strength"] for point in printed["points"]] == [0.2, 1]
    assert [point for point in document["points"] if point["strength"] in (0.2, 1)] == printed["points"]


def test_tune_strength_reads_class_tables(m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{name}/0.mp4 {k}\n" for k, name in enumerate(NAMES)))
    (tmp_path / "classes.csv").write_text("id,name\n" + "".join(f"{k},{name}\n" for k, name in enumerate(NAMES)))
    table = ("--data", tmp_path / "list.txt", "--root", place / "data", "--classes", tmp_path / "classes.csv")
    (tmp_path / "novel.csv").write_text("id,name\n0,walking\n1,running\n2,jumping\n")
    novel = (
        "--novel", tmp_path / "list.txt", "--novel-root", place / "data", "--novel-classes", tmp_path / "novel.csv"
    )  # fmt: skip
    ran = m2("tune-strength", learned, *table, *novel, "--strengths", "1", "--json")
    assert json.loads(ran.out)["novel"]["class_names"] == ["walking", "running", "jumping"]
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--strengths", "0,much"), 2, "is not of the form 0,0.5,1"),
        (("--strengths", "0,2"), 1, "different numbers between 0 and 1"),
        (("--novel-classes", "classes.txt"), 2, "it speaks of --novel"),
        (("--novel-root", "."), 2, "it speaks of --novel"),
        (("--views", "2"), 2, "--views"),
        (("--out", "/dev/null/out"), 1, "cannot be written to /dev/null/out"),
        (("--save", "/dev/null/a.safetensors"), 1, "cannot be written to /dev/null"),
        (("--novel", "/gone"), 1, "/gone"),
    ],
)
def test_tune_strength_refuses_in_words(
    m2: Callable[..., Ran], place: Path, learned: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = m2("tune-strength", learned, "--data", place / "data", *arguments)
    assert ran.code == code
    assert words in (one_sentence(ran) if code == 1 else ran.err)


def test_tune_strength_needs_trained_classes(
    m2: Callable[..., Ran], place: Path, learned: Path, tmp_path: Path
) -> None:
    ran = m2("tune-strength", "builtin", "--data", place / "data")
    assert ran.code == 1
    assert "no classes of its own" in one_sentence(ran)
    class_folders(tmp_path / "data", ["walking", "running"], each=1)
    ran = m2("tune-strength", learned, "--data", tmp_path / "data")
    assert ran.code == 1
    assert "videos of others go to --novel" in one_sentence(ran)

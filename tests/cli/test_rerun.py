"""m2clip rerun: the same report comes out, what differs is said, and a stranger's report can do no more than run our commands."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m2clip.cli import app
from m2clip.data.manifest import ClassTable, read_manifest
from m2clip.data.shards.writing import write_shards
from m2clip.errors import ConfigError
from m2clip.evaluate import evaluate
from m2clip.rerun import compare, read_report
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import TINY, class_folders, tiny_model
from tests.web_server import body, serving


@pytest.fixture(scope="module")
def made(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an evaluation left, in a folder with its data and model, which was the working directory."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(place / "model.safetensors", folder)
    lines = [f"{place / 'data' / name / '0.mp4'},{name}\n" for name in NAMES]
    (folder / "list.csv").write_text("path,label\n" + "".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = "evaluate model.safetensors --data list.csv --frames 3 --views 2x1 --out first"
        app(said.split(), standalone_mode=False)
    return folder


@pytest.fixture
def report(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report in a copy of that folder, which is the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "first/report.json"


def changed(report: Path, **changes: Any) -> Path:
    """The report with other values in its `run`; a name that is not there goes into its settings."""
    document = json.loads(report.read_text())
    for name, value in changes.items():
        if name in document["run"]:
            document["run"][name] = value
        else:
            document["run"]["settings"][name] = value
    report.write_text(json.dumps(document))
    return report


def test_an_evaluation_comes_out_the_same(m2: Callable[..., Ran], report: Path, tmp_path: Path) -> None:
    ran = m2("rerun", report, "--out", "second")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("the same in all ")
    first, second = (json.loads(path.read_text()) for path in (report, tmp_path / "second/report.json"))
    run = first["run"]
    assert run == second["run"] | {"folder": run["folder"]}
    assert {**first, "seconds": 0, "run": 0} == {**second, "seconds": 0, "run": 0}
    assert (run["command"], run["seed"], run["processes"]) == ("evaluate", 3, 1)
    assert run["settings"]["views"] == "2x1"
    assert [one["setting"] for one in run["inputs"]] == ["checkpoint", "data"]
    assert run["inputs"][1]["sha256"] == first["protocol"]["data"]["sha256"]


def test_other_numbers_are_named(
    m2: Callable[..., Ran], report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    document = json.loads(report.read_text())
    was = document["metrics"]["similarity"]["top1"]
    document["metrics"]["similarity"]["top1"] = 0.125
    report.write_text(json.dumps(document))
    ran = m2("rerun", report)
    assert ran.code == 1
    assert ran.out.splitlines()[1] == f"metrics.similarity.top1: 0.125 before, {json.dumps(was)} now"
    said = json.loads(m2("rerun", report, "--json").out)
    assert (said["same"], len(said["differences"])) == (False, 1)
    assert not any(path.name.startswith("m2clip-rerun") for path in tmp_path.iterdir())


@pytest.mark.parametrize(("name", "setting"), [("model.safetensors", "checkpoint"), ("list.csv", "data")])
def test_other_inputs_are_told_before_the_work(
    m2: Callable[..., Ran], report: Path, made: Path, tmp_path: Path, name: str, setting: str
) -> None:
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b"\n")
    ran = m2("rerun", report)
    assert ran.code == 1
    assert f"{setting} is {name}, whose content has the SHA-256 " in one_sentence(ran)
    path.unlink()
    assert f"{setting} is {name}, and no file or folder is there; the report was made in {made}" in one_sentence(
        m2("rerun", report)
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": "push"}, "run.command"),
        ({"out": "/tmp/elsewhere"}, "evaluate has no setting 'out'"),
        ({"dry_run": True}, "evaluate has no setting 'dry_run'"),
        ({"views": "9x99999"}, "run.settings are not those of evaluate"),
        ({"views": {"a": 1}}, "run.settings.views cannot be"),
        ({"batch_size": "--json"}, "run.settings are not those of evaluate"),
        ({"per_view": "yes"}, "run.settings.per_view cannot be"),
        ({"device": "cpu\0"}, "holds a zero byte"),
        ({"data": "https://example.org/list.csv"}, "data is the address https://example.org/list.csv; add --fetch"),
        ({"checkpoint": "hf-hub:some/one"}, "checkpoint is the address hf-hub:some/one; add --fetch"),
        ({"weights": "some/one"}, "weights is the address some/one; add --fetch"),
        ({"inputs": []}, "data is the file list.csv, and the report does not say which SHA-256"),
        ({"data": "first/scores.csv"}, "data is the file first/scores.csv, and the report does not say"),
        ({"templates": "/dev/zero"}, "templates is the file /dev/zero, and the report does not say"),
        ({"threads": 10**9}, "run.threads"),
        ({"inputs": [{"setting": "data", "path": "/dev/zero", "sha256": "0" * 64}]}, "no file or folder is there"),
        ({"extra": 1}, "evaluate has no setting 'extra'"),
    ],
)
def test_a_strangers_report_is_refused_in_a_sentence(
    m2: Callable[..., Ran], report: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    ran = m2("rerun", changed(report, **changes))
    assert ran.code == 1
    assert said in one_sentence(ran)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        "[" * 100_000,
        '{"run": 1}',
        '{"run": {"settings": ' + '{"a":' * 900 + "1" + "}" * 902,
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(m2: Callable[..., Ran], tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    ran = m2("rerun", path)
    assert ran.code == 1
    assert str(path) in one_sentence(ran)


def test_a_run_is_trained_again_to_the_same_bytes(m2: Callable[..., Ran], tmp_path: Path) -> None:
    """Settings come from the report alone: the file that the run was started with may be gone."""
    videos = class_folders(tmp_path / "videos", NAMES[:2], each=2)
    sections = {
        "data": {"train": str(videos), "val": str(videos), "frames": 2, "workers": 0, "cache": str(tmp_path / "cache")},
        "model": {"backbone": TINY.model_dump()},
        "train": {"epochs": 2, "warmup_epochs": 0, "batch_size": 2, "lr": 0.01, "precision": "fp32", "seed": 7},
    }
    config = tmp_path / "run.json"
    config.write_text(json.dumps({"out": str(tmp_path / "run"), **sections}))
    assert m2("train", config).code == 0
    config.unlink()
    written = json.loads((tmp_path / "run/report.json").read_text())
    assert (written["steps"], len(written["epochs"]), written["run"]["seed"]) == (4, 2, 7)
    assert str(tmp_path / "run") not in json.dumps(written)
    kept = sorted((tmp_path / "cache").rglob("*"))
    ran = m2("rerun", tmp_path / "run/report.json", "--out", tmp_path / "again")
    assert ran.code == 0, ran.out + ran.err
    for name in ("best.safetensors", "last.safetensors"):  # not the report, in which the folder of the cache stands
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert sorted((tmp_path / "cache").rglob("*")) == kept
    assert (tmp_path / "again/frames").is_dir()
    (videos / NAMES[0] / "0.mp4").write_bytes(b"shorter")
    ran = m2("rerun", tmp_path / "run/report.json")
    assert "data.train is " in one_sentence(ran)
    assert "names and sizes of its files" in one_sentence(ran)


def test_a_protocol_names_its_lists(m2: Callable[..., Ran], report: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("title: Own\nfolder: .\ntests:\n  all: {list: list.csv, kind: zero-shot}\n")
    ran = m2("evaluate", "model.safetensors", "--protocol", "own.yaml", "--out", "own")
    assert ran.code == 0, ran.err
    document = json.loads((tmp_path / "own/report.json").read_text())
    assert [one["setting"] for one in document["run"]["inputs"]] == ["checkpoint", "tests.all.list", "protocol"]
    assert m2("rerun", "own/report.json").code == 0


def test_a_report_keeps_no_password_of_an_address(
    m2: Callable[..., Ran], report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    write_shards(read_manifest(tmp_path / "list.csv", classes=ClassTable(NAMES)), tmp_path / "shards", base=tmp_path)
    with serving() as server:
        for path in (tmp_path / "shards").iterdir():
            server.answers[f"/{path.name}"] = body(path.read_bytes())
        shown = f"{server.url}/shards.parquet"
        address = f"{shown.replace('//', '//user:hidden@')}?key=private"
        ran = m2("evaluate", "model.safetensors", "--data", address, "--frames", "3", "--views", "2x1", "--out", "web")
    assert ran.code == 0, ran.err
    for path in (tmp_path / "web").iterdir():
        assert not any(secret in path.read_bytes() for secret in (b"hidden", b"private")), path
    assert json.loads((tmp_path / "web/report.json").read_text())["run"]["settings"]["data"] == f"{shown}?..."
    assert f"data is the address {shown}?...; add --fetch" in one_sentence(m2("rerun", "web/report.json"))


def test_tuning_and_what_python_measured(m2: Callable[..., Ran], report: Path, tmp_path: Path) -> None:
    ran = m2("tune-strength", "model.safetensors", "--data", "list.csv", "--strengths", "0,1", "--out", "tuned")
    assert ran.code == 0, ran.err
    assert m2("rerun", "tuned/strength.json").code == 0
    manifest = read_manifest(tmp_path / "list.csv", classes=ClassTable(NAMES))
    evaluate(tiny_model(NAMES), manifest).write(tmp_path / "python")
    with pytest.raises(ConfigError, match="does not say how it was made"):
        read_report(tmp_path / "python/report.json")


def test_numbers_may_differ_by_the_tolerance_and_no_more() -> None:
    before = {"a": [1.0, 2], "b": {"c": None}, "seconds": 3.0, "run": 1, "none": float("inf")}
    now = {"a": [1.0 + 1e-7, 2], "b": {"c": None}, "seconds": 9.0, "run": 2, "none": float("inf")}
    assert compare(before, before) == (4, [])
    assert [one.place for one in compare(before, now)[1]] == ["a[0]"]
    assert compare(before, now, tolerance=1e-6) == (4, [])
    assert [one.place for one in compare({"a": 1}, {"a": True, "b": 2})[1]] == ["a", "b"]
    assert [one.place for one in compare({"a": [1]}, {"a": [1, 2]})[1]] == ["a"]

"""train and evaluate: reports, class tables, bad lists and bad files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import TINY, class_folders


@pytest.mark.case("E6", "L10")
def test_evaluate_writes_a_report(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", place / "model.safetensors", "--data", place / "data", "--out", tmp_path / "out")
    ran = m2(*arguments)
    assert ran.code == 0
    assert (
        "supervised, 3 classes, 8 frames in uniform segments, 1x1 views: 6 of 6 videos scored, 0 missing, 0 bad"
        in ran.out
    )
    told = f"texts: 'A video of {{}}', 3 in all; weights: {place / 'model.safetensors'}, adapted, "
    assert told in ran.out
    assert f"tensors loaded; data: {place / 'data'}" in ran.out
    assert {"similarity", "visual", "ensemble"} <= set(ran.out.split())
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    again = m2(*arguments, "--json")
    printed = json.loads(again.out)
    assert printed["metrics"] == written["metrics"]
    assert printed["protocol"] == written["protocol"]
    used = printed["protocol"]
    assert used["texts"] == [[f"A video of {name}"] for name in NAMES]
    assert (used["template"], used["more_templates"]) == ("A video of {}", [])
    assert used["model"]["average"] is None


@pytest.mark.case("L10")
def test_evaluate_with_templates_and_texts_of_files(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "templates.txt").write_text("see {}\n{}, see\n")
    (tmp_path / "texts.json").write_text(json.dumps({name: [f"something is {name}"] for name in (*NAMES, "more")}))
    arguments = ("evaluate", place / "model.safetensors", "--data", place / "data", "--json")
    both = ("--templates", tmp_path / "templates.txt", "--texts", tmp_path / "texts.json")
    own, other = (json.loads(m2(*arguments, *more).out) for more in ((), both))
    assert own["protocol"]["texts"][0] == ["A video of bouncing"]
    assert other["protocol"]["texts"][0] == ["see bouncing", "bouncing, see", "something is bouncing"]
    assert other["protocol"]["texts_file"]["path"] == str(tmp_path / "texts.json")
    assert own["metrics"]["visual"] == other["metrics"]["visual"]
    assert json.loads(m2(*arguments, *both, "--dry-run").out)["parts"]["data"]["texts"] == other["protocol"]["texts"]
    (tmp_path / "texts.json").write_text('{"bouncing": "something bounces",\n"moving" "x"}')
    for more in ((), ("--dry-run",)):
        ran = m2(*arguments, *both, *more)
        assert ran.code == 1
        assert "texts.json:2: not valid JSON" in one_sentence(ran)


@pytest.mark.case("E9")
def test_evaluate_zero_shot_with_any_classes(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    model = place / "model.safetensors"
    class_folders(tmp_path / "data", ["walking", "running"], each=1)
    refused = m2("evaluate", model, "--data", tmp_path / "data")
    assert refused.code == 1
    assert "zero-shot" in one_sentence(refused)
    (tmp_path / "classes.txt").write_text("walking\nrunning\n")
    refused = m2("evaluate", model, "--data", tmp_path / "data", "--classes", tmp_path / "classes.txt")
    assert refused.code == 1
    assert "needs the checkpoint's 3 classes" in one_sentence(refused)
    ran = m2("evaluate", model, "--data", tmp_path / "data", "--protocol", "zero-shot", "--json")
    assert ran.code == 0
    assert list(json.loads(ran.out)["metrics"]) == ["similarity"]


def test_evaluate_orders_class_tables_by_id(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{name}/0.mp4 {k}\n" for k, name in enumerate(NAMES)))
    shuffled = "id,name\n2,spinning\n0,bouncing\n1,moving\n"
    (tmp_path / "shuffled.csv").write_text(shuffled)
    (tmp_path / "sorted.csv").write_text("id,name\n0,bouncing\n1,moving\n2,spinning\n")
    reports = [
        m2(
            "evaluate", place / "model.safetensors", "--data", tmp_path / "list.txt", "--root", place / "data",
            "--classes", tmp_path / name, "--json",
        )
        for name in ("shuffled.csv", "sorted.csv")
    ]  # fmt: skip
    first, second = (json.loads(ran.out)["metrics"] for ran in reports)
    assert first == second


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "data/moving/0.mp4 moving\ndata/moving/1.mp4 movin\n",
            "list.txt:2: unknown class 'movin': did you mean 'moving'?",
        ),
        ("data/moving/0.mp4 0\ndata/moving/1.mp4 7\n", "list.txt:2: label 7 is out of range 0..2"),
        ("data/moving/0.mp4 1\ndata/moving/1.mp4 3\n", "do labels start at 1?"),
    ],
)
def test_bad_labels_are_refused_with_file_and_line(
    m2: Callable[..., Ran], place: Path, tmp_path: Path, lines: str, expected: str
) -> None:
    (tmp_path / "list.txt").write_text(lines)
    ran = m2("evaluate", place / "model.safetensors", "--data", tmp_path / "list.txt", "--root", place)
    assert ran.code == 1
    assert expected in one_sentence(ran)


def test_duplicate_ids_are_refused(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name\n0,bouncing\n0,moving\n")
    ran = m2("data", "list", place / "data", "--classes", tmp_path / "classes.csv")
    assert ran.code == 1
    assert "classes.csv:3: id 0 stands already in line 2" in one_sentence(ran)


def test_evaluate_with_bad_files(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("good.mp4 0\nempty.mp4 1\ngone.mp4 2\n")
    arguments = ("evaluate", place / "model.safetensors", "--data", tmp_path / "list.txt", "--root", place)
    ran = m2(*arguments)
    assert ran.code == 0
    assert len(ran.err.splitlines()) == 2
    assert "1 of 3 videos scored, 1 missing, 1 bad" in ran.out
    ran = m2(*arguments, "--on-bad-file", "stop", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "empty.mp4" in one_sentence(ran)
    assert not any((tmp_path / "out").iterdir())


def test_missing_data_and_unwritable_results(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    ran = m2("evaluate", place / "model.safetensors", "--data", tmp_path / "gone")
    assert ran.code == 1
    assert "gone" in one_sentence(ran)
    (tmp_path / "file").touch()
    ran = m2(
        "embed",
        place / "good.mp4",
        "--checkpoint",
        place / "model.safetensors",
        "--out",
        tmp_path / "file" / "x.parquet",
    )
    assert ran.code == 1
    assert "give a folder that can be made or written to" in one_sentence(ran)
    # Refused before the first video is looked at: finished work is never lost to a wrong folder.
    data = ("--data", place / "data", "--out", tmp_path / "file")
    ran = m2("evaluate", place / "model.safetensors", *data)
    assert ran.code == 1
    assert "the results cannot be written to" in one_sentence(ran)


@pytest.mark.slow
@pytest.mark.case("L5")
def test_train_then_evaluate_then_classify(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    settings = {
        "out": str(tmp_path / "run"),
        "data": {"train": str(place / "data"), "val": str(place / "data"), "frames": 4, "workers": 0, "flip": False},
        "model": {
            "backbone": {
                key: value for key, value in TINY.model_dump(mode="json").items() if key not in ("mean", "std")
            }
        },
        "train": {"epochs": 2, "warmup_epochs": 1, "batch_size": 4, "precision": "fp32"},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(settings))  # JSON is YAML, too
    ran = m2("train", tmp_path / "run.yaml", "train.epochs=1", "train.warmup_epochs=0", "--json")
    assert ran.code == 0, ran.err
    best = json.loads(ran.out)["best"]
    again = m2("train", tmp_path / "run.yaml", "train.epochs=1", "train.warmup_epochs=0")
    assert again.code == 1
    assert "already holds a run" in one_sentence(again)
    report = json.loads(m2("evaluate", best, "--data", place / "data", "--json").out)
    assert list(report["metrics"]) == ["similarity", "visual", "ensemble"]
    assert report["protocol"]["seed"] == 0
    document = json.loads(m2("classify", place / "good.mp4", "--checkpoint", best, "--json").out)
    assert (document["reading"], document["frames"], sorted(document["texts"])) == ("ensemble", 4, sorted(NAMES))


def test_a_job_begins_or_goes_on_by_the_same_command(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        json.dumps(
            {
                "out": str(tmp_path / "run"),
                "data": {"train": str(place / "data"), "frames": 2, "workers": 0},
                "model": {"backbone": TINY.model_dump(mode="json")},
                "train": {"epochs": 2, "warmup_epochs": 0, "batch_size": 6, "lr": 0.01},
            }
        )
    )
    job = ("train", tmp_path / "run.json", "--auto-resume")
    assert m2(*job, "train.stop_after_epoch=1").code == 0
    assert m2(*job).code == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2]
    assert "already holds a run; resume it" in one_sentence(m2("train", tmp_path / "run.json"))
    refused = m2(*job, "--resume")
    assert refused.code == 1
    assert "--resume needs a run and --auto-resume needs none" in one_sentence(refused)

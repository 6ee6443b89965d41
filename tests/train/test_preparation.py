"""What a run reads before its first step: descriptions of classes beside the texts of their table."""

import json
from pathlib import Path
from typing import Any

import pytest

from m2clip import load
from m2clip.config import RunConfig
from m2clip.data.manifest import read_manifest
from m2clip.errors import ConfigError, ManifestError
from m2clip.evaluate import evaluate
from m2clip.train import train
from m2clip.train.preparation import build_model, doubts, hashes, read_data
from tests.small_inputs import TINY, class_folders

NAMES = ("bouncing", "moving")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("videos"), NAMES, each=1)


def settings(videos: Path, **changes: Any) -> RunConfig:
    values: dict[str, dict[str, Any]] = {
        "data": {"train": str(videos), "val": str(videos), "workers": 0},
        "model": {"backbone": TINY},
        "train": {},
    }
    for key, value in changes.items():
        section, name = key.split(".")
        values[section][name] = value
    return RunConfig.model_validate({"out": "unused", **values})


def test_descriptions_stand_behind_templates_and_table(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text('{"Moving": ["it goes", "it runs"], "bouncing": "it jumps", "more": "x"}')
    (tmp_path / "classes.csv").write_text("id,name,text_1\n0,bouncing,up and down\n1,moving,\n")
    changes = {"data.texts": str(tmp_path / "texts.json"), "model.more_templates": ("see {}",)}
    for table, own in (({}, []), ({"data.classes": str(tmp_path / "classes.csv")}, ["up and down"])):
        config = settings(videos, **changes, **table)
        training, validation, _ = read_data(config)
        model = build_model(config, training)
        assert [list(texts) for texts in model.info.texts] == [
            ["A video of bouncing", "see bouncing", *own, "it jumps"],
            ["A video of moving", "see moving", "it goes", "it runs"],
        ]
        assert validation is not None
        assert validation.class_names == NAMES
        assert model.info.further_texts == ((*own, "it jumps"), ("it goes", "it runs"))


def test_other_descriptions_are_another_run(videos: Path, tmp_path: Path) -> None:
    """A resumed run compares these hashes; the path of the file may change, its texts may not."""
    seen = []
    for name, text in (("a", "it goes"), ("b", "it goes"), ("c", "it runs")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"moving": text, "bouncing": "it jumps"}))
        config = settings(videos, **{"data.texts": str(tmp_path / f"{name}.json")})
        training, _, _ = read_data(config)
        seen.append(hashes(training, build_model(config, training))["classes"])
    assert seen[0] == seen[1] != seen[2]


def test_descriptions_that_do_not_fit_are_refused(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text('{"movin": "it goes", "bouncing": "it jumps"}')
    with pytest.raises(
        ConfigError, match=r"texts.json: one class has no text, the first is 'moving' \('movin' is there"
    ):
        read_data(settings(videos, **{"data.texts": str(tmp_path / "texts.json")}))


def test_the_mean_of_texts_needs_more_than_one(videos: Path) -> None:
    config = settings(videos, **{"train.class_text": "mean"})
    with pytest.raises(ConfigError, match="every class has one text only"):
        build_model(config, read_data(config)[0])
    config = settings(videos, **{"train.class_text": "mean", "model.more_templates": ("see {}",)})
    assert len(build_model(config, read_data(config)[0]).info.texts[0]) == 2


@pytest.mark.case("T1")
def test_steps_too_few_and_small_to_learn_from_are_doubted(videos: Path) -> None:
    """30 steps at 3e-5, as the default rate is at a batch of 8: half of 30 * 3.125e-5 is 0.0005."""
    config = settings(videos, **{"train.batch_size": 8, "train.epochs": 30})
    told = [doubt for doubt in doubts(config, read_data(config)[0]) if "few and small" in doubt]
    assert [sentence[: sentence.index(", where")] for sentence in told] == [
        "the steps are few and small: 30 of them, with train.lr at 3.1e-05 and less, can move a weight by about 0.0005 in all"
    ]
    for changes in (
        {"train.lr": 3e-3, "train.batch_size": 8, "train.epochs": 30},
        {"train.batch_size": 8, "train.epochs": 400},
        {"model.method": "full", "train.batch_size": 8, "train.epochs": 30},
    ):
        config = settings(videos, **changes)
        assert not any("few and small" in doubt for doubt in doubts(config, read_data(config)[0]))


@pytest.mark.case("T1")
def test_classes_without_videos_are_doubted_without_a_validation_list_too(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("nothing here\nbouncing\nmoving\n")
    (tmp_path / "train.txt").write_text(f"{next((videos / 'moving').iterdir())} 2\n")
    places = {"data.train": str(tmp_path / "train.txt"), "data.classes": str(tmp_path / "names.txt"), "train.lr": 1.0}
    told = doubts(settings(videos, **places), read_data(settings(videos, **places, **{"data.val": None}))[0])
    assert told == [
        f"2 of 3 classes have no sample in {tmp_path / 'train.txt'}: 'nothing here', 'bouncing'",
        f"all samples of {tmp_path / 'train.txt'} are of one class, 'moving': there is nothing to tell apart",
    ]


@pytest.mark.slow
def test_a_run_with_descriptions_leaves_them_in_its_checkpoint(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text('{"moving": ["it goes", "it runs"], "bouncing": "it jumps"}')
    changes = {"epochs": 1, "warmup_epochs": 0, "batch_size": 2, "precision": "fp32", "class_text": "mean"}
    config = settings(videos, **{"data.texts": str(tmp_path / "texts.json"), "data.frames": 2})
    config = config.model_copy(update={"out": str(tmp_path / "run"), "train": config.train.model_validate(changes)})
    model = load(train(config))
    (tmp_path / "texts.json").unlink()
    result = evaluate(model, read_manifest(videos))
    assert result.document["protocol"]["texts"] == [
        ["A video of bouncing", "it jumps"],
        ["A video of moving", "it goes", "it runs"],
    ]
    assert [row["word"] for row in result.document["masked_words"]["verbs"]["by_word"]] == ["bouncing", "moving"]


@pytest.mark.case("L4")
def test_a_label_out_of_range_ends_the_run_before_a_model_is_built(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_text("".join(f"action number {n}\n" for n in range(51)))
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 51\n")
    monkeypatch.setattr("m2clip.train.preparation.create", lambda **given: pytest.fail("a model was built"))
    config = settings(
        videos, **{"data.train": str(tmp_path / "train.txt"), "data.classes": str(tmp_path / "names.txt")}
    )
    with pytest.raises(ManifestError, match=r"train\.txt:2: label 51 is out of range 0\.\.50 \(51 classes\)"):
        train(config.model_copy(update={"out": str(tmp_path / "run")}))


def test_a_run_says_what_its_lists_have_twice(videos: Path, tmp_path: Path) -> None:
    name = next((videos / "moving").iterdir()).name
    (tmp_path / "train.csv").write_text(f"path,label\nmoving/{name},moving\nmoving/{name},bouncing\n")
    config = settings(videos, **{"data.train": str(tmp_path / "train.csv"), "data.root": str(videos)})
    training, validation, _ = read_data(config)
    told = doubts(config, training, validation)
    assert any("train.csv repeats another under a different label" in sentence for sentence in told)
    assert any("are also in" in sentence for sentence in told)

"""convert, info, data list and data make-shapes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import m2clip
from m2clip import load
from m2clip.config import BackboneConfig
from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import TINY


def test_info_tells_what_the_checkpoint_knows(m2: Callable[..., Ran], place: Path) -> None:
    record = json.loads(m2("info", place / "model.safetensors", "--json").out)
    assert record["class_names"] == list(NAMES)
    assert record["frames"] == 8
    assert record["format_version"] == "3"
    text = m2("info", place / "model.safetensors").out
    assert 'class_names: ["bouncing", "moving", "spinning"]' in text


def test_data_list_counts_and_names_missing_files(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    ran = m2("data", "list", place / "data")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "      2  bouncing",
        "      2  moving",
        "      2  spinning",
        "6 videos, 3 classes, 0 missing",
    ]
    (tmp_path / "list.csv").write_text("path,label\ngood.mp4,a\ngone.mp4,b\n")
    ran = m2("data", "list", tmp_path / "list.csv", "--root", place, "--json")
    document = json.loads(ran.out)
    assert (document["listed"], document["found"]) == (2, 1)
    assert document["missing"] == [{"path": str(place / "gone.mp4"), "where": f"{tmp_path / 'list.csv'}:3"}]
    assert "gone.mp4" in one_sentence(ran)
    (tmp_path / "list.csv").write_text("path,label\ndata\\gone.mp4,a\n")
    ran = m2("data", "list", tmp_path / "list.csv", "--root", place)
    assert "folders are separated by / here" in one_sentence(ran)


def test_data_list_names_only_some_of_many_missing_files(m2: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{n}.mp4,a\n" for n in range(60)))
    ran = m2("data", "list", tmp_path / "list.csv")
    *named, last = ran.err.splitlines()
    assert len(named) == 50
    assert last.startswith("m2clip: missing: 10 more, 60 of 60 in all; check the folder that paths start in (--root)")
    (tmp_path / "0.mp4").touch()
    ran = m2("data", "list", tmp_path / "list.csv", "--json")
    assert len(json.loads(ran.out)["missing"]) == 59
    assert "9 more, 59 of 60 in all; --json" in ran.err.splitlines()[-1]


def test_data_list_says_what_stands_there_twice(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\ngood.mp4,a\ngood.mp4,b\n")
    ran = m2("data", "list", tmp_path / "list.csv", "--root", place)
    assert ran.code == 0
    assert "1 sample of" in one_sentence(ran)
    assert "list.csv repeats another under a different label" in one_sentence(ran)


def test_make_shapes_gives_data_that_can_be_listed(m2: Callable[..., Ran], tmp_path: Path) -> None:
    ran = m2(
        "data", "make-shapes", tmp_path, "--train", 1, "--val", 0, "--test", 0, "--frames", 8, "--size", 32, "--json"
    )
    assert ran.code == 0, ran.err
    lists = json.loads(ran.out)["lists"]
    assert str(tmp_path / "base" / "train.csv") in lists
    listed = m2(
        "data", "list", tmp_path / "base" / "train.csv", "--classes", tmp_path / "base" / "classes.csv", "--json"
    )
    assert json.loads(listed.out)["missing"] == []
    assert {entry["videos"] for entry in json.loads(listed.out)["classes"]} == {1}
    ran = m2("data", "make-shapes", tmp_path, "--seed", 1)
    assert ran.code == 1
    assert "already holds" in one_sentence(ran)


@pytest.mark.case("T14", "T15")
def test_convert_a_clip_and_the_reference(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    sizes = BackboneConfig.model_validate(
        {**TINY.model_dump(), "vision_width": 64, "text_width": 64, "vision_heads": 1, "text_heads": 1}
    )
    clip = m2clip.create(sizes).clip
    save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, tmp_path / "clip.safetensors")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    ran = m2(
        "convert",
        tmp_path / "clip.safetensors",
        tmp_path / "ours.safetensors",
        "--classes",
        tmp_path / "classes.txt",
        "--quick-gelu",
    )
    assert ran.code == 0, ran.err
    assert f"{len(clip.state_dict())} of " in one_sentence(ran)
    assert "tensors came from files, the others are fresh" in one_sentence(ran)
    model = load(tmp_path / "ours.safetensors")
    assert model.info.class_names == ("a", "b")
    for key, value in clip.state_dict().items():
        assert torch.equal(model.clip.state_dict()[key], value)
    reference = Path(__file__).parents[1] / "parity_small" / "official_state_dict.safetensors"
    ran = m2("convert", reference, tmp_path / "reference.safetensors", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["info"]["training"] == {"source": "reference implementation"}
    assert load(tmp_path / "reference.safetensors").info.trained
    ran = m2("convert", place / "other.safetensors", tmp_path / "never.safetensors")
    assert ran.code == 1
    one_sentence(ran)
    assert not (tmp_path / "never.safetensors").exists()


def test_words_with_indices_are_put_in_order(m2: Callable[..., Ran], tmp_path: Path) -> None:
    reference = Path(__file__).parents[1] / "parity_small" / "official_state_dict.safetensors"
    count = len(load_file(reference)["mlm_adapter.bias"])
    lines = [f"word{k} {k}\n" for k in range(count)]
    (tmp_path / "words.txt").write_text("".join(lines[::-1]))
    ran = m2("convert", reference, tmp_path / "out.safetensors", "--words", tmp_path / "words.txt", "--json")
    assert json.loads(ran.out)["info"]["words"][:2] == ["word0", "word1"]
    for bad in ("a 0\nb 0\n", "a 0\nb\n", "a 0\nb x\n"):
        (tmp_path / "words.txt").write_text(bad)
        ran = m2("convert", reference, tmp_path / "out.safetensors", "--words", tmp_path / "words.txt")
        assert ran.code == 1
        assert "words.txt" in one_sentence(ran)

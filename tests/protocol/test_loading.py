"""Protocols on a disk: paths, choices, class tables, and what is trained on."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from m2clip.errors import ConfigError, ManifestError
from m2clip.protocol import load_protocol, shipped_names, shipped_protocols

FEW = """
title: few
folder: data/set
root: videos
frames: 4
views: 2x3
template: "{} it"
choices: {shots: [2, 4], seed: [1]}
train: {list: "lists/train_{shots}_{seed}.txt", val: lists/val.txt, classes: classes.csv}
tests:
  test: {list: lists/test.txt, classes: classes.csv, kind: supervised}
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_paths_are_under_the_folder_and_data_moves_them_all(tmp_path: Path) -> None:
    path = write(tmp_path / "few.yaml", FEW)
    protocol = load_protocol(path)
    assert (protocol.name, protocol.title, protocol.views) == ("few", "few", (2, 3))
    assert protocol.root == Path("data/set/videos")
    assert protocol.tests["test"].list == Path("data/set/lists/test.txt")
    assert protocol.tests["test"].classes == Path("data/set/classes.csv")
    assert protocol.texts is not None
    assert protocol.texts.texts(["run"]) == (("run it",),)
    moved = load_protocol(path, folder=tmp_path / "there", root="elsewhere")
    assert moved.tests["test"].list == tmp_path / "there/lists/test.txt"
    assert moved.root == Path("elsewhere")


def test_the_choices_complete_what_is_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "few.yaml", FEW)
    protocol = load_protocol(path, choices={"shots": 4, "seed": "1"})
    assert protocol.chosen == {"shots": "4", "seed": "1"}
    assert protocol.trains
    assert protocol.train_settings() == {
        "train": "data/set/lists/train_4_1.txt",
        "val": "data/set/lists/val.txt",
        "classes": "data/set/classes.csv",
        "root": "data/set/videos",
    }
    half = load_protocol(path, choices={"shots": 4})
    assert not half.trains
    with pytest.raises(ConfigError, match=r"few.yaml: lists/train_4_\{seed\}.txt needs a choice: set seed to one of 1"):
        half.train_settings()
    for choices, sentence in (
        ({"shots": 3}, "shots is '3', but it must be one of 2, 4"),
        ({"split": 1}, "there is no choice 'split'; the protocol has shots, seed"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            load_protocol(path, choices=choices)


def test_an_open_choice_in_a_test_list_is_refused_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.yaml",
        "title: t\nfolder: f\nchoices: {split: [1, 2]}\ntests:\n  a: {list: 'test_{split}.txt', kind: zero-shot}\n",
    )
    with pytest.raises(ConfigError, match=r"test_\{split\}.txt needs a choice: set split to one of 1, 2"):
        load_protocol(path)
    assert load_protocol(path, choices={"split": 2}).tests["a"].list == Path("f/test_2.txt")


def test_a_protocol_that_only_tests_has_nothing_to_train_on() -> None:
    protocol = load_protocol("ucf101-zero-shot")
    assert not protocol.trains
    with pytest.raises(ConfigError, match="has nothing to train on"):
        protocol.train_settings()


def test_folders_of_classes_need_no_root(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    path = write(
        tmp_path / "p.yaml",
        "title: t\nfolder: f\nroot: r\ntrain: {list: train}\ntests:\n  a: {list: test, kind: supervised}\n",
    )
    assert load_protocol(path, folder=tmp_path).train_settings() == {"train": str(tmp_path / "train")}


def test_a_packed_list_is_found_where_the_plain_one_is_not(tmp_path: Path) -> None:
    text = "title: t\nfolder: f\ntests:\n  a: {list: test.csv, kind: zero-shot}\n"
    path = write(tmp_path / "p.yaml", text)
    (tmp_path / "test.csv.gz").write_bytes(gzip.compress(b"path,label\na.mp4,x\n"))
    assert [one.path for one in load_protocol(path, folder=tmp_path).manifest("a").samples] == [tmp_path / "a.mp4"]
    write(tmp_path / "test.csv", "path,label\nb.mp4,x\n")
    assert [one.path for one in load_protocol(path, folder=tmp_path).manifest("a").samples] == [tmp_path / "b.mp4"]


def test_a_supervised_part_without_a_table_has_the_checkpoints_classes(tmp_path: Path) -> None:
    text = "title: t\nfolder: f\ntests:\n  a: {list: l.txt, kind: supervised}\n  b: {list: l.txt, kind: zero-shot}\n"
    path = write(tmp_path / "p.yaml", text)
    write(tmp_path / "l.txt", "x.mp4 run\n")
    protocol = load_protocol(path, folder=tmp_path)
    assert protocol.manifest("a", class_names=("jump", "run")).class_names == ("jump", "run")
    assert protocol.manifest("b", class_names=("jump", "run")).class_names == ("run",)
    with pytest.raises(ManifestError, match=r"l.txt:1: unknown class 'run'"):
        protocol.manifest("a", class_names=("jump", "walk"))


def test_other_class_names_take_the_place_of_one_table_but_not_of_several(tmp_path: Path) -> None:
    table = write(tmp_path / "own.csv", "id,name\n0,x\n")
    protocol = load_protocol("ucf101-zero-shot", classes=table)
    assert {part.classes for part in protocol.tests.values()} == {table}
    with pytest.raises(ConfigError, match="its parts have class tables of their own"):
        load_protocol("kinetics-600-zero-shot", classes=table)


def test_names_that_are_none_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no protocol 'ucf-zero-shot'.*did you mean ucf101-zero-shot"):
        load_protocol("ucf-zero-shot")
    with pytest.raises(ConfigError, match=r"gone.yaml: the configuration cannot be read"):
        load_protocol(tmp_path / "gone.yaml")
    text = "title: t\nfolder: f\ntests:\n  a: {list: l.txt, classes: ucf100, kind: zero-shot}\n"
    with pytest.raises(ConfigError, match=r"no class table 'ucf100'.*did you mean ucf101"):
        load_protocol(write(tmp_path / "p.yaml", text))


def test_reading_protocols_loads_nothing_heavy() -> None:
    code = "import sys, m2clip.protocol as p; p.shipped_protocols(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_file_begins_with_the_command_that_runs_it(name: str) -> None:
    protocol = load_protocol(name)
    first, rest = protocol.path.read_text().split("\n", 1)
    assert first == f"# m2clip evaluate CHECKPOINT --protocol {name}"
    assert yaml.safe_load(rest)["title"] == shipped_protocols()[name]

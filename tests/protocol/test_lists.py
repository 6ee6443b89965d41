"""The class tables in the package against the lists and labels of the field (../shared/data)."""

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from m2clip.data.classes import ClassTable
from m2clip.data.lists.class_files import read_classes
from m2clip.data.manifest import Manifest, read_manifest
from m2clip.protocol import load_protocol, shipped_names

pytestmark = pytest.mark.shared

TABLES = Path(str(load_protocol("kinetics-400").path)).parent / "classes"
LABELS = {
    "kinetics-400": "k400_400", "kinetics-400-base": "k400_base", "kinetics-400-novel": "k400_novel",
    "something-something-v2": "ssv2_174", "something-something-v2-base": "ssv2_base",
    "something-something-v2-novel": "ssv2_novel", "kinetics-600-split1": "k600_zs160_split1",
    "kinetics-600-split2": "k600_zs160_split2", "kinetics-600-split3": "k600_zs160_split3", "ucf101": "ucf101_101",
    "ucf101-base": "ucf101_base", "ucf101-novel": "ucf101_novel", "hmdb51": "hmdb51_51", "hmdb51-base": "hmdb51_base",
    "hmdb51-novel": "hmdb51_novel",
}  # fmt: skip
VIDEOS = {
    "kinetics-400": {"val": 19877}, "something-something-v2": {"validation": 24777},
    "ucf101-zero-shot": {"split-1": 3783, "split-2": 3734, "split-3": 3696},
    "hmdb51-zero-shot": {"split-1": 1530, "split-2": 1530, "split-3": 1530},
    "kinetics-600-zero-shot": {"split-1": 14084, "split-2": 13978, "split-3": 14136},
    "few-shot-ucf101": {"test": 3783}, "few-shot-hmdb51": {"test": 1530}, "few-shot-something-something-v2": {"test": 24777},
    "base-to-novel-kinetics-400": {"base": 9944, "novel": 9933}, "base-to-novel-ucf101": {"base": 2088, "novel": 1695},
    "base-to-novel-hmdb51": {"base": 780, "novel": 750}, "base-to-novel-something-something-v2": {"base": 17562, "novel": 7215},
}  # fmt: skip
SWAPPED = {"kick": "kick ball", "kick ball": "kick", "sword": "sword exercise", "sword exercise": "sword"}


def table(name: str) -> ClassTable:
    return read_classes(TABLES / f"{name}.csv")


@pytest.fixture(scope="module")
def folders(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each protocol a folder with lists where its page says that they lie."""
    splits = shared / "data" / "splits"
    official = tmp_path_factory.mktemp("official")
    (official / "ucfTrainTestlist").symlink_to(splits / "ucf101_official")
    codes = official / "testTrainMulti_7030_splits"
    codes.mkdir()
    with gzip.open(splits / "hmdb51_official" / "hmdb51_3splits.csv.gz", "rt", newline="") as file:
        lines: dict[str, list[str]] = {}
        for row in csv.DictReader(file):
            for n in (1, 2, 3):
                lines.setdefault(f"{row['class']}_test_split{n}.txt", []).append(f"{row['file']} {row[f'split{n}']} \n")
    for name, rows in lines.items():
        (codes / name).write_text("".join(rows))
    found = dict.fromkeys(shipped_names(), splits / "vificlip")
    found |= {"ucf101-zero-shot": official, "hmdb51-zero-shot": official}
    found["kinetics-400"] = splits / "vificlip" / "k400_splits"
    found["something-something-v2"] = splits / "vificlip" / "ssv2_splits"
    return found


def parts(name: str, folders: dict[str, Path]) -> dict[str, Manifest]:
    protocol = load_protocol(name, folder=folders[name])
    return {part: protocol.manifest(part) for part in protocol.tests}


def class_of_file(shared: Path) -> dict[str, str]:
    """HMDB51: file name -> class, from the official lists."""
    with gzip.open(shared / "data/splits/hmdb51_official/hmdb51_3splits.csv.gz", "rt", newline="") as file:
        return {row["file"]: row["class"].replace("_", " ") for row in csv.DictReader(file)}


def test_every_table_is_held_against_a_label_list() -> None:
    assert {path.stem for path in TABLES.glob("*.csv")} == set(LABELS)


@pytest.mark.parametrize("name", LABELS)
def test_a_table_has_the_ids_and_classes_of_the_fields_list(name: str, shared: Path) -> None:
    ours, theirs = table(name), read_classes(shared / "data" / "labels" / f"{LABELS[name]}.csv").names
    if name.startswith("ucf101"):  # words instead of ApplyEyeMakeup, which is the folder
        assert ours.folders == theirs
        assert [one.replace(" ", "") for one in ours.names] == [one.lower() for one in theirs]
    elif name.startswith("hmdb51"):  # that list has four names at the wrong ids: see the next tests
        assert ours.names == tuple(SWAPPED.get(one, one) for one in theirs)
        assert ours.folders == tuple(one.replace(" ", "_") for one in ours.names)
    else:
        assert ours.names == theirs
        assert ours.folders == ()


def test_every_hmdb51_video_has_the_class_of_the_official_lists(shared: Path, folders: dict[str, Path]) -> None:
    truth = class_of_file(shared)
    for name in ("few-shot-hmdb51", "base-to-novel-hmdb51"):
        for manifest in parts(name, folders).values():
            for sample in manifest.samples:
                assert manifest.class_names[sample.label] == truth[sample.path.name], sample.where


def test_the_fields_hmdb51_labels_would_name_120_of_1530_test_videos_wrong(shared: Path) -> None:
    truth = class_of_file(shared)
    source = shared / "data/splits/vificlip/hmdb_splits/val1.txt.gz"
    manifest = read_manifest(source, classes=shared / "data/labels/hmdb51_51.csv")
    wrong = Counter(
        truth[one.path.name] for one in manifest.samples if manifest.class_names[one.label] != truth[one.path.name]
    )
    assert wrong == dict.fromkeys(SWAPPED, 30)


def test_there_are_as_many_videos_as_the_field_reports(folders: dict[str, Path]) -> None:
    assert set(VIDEOS) == set(shipped_names())
    for name, counts in VIDEOS.items():
        found = parts(name, folders)
        assert {part: len(manifest.samples) for part, manifest in found.items()} == counts, name
        for part, manifest in found.items():
            assert {sample.label for sample in manifest.samples} == set(range(len(manifest.class_names))), (name, part)


def test_kinetics_600_classes_are_new_and_not_only_renamed(shared: Path) -> None:
    labels = shared / "data" / "labels"
    new = set(read_classes(labels / "k600_new220_vs_k400.txt").names)
    other_strings = set(read_classes(labels / "k600_strings_not_in_k400_232.txt").names)
    renamed = other_strings - new
    assert len(renamed) == 12
    assert "tying necktie" in renamed
    kinetics_400 = set(table("kinetics-400").names)
    drawn: set[str] = set()
    for n in (1, 2, 3):
        names = set(table(f"kinetics-600-split{n}").names)
        assert len(names) == 160
        assert names <= new
        assert not names & renamed
        assert not names & kinetics_400
        drawn |= names
    assert len(drawn) == 217


@pytest.mark.parametrize("name", ["kinetics-400", "something-something-v2", "ucf101", "hmdb51"])
def test_base_and_novel_share_no_class_and_make_the_whole(name: str) -> None:
    base, novel = set(table(f"{name}-base").names), set(table(f"{name}-novel").names)
    assert not base & novel
    assert base | novel == set(table(name).names)


@pytest.mark.parametrize("name", ["kinetics-400", "something-something-v2", "few-shot-ucf101", "few-shot-hmdb51"])
def test_base_and_novel_videos_are_the_whole_test_list_under_the_same_names(
    name: str, folders: dict[str, Path]
) -> None:
    def named(manifest: Manifest) -> dict[str, str]:
        return {sample.path.name: manifest.class_names[sample.label] for sample in manifest.samples}

    (whole,) = parts(name, folders).values()
    halves = parts(f"base-to-novel-{name.removeprefix('few-shot-')}", folders)
    assert named(halves["base"]) | named(halves["novel"]) == named(whole)


@pytest.mark.parametrize("name", ["few-shot-ucf101", "few-shot-hmdb51"])
def test_the_few_shot_test_list_is_the_first_official_split(name: str, folders: dict[str, Path]) -> None:
    official = parts(f"{name.removeprefix('few-shot-')}-zero-shot", folders)["split-1"]
    (test,) = parts(name, folders).values()
    assert {(one.path.name, one.label) for one in test.samples} == {
        (one.path.name, one.label) for one in official.samples
    }
    assert test.class_names == official.class_names


@pytest.mark.parametrize("shots", [2, 4, 8, 16])
@pytest.mark.parametrize("data", ["ucf101", "hmdb51", "something-something-v2"])
def test_there_are_exactly_so_many_shots_and_none_is_tested(data: str, shots: int, folders: dict[str, Path]) -> None:
    name = f"few-shot-{data}"
    protocol = load_protocol(name, folder=folders[name], choices={"shots": shots})
    settings = protocol.train_settings()
    training = read_manifest(settings["train"], classes=settings["classes"], root=settings["root"])
    assert Counter(sample.label for sample in training.samples) == dict.fromkeys(
        range(len(training.class_names)), shots
    )
    assert not {one.path for one in training.samples} & {one.path for one in protocol.manifest("test").samples}


@pytest.mark.parametrize("data", ["kinetics-400", "ucf101", "hmdb51", "something-something-v2"])
def test_every_seed_trains_sixteen_shots_of_the_base_classes(data: str, folders: dict[str, Path]) -> None:
    name, lists = f"base-to-novel-{data}", set()
    for seed in (1, 2, 3):
        protocol = load_protocol(name, folder=folders[name], choices={"seed": seed})
        settings = protocol.train_settings()
        training = read_manifest(settings["train"], classes=settings["classes"], root=settings["root"])
        assert training.class_names == table(f"{data}-base").names
        assert set(Counter(sample.label for sample in training.samples).values()) == {16}
        tested = {one.path for part in protocol.tests for one in protocol.manifest(part).samples}
        assert not {one.path for one in training.samples} & tested
        lists.add(training.sha256)
    assert len(lists) == 3


def test_ucf101_videos_lie_in_the_folders_of_their_classes(shared: Path, folders: dict[str, Path]) -> None:
    protocol = load_protocol("ucf101-zero-shot", folder=folders["ucf101-zero-shot"], root="V")
    first = protocol.manifest("split-1").samples[0]
    assert first.path == Path("V/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi")
    few = load_protocol(
        "few-shot-ucf101", folder=folders["few-shot-ucf101"], root=shared / "data/videos/ucf101_samples"
    )
    there = [sample for sample in few.manifest("test").samples if sample.path.exists()]
    assert {sample.path.name for sample in there} == {
        "v_ApplyEyeMakeup_g01_c01.avi",
        "v_BaseballPitch_g01_c01.avi",
        "v_Biking_g05_c02.avi",
        "v_Punch_g03_c01.avi",
    }

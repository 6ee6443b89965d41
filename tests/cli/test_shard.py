"""data shard: what it writes, tells and refuses; its shards are a source of every command that takes data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import NAMES, Ran, one_sentence
from tests.small_inputs import class_folders

Program = Callable[..., Ran]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two videos of each class."""
    return class_folders(tmp_path / "data", NAMES)


def test_a_folder_becomes_shards(m2: Program, data: Path, tmp_path: Path) -> None:
    ran = m2("data", "shard", data, "--out", tmp_path / "out", "--shard-samples", 4)
    assert (ran.code, ran.err) == (0, "")
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert ran.out == f"{tmp_path}/out/shards.parquet: 6 samples in 2 shards, {size / 2**20:.1f} MiB\n"
    listed = json.loads(m2("data", "list", tmp_path / "out", "--json").out)
    assert (listed["listed"], listed["found"]) == (6, 6)
    assert listed["classes"] == [{"name": name, "videos": 2} for name in NAMES]


def test_its_json_names_what_is_left_out(m2: Program, data: Path, tmp_path: Path) -> None:
    (data / "moving" / "empty.mp4").touch()
    ran = m2("data", "shard", data, "--out", tmp_path / "out", "--shuffle-seed", 1, "--json")
    assert ran.code == 0
    document = json.loads(ran.out)
    reason = f"cannot read {data}/moving/empty.mp4: the file is empty; fetch or copy it again"
    assert document["left_out"] == [{"path": "moving/empty.mp4", "where": f"{data}/moving/empty.mp4", "reason": reason}]
    assert (document["index"], document["shards"], document["samples"]) == (f"{tmp_path}/out/shards.parquet", 1, 6)
    assert ran.err.splitlines() == [
        f"m2clip: left out: {reason} (listed at {data}/moving/empty.mp4)",
        "m2clip: left out in all: 1",
    ]
    ran = m2("data", "shard", data, "--out", tmp_path / "other", "--on-bad-file", "stop")
    assert ran.code == 1
    assert "empty.mp4: the file is empty" in one_sentence(ran)


def test_what_it_refuses(m2: Program, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = m2("data", "shard", data, "--out", tmp_path / "file")
    assert ran.code == 1
    assert "file cannot be written (File exists): make room, or give another folder" in one_sentence(ran)
    assert m2("data", "shard", data, "--out", tmp_path / "out").code == 0
    ran = m2("data", "shard", data, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "already holds shards and their index" in one_sentence(ran)
    ran = m2("data", "shard", tmp_path / "absent.csv", "--out", tmp_path / "new")
    assert ran.code == 1
    assert "absent.csv does not exist" in one_sentence(ran)
    assert not (tmp_path / "new").exists()
    assert m2("data", "shard", data, "--out", tmp_path / "new", "--shard-mib", 0).code == 2


def test_commands_take_shards_in_place_of_a_folder(m2: Program, place: Path, data: Path, tmp_path: Path) -> None:
    assert m2("data", "shard", data, "--out", tmp_path / "out", "--shard-samples", 4).code == 0
    ran = m2("data", "check", tmp_path / "out", "--workers", 1, "--frames", 4)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == "usable"
    model = place / "model.safetensors"
    of_files, of_shards = (
        json.loads(m2("evaluate", model, "--data", source, "--per-view", "--json").out)
        for source in (data, tmp_path / "out")
    )
    assert of_shards["metrics"] == of_files["metrics"]
    member = of_shards["videos"][4]["path"]
    assert member == f"{tmp_path}/out/shard-000001.tar/00000004.mp4"
    shown = [json.loads(m2("data", "show", path, "--json").out) for path in (member, of_files["videos"][4]["path"])]
    assert shown[0]["frame_indices"] == shown[1]["frame_indices"]

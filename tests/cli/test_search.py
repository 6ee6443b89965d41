"""embed --out, index and search, from videos to what a user asks for."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from m2clip import Recognizer
from m2clip.builtin.shapes import render_motion, write_video
from m2clip.bulk.wanted_videos import wanted_videos
from m2clip.search import SourceModel
from m2clip.search.building import build_index
from tests.bulk.embedded import embed_videos
from tests.program import Ran, one_sentence

MOTIONS = ("moving left to right", "moving up", "growing")
THINGS = ("red star", "blue square", "green circle")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two MotionShapes videos of each of three things in three motions, in folders that are named after the things."""
    folder = tmp_path_factory.mktemp("shapes")
    for thing in THINGS:
        (folder / thing).mkdir()
        for number, motion in enumerate(2 * MOTIONS):
            pictures = render_motion(thing, motion, seed=number, frames=16, size=64)
            write_video(folder / thing / f"{number} {motion}.mp4", pictures)
    return folder


@pytest.fixture(scope="module")
def index(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their index, by the builtin model."""
    pytest.importorskip("lancedb")
    folder, recognizer = tmp_path_factory.mktemp("index"), Recognizer("builtin", device="cpu")
    source = SourceModel.of(recognizer, "builtin")
    embed_videos(recognizer, wanted_videos([str(shapes)]), folder / "v.parquet", source)
    build_index([folder / "v.parquet"], folder / "index")
    return folder / "index"


@pytest.mark.parametrize("thing", THINGS)
def test_a_text_finds_the_videos_of_a_thing(m2: Callable[..., Ran], index: Path, shapes: Path, thing: str) -> None:
    ran = m2("search", f"a {thing}", "--index", index, "--top", 6, "--json")
    document = json.loads(ran.out)
    assert (ran.code, document["query"], document["checkpoint"]) == (0, {"text": f"a {thing}"}, "builtin")
    assert [Path(one["path"]).parent for one in document["results"]] == 6 * [shapes / thing]
    scores = [one["score"] for one in document["results"]]
    assert scores == sorted(scores, reverse=True)


def test_an_example_finds_itself_and_its_like(m2: Callable[..., Ran], index: Path, shapes: Path) -> None:
    video = shapes / THINGS[1] / "0 moving left to right.mp4"
    ran = m2("search", "--like", video, "--index", index, "--top", 3)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == f"1.0000  {video}"
    assert all(str(shapes / THINGS[1]) in line for line in lines)
    ran = m2("search", "--like", shapes / "none.mp4", "--index", index)
    assert ran.code == 1
    assert "none.mp4" in one_sentence(ran)


def test_moments_of_a_long_video(m2: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    pieces = [render_motion(thing, "growing", seed=0, frames=24, size=64) for thing in THINGS]
    write_video(tmp_path / "long.mp4", np.concatenate(pieces), fps=12)
    table = ("--every", 2, "--out", tmp_path / "v.parquet", "--workers", 1, "--json")
    document = json.loads(m2("embed", tmp_path / "long.mp4", *table).out)
    assert (document["rows"], document["embedded"], document["bad_files"]) == (3, 1, [])
    assert json.loads(m2("index", tmp_path / "v.parquet", "--out", tmp_path / "i", "--json").out) == {
        "index": str(tmp_path / "i"), "rows": 3, "added": 3, "changed": 0, "removed": 0, "approximate": False,
    }  # fmt: skip
    ran = m2("search", f"a {THINGS[2]}", "--index", tmp_path / "i", "--top", 1)
    assert ran.out.endswith("long.mp4  4.0-6.0 s\n")


def test_embedding_again_does_only_what_is_new(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    command = ("embed", place, "--out", tmp_path / "v.parquet", "--checkpoint", place / "model.safetensors")
    ran = m2(*command, "--workers", 0)
    assert ran.code == 1
    assert "7 embeddings of unit norm; videos: 7 embedded, 0 there already, 0 gone, 6 could not be read" in ran.err
    assert f"{tmp_path / 'v.bad_files.csv'} names all such files" in ran.err
    assert ran.out == ""
    ran = m2(*command, "--workers", 0)
    assert "7 embeddings of unit norm; videos: 0 embedded, 7 there already, 0 gone, 6 could not be read" in ran.err
    ran = m2("embed", place / "good.mp4", "--out", tmp_path / "v.parquet", "--workers", 0)
    assert ran.code == 1
    assert "v.parquet holds embeddings of another model" in one_sentence(ran)
    assert pq.read_table(tmp_path / "v.parquet").num_rows == 7


def test_the_model_may_have_moved(m2: Callable[..., Ran], place: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    model = tmp_path / "model.safetensors"
    model.write_bytes((place / "model.safetensors").read_bytes())
    m2("embed", place / "good.mp4", "--out", tmp_path / "v.parquet", "--checkpoint", model, "--workers", 0)
    m2("index", tmp_path / "v.parquet", "--out", tmp_path / "i")
    model.rename(tmp_path / "elsewhere.safetensors")
    ran = m2("search", "anything", "--index", tmp_path / "i")
    assert ran.code == 1
    assert f"{model} is no file" in one_sentence(ran)
    ran = m2("search", "anything", "--index", tmp_path / "i", "--checkpoint", tmp_path / "elsewhere.safetensors")
    assert (ran.code, len(ran.out.splitlines())) == (0, 1)
    ran = m2("search", "anything", "--index", tmp_path / "i", "--checkpoint", "builtin")
    assert ran.code == 1
    assert "builtin is not the model that made these embeddings" in one_sentence(ran)


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (("search", "--index", "i"), 2, "give a text or --like VIDEO, one of them"),
        (("search", "a", "--like", "b.mp4", "--index", "i"), 2, "give a text or --like VIDEO, one of them"),
        (("search", "a"), 2, "Missing option '--index'"),
        (("search", "a", "--index", "i", "--top", "0"), 2, "--top"),
        (("search", "a", "--index", "none here"), 1, "none here holds no index: make one with m2clip index"),
        (("search", "a", "--index", "http://me:secret@host/i"), 1, "http://host/i is no place for an index"),
        (("index", "--out", "i"), 2, "Missing argument"),
        (("index", "none.parquet", "--out", "i"), 1, "none.parquet is not there"),
        (("embed", "a.mp4"), 2, "--out FILE.parquet, or --json"),
        (("embed", "a.mp4", "--json", "--every", "1"), 2, "is for tables: give --out FILE.parquet"),
        (("embed", "a.mp4", "--json", "--root", "x"), 2, "is for tables: give --out FILE.parquet"),
        (("embed", "-", "--out", "v.parquet"), 1, "- is standard input, which cannot be found again"),
    ],
)
def test_wrong_usage(
    m2: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    pytest.importorskip("lancedb")
    monkeypatch.chdir(tmp_path)
    ran = m2(*command)
    assert (ran.code, ran.out) == (code, "")
    said = " ".join(ran.err.replace("│", " ").split())
    assert sentence in said
    assert "Traceback" not in said
    assert "secret" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(m2: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    (tmp_path / "i").mkdir()
    ran = m2("search", "a", "--index", tmp_path / "i")
    assert ran.code == 1
    assert "pip install 'm2clip[search]'" in one_sentence(ran)

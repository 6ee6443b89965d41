"""Training and evaluation from shards: the same clips as from the files, whatever the workers, processes and servers."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from m2clip.data.dataset import BadFile, Batch, Item, VideoDataset
from m2clip.data.frame_cache import FrameCache
from m2clip.data.lists.splits import check_repeats, check_splits
from m2clip.data.loading import make_loader
from m2clip.data.manifest import ClassTable, Manifest, read_manifest
from m2clip.data.shards import cache as shard_cache
from m2clip.data.shards.reading import read_shards
from m2clip.data.shards.writing import write_shards
from m2clip.data.video import Video
from m2clip.errors import ManifestError, VideoError
from tests.data.shards.small_shards import dataset_of, small_videos
from tests.web_server import Server, body, serving, status


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return small_videos(tmp_path_factory.mktemp("files"), 7)


@pytest.fixture(scope="module")
def folder(files: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of the seven files."""
    out = tmp_path_factory.mktemp("shards") / "set"
    write_shards(files, out, base=Path(files.source).parent, shard_samples=3)
    return out


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Gives out the shards, and their index, under /set/; an empty cache; nobody waits between tries."""
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shard_cache, "_WAITS_SECONDS", (0.0,))
    with serving() as server:
        for path in folder.iterdir():
            server.answers[f"/set/{path.name}"] = body(path.read_bytes(), kind="application/octet-stream")
        yield server


def epoch_of(dataset: VideoDataset, **options: object) -> list[Batch]:
    with make_loader(dataset, **{"batch_size": 3, **options}) as loader:  # type: ignore[arg-type]
        return list(loader)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.pixels, b.pixels) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("source", ["", "shards.parquet", "shard-{000000..000002}.tar"])
def test_the_same_seed_gives_the_same_batches(files: Manifest, folder: Path, source: str, train: bool) -> None:
    shards = dataset_of(read_shards(str(folder / source)).samples, train=train)
    plain = dataset_of(files.samples, train=train)
    for workers in (0, 2) if not source else (0,):
        assert same(epoch_of(plain, shuffle=train), epoch_of(shards, shuffle=train, workers=workers))


def test_the_facts_of_a_video_are_the_same(files: Manifest, folder: Path) -> None:
    for sample, other in zip(files.samples, read_shards(folder).samples, strict=True):
        with Video(sample.path) as one, Video(other.path) as two:
            np.testing.assert_array_equal(one.frames(range(8)), two.frames(range(8)))
            assert one.info.fps == two.info.fps


def test_shards_that_were_written_anew_beside_an_old_index(folder: Path, tmp_path: Path) -> None:
    """Other bytes at a place would be another video, or half of one."""
    moved = tmp_path / "set"
    shutil.copytree(folder, moved)
    samples = read_shards(moved).samples
    os.replace(moved / "shard-000001.tar", moved / "shard-000000.tar")
    (moved / "shard-000002.tar").write_bytes((folder / "shard-000002.tar").read_bytes()[:700])
    reasons = [item.reason for item in map(dataset_of(samples).__getitem__, range(7)) if isinstance(item, BadFile)]
    assert [("is not the file that its index was made of" in reason) for reason in reasons] == [True] * 3 + [False] * 4
    assert ["No such file" in reason for reason in reasons] == [False] * 3 + [True] * 3 + [False]
    assert "its shard was cut" in reasons[6]


def test_the_same_shards_in_training_and_validation_are_noticed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    train, val = (
        read_manifest(folder),
        read_manifest(tmp_path / "link" / "shard-000001.tar", classes=ClassTable(("one", "two"))),
    )
    (sentence,) = check_splits(train, val)
    assert sentence.startswith(
        f"3 of 3 samples of {tmp_path}/link/shard-000001.tar are also in {folder}/shards.parquet"
    )
    assert check_splits(train, read_manifest(folder / "shards.parquet")) != []
    twice = Manifest((train.samples[0], train.samples[1], train.samples[0]), ("one", "two"), (), "twice", "0" * 64)  # type: ignore[arg-type]
    assert check_repeats(train) == []
    assert len(check_repeats(twice)) == 1


def test_a_member_can_be_named_as_reports_name_it(files: Manifest, folder: Path) -> None:
    place = read_shards(folder).samples[4].path
    assert str(place) == f"{folder}/shard-000001.tar/00000004.mp4"
    with Video(str(place)) as one, Video(files.samples[4].path) as two:
        assert one.name == str(place)
        np.testing.assert_array_equal(one.frames(range(8)), two.frames(range(8)))
    with pytest.raises(VideoError, match=r"shard-000001\.tar/4\.mp4: the shard has no such member"):
        Video(f"{folder}/shard-000001.tar/4.mp4")
    with pytest.raises(VideoError, match="there is no such file"):
        Video(f"{folder}/shard-000009.tar/4.mp4")


@pytest.mark.parametrize("source", ["shards.parquet", "shard-{000000..000002}.tar"])
def test_shards_behind_an_address(
    files: Manifest, server: Server, source: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Clips are those of the files; each shard is fetched once in many epochs, workers and processes."""
    with caplog.at_level(logging.WARNING):
        found = read_shards(f"{server.url}/set/{source}")
    assert [
        "is no index: its shards are fetched to be looked through" in record.getMessage() for record in caplog.records
    ] == [True] * (source != "shards.parquet")
    dataset, plain = dataset_of(found.samples), dataset_of(files.samples)
    for epoch in (0, 1):
        for one in (dataset, plain):
            one.set_epoch(epoch)
        for world_size, workers in ((1, 2), (2, 0)):
            batches = [
                batch
                for rank in range(world_size)
                for batch in epoch_of(dataset, shuffle=True, rank=rank, world_size=world_size, workers=workers)
            ]
            assert sorted(int(n) for batch in batches for n in batch.indices) == list(range(7))
            for batch in batches:
                for n, pixels in zip(batch.indices.tolist(), batch.pixels, strict=True):
                    assert torch.equal(pixels, plain[n].pixels)  # type: ignore[union-attr]
    asked = [path for path, _ in server.seen if path.endswith(".tar")]
    assert len(asked) == 3


def test_a_cache_that_is_smaller_than_the_set(
    folder: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(path.stat().st_size for path in folder.glob("*.tar"))
    monkeypatch.setenv("M2CLIP_SHARDS_GIB", str(1.5 * largest / 2**30))
    dataset = dataset_of(read_shards(f"{server.url}/set/shards.parquet").samples)
    batches = epoch_of(dataset, shuffle=True, batch_size=1)
    assert sorted(int(batch.indices) for batch in batches) == list(range(7))
    assert sum(path.stat().st_size for path in (tmp_path / "cache" / "shards").glob("*.tar")) <= 1.5 * largest


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_without_a_shard(server: Server, workers: int) -> None:
    found = read_shards(f"{server.url}/set/shards.parquet")
    server.answers["/set/shard-000001.tar"] = status(503)
    batches = epoch_of(dataset_of(found.samples), shuffle=True, workers=workers)
    assert sorted(int(n) for batch in batches for n in batch.indices) == [0, 1, 2, 6]
    bad: list[BadFile] = [file for batch in batches for file in batch.bad]
    assert sorted(file.index for file in bad) == [3, 4, 5]
    assert all("503" in file.reason and "shard-000001.tar" in file.reason for file in bad)
    assert sorted(file.where for file in bad) == [f"{server.url}/set/shards.parquet:{n}" for n in (4, 5, 6)]
    assert [path for path, _ in server.seen].count("/set/shard-000001.tar") == 2  # tries, for all its samples together


def test_an_address_that_went_through_a_path(server: Server, files: Manifest) -> None:
    """As the options of the command line do."""
    found = read_manifest(Path(f"{server.url}/set/shards.parquet"))
    assert found.source == f"{server.url}/set/shards.parquet"
    assert found.samples.labels.tolist() == files.samples.labels.tolist()


def test_what_is_secret_in_an_address_stands_in_no_report(server: Server, folder: Path) -> None:
    secret = server.url.replace("//", "//me:word@")
    found = read_manifest(f"{secret}/set/shards.parquet?sig=key")
    told = f"{server.url}/set/shards.parquet?..."
    assert (found.source, found.samples[0].where) == (told, f"{told}:1")
    assert isinstance(dataset_of(found.samples)[0], Item)  # the password goes to the server, for each shard
    assert len({headers["authorization"] for _, headers in server.seen}) == 1
    place = read_manifest(f"{secret}/set/shard-000000.tar?sig=key").samples[0].where
    assert place == f"{server.url}/set/shard-000000.tar?.../00000000.mp4"
    for source in ("absent/shards.parquet", "absent.tar", "set/shard-{000000..9999999}.tar", "a.tar.gz"):
        with pytest.raises(ManifestError) as caught:
            read_manifest(f"{secret}/{source}?sig=key")
        assert "word" not in str(caught.value)
        assert "key" not in str(caught.value)


def test_shards_have_no_other_root(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is a set of shards, whose videos lie in it: leave out root"):
        read_manifest(folder, root=tmp_path)


def test_an_index_that_cannot_be_fetched(server: Server) -> None:
    server.answers["/set/shards.parquet"] = status(404)
    with pytest.raises(ManifestError, match=r"shards\.parquet: its server answers 404"):
        read_manifest(f"{server.url}/set/shards.parquet")
    with pytest.raises(ManifestError, match=r"shard-000009\.tar: its server answers 404"):
        read_manifest(f"{server.url}/set/shard-{{000008..000009}}.tar".replace("000008", "000009"))


def test_decoded_frames_are_kept_for_members_too(folder: Path, server: Server, tmp_path: Path) -> None:
    expected = epoch_of(dataset_of(read_shards(folder).samples), shuffle=True)
    cache = FrameCache(tmp_path / "frames", most_bytes=2**30)
    for source in (folder, f"{server.url}/set/shards.parquet"):
        dataset = dataset_of(read_shards(source).samples, cache=cache)
        before = len(list((tmp_path / "frames").iterdir()))
        for _ in range(2):
            found = {
                int(n): one
                for batch in epoch_of(dataset, shuffle=True)
                for n, one in zip(batch.indices, batch.pixels, strict=True)
            }
            for batch in expected:
                for n, one in zip(batch.indices.tolist(), batch.pixels, strict=True):
                    assert torch.equal(found[n], one)
        assert len(list((tmp_path / "frames").iterdir())) == before + 7


def test_the_webdataset_library_reads_ours(files: Manifest, folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    pattern = str(folder / "shard-{000000..000002}.tar")
    found = list(webdataset.WebDataset(pattern, shardshuffle=False).to_tuple("mp4", "cls", "json"))
    assert len(found) == 7
    for (video, label, record), sample in zip(found, files.samples, strict=True):
        assert video == sample.path.read_bytes()  # type: ignore[union-attr]
        assert int(label) == sample.label
        assert json.loads(record)["label"] == ("one", "two")[sample.label]


def test_ours_reads_what_the_webdataset_library_writes(files: Manifest, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(tmp_path / "s-%06d.tar"), maxcount=4, verbose=0) as sink:
        for n, sample in enumerate(files.samples):
            sink.write({"__key__": f"key{n:04d}", "mp4": sample.path.read_bytes(), "cls": sample.label})  # type: ignore[union-attr]
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    found = read_manifest(tmp_path / "s-{000000..000001}.tar", classes=tmp_path / "classes.txt")
    assert found.samples.labels.tolist() == [sample.label for sample in files.samples]
    assert same(epoch_of(dataset_of(found.samples)), epoch_of(dataset_of(files.samples)))

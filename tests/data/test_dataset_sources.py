"""A list may name folders of images, array files and web addresses beside video files: clips are the same from each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m2clip.data.dataset import BadFile, VideoDataset
from m2clip.data.loading import make_loader
from m2clip.data.manifest import read_manifest
from tests.small_inputs import moving_square
from tests.web_server import Server, body, serving

PICTURES = moving_square(frames=20)
SETTINGS = {"frames": 4, "size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        yield running


@pytest.fixture
def listed(tmp_path: Path, server: Server) -> Path:
    """A list of the same video in three places, and of three places that lead to none."""
    (tmp_path / "frames of it").mkdir()
    for i, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(tmp_path / f"frames of it/{i}.png")
    np.save(tmp_path / "frames.npy", PICTURES)
    (tmp_path / "nothing").mkdir()
    server.answers["/frames.npy"] = body((tmp_path / "frames.npy").read_bytes(), kind="application/octet-stream")
    rows = ["frames of it,run", "frames.npy,run", f"{server.url}/frames.npy,run"]
    rows += ["nothing,run", "gone,walk", f"{server.url}/gone.mp4,walk"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    return tmp_path / "list.csv"


@pytest.mark.parametrize("train", [True, False])
def test_clips_are_the_same_from_each_place(listed: Path, train: bool) -> None:
    dataset = VideoDataset(read_manifest(listed), train=train, **SETTINGS)
    items = [dataset[0], dataset[1], dataset[2]]
    assert not any(isinstance(item, BadFile) for item in items)
    if train:  # random numbers go by the place in the list
        assert {item.pixels.shape for item in items} == {torch.Size(dataset.clip_shape)}
    else:
        assert all(torch.equal(item.pixels, items[0].pixels) for item in items)


def test_a_part_of_a_folder_is_by_its_images(listed: Path) -> None:
    """From 0.2 s on at 25 images a second: the images 5 to 14 of 0 to 19."""
    listed.write_text("path,label,start_seconds,end_seconds\nframes of it,run,0.2,0.6\n")
    part = VideoDataset(read_manifest(listed), train=False, **SETTINGS)[0]
    np.save(listed.parent / "part.npy", PICTURES[5:15])
    listed.write_text("path,label\npart.npy,run\n")
    alone = VideoDataset(read_manifest(listed), train=False, **SETTINGS)[0]
    assert torch.equal(part.pixels, alone.pixels)


def test_bad_places_are_told_with_their_line(listed: Path, server: Server) -> None:
    dataset = VideoDataset(read_manifest(listed), train=True, **SETTINGS)
    bad = [dataset[i] for i in (3, 4, 5)]
    assert all(isinstance(one, BadFile) for one in bad)
    assert "holds no image" in bad[0].reason
    assert "there is no such file" in bad[1].reason
    assert f"cannot fetch {server.url}/gone.mp4: its server answers 404" in bad[2].reason
    assert [one.where.endswith(f"list.csv:{line}") for one, line in zip(bad, (5, 6, 7), strict=True)] == [True] * 3


def test_a_list_knows_what_is_missing(listed: Path) -> None:
    assert [str(sample.path).rpartition("/")[2] for sample in read_manifest(listed).missing()] == ["gone"]


def test_workers_read_every_place(listed: Path) -> None:
    dataset = VideoDataset(read_manifest(listed), train=False, **SETTINGS)
    batches = [list(make_loader(dataset, batch_size=3, workers=workers)) for workers in (0, 2)]
    for alone, shared in zip(*batches, strict=True):
        assert torch.equal(alone.pixels, shared.pixels)
        assert [bad.reason for bad in alone.bad] == [bad.reason for bad in shared.bad]
    assert [len(batch.bad) for batch in batches[0]] == [0, 3]

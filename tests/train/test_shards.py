"""A run over shards is the run over the files that they were made of; fetched ones are taken shard by shard, also after a break."""

from pathlib import Path

import pytest
import torch

from m2clip.data.manifest import read_manifest
from m2clip.data.shards.writing import write_shards
from m2clip.errors import ConfigError
from tests.small_inputs import class_folders
from tests.train.short_run import run
from tests.web_server import body, serving


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2CLIP_CACHE", str(tmp_path / "cache"))
    videos = class_folders(tmp_path / "videos", ("growing", "bouncing"), each=3)
    write_shards(read_manifest(videos), tmp_path / "shards", base=videos, shard_samples=2)
    expected = run(tmp_path / "from files", videos, epochs=1)
    assert same(run(tmp_path / "from shards", tmp_path / "shards", epochs=1), expected)
    with serving() as server:
        for path in (tmp_path / "shards").iterdir():
            server.answers[f"/{path.name}"] = body(path.read_bytes())
        url = f"{server.url.replace('//', '//user:hidden@')}/shards.parquet?key=private"
        straight = run(tmp_path / "straight", url, mixed_shards=1)
        first = run(tmp_path / "broken off", url, mixed_shards=1, epochs=1)
        assert not same(first, expected)  # another order
        with pytest.raises(ConfigError, match=r"data\.mixed_shards was 1 and is 4"):
            run(tmp_path / "broken off", url, resume=True)
        assert same(run(tmp_path / "broken off", url, mixed_shards=1, resume=True), straight)
        assert len(server.seen) == 3 + 4  # the shards once, and an index for each start
        with pytest.raises(
            ConfigError, match=r"from shards.*: the way of taking videos .* changed since this run began"
        ):
            run(tmp_path / "from shards", url, resume=True)
    for path in (tmp_path / "straight").rglob("*"):  # reports are made to be given away
        if path.is_file():
            assert not any(secret in path.read_bytes() for secret in (b"hidden", b"private")), path

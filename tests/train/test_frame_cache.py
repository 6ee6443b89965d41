"""A run that takes its frames from the cache is the run that decodes them, and can be resumed without the cache."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.small_inputs import class_folders
from tests.train.short_run import run


def test_the_cache_changes_no_weight(tmp_path: Path) -> None:
    videos = class_folders(tmp_path / "videos", ("growing", "bouncing"), each=2)
    plain = run(tmp_path / "plain", videos)
    cache = str(tmp_path / "cache")
    run(tmp_path / "cached", videos, epochs=1, cache=cache, workers=1)
    assert len(list((tmp_path / "cache").iterdir())) == 4
    run(tmp_path / "cached", videos, resume=True, cache=cache, cache_gib=0.5)
    resumed = load_file(tmp_path / "cached/last.safetensors")
    assert plain.keys() == resumed.keys()
    assert all(torch.equal(plain[name], resumed[name]) for name in plain)


def test_validation_takes_its_frames_from_the_cache(tmp_path: Path) -> None:
    videos = class_folders(tmp_path / "videos", ("growing", "bouncing"), each=2)
    others = class_folders(tmp_path / "others", ("growing", "bouncing"), each=3)
    plain = run(tmp_path / "plain", videos, val=str(others))
    cached = run(tmp_path / "cached", videos, val=str(others), cache=str(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4 + 6
    assert plain.keys() == cached.keys()
    assert all(torch.equal(plain[name], cached[name]) for name in plain)

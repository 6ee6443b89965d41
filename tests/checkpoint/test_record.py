"""What a checkpoint says of itself, without its weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from m2clip.checkpoint import create, load
from m2clip.checkpoint.record import read_record
from m2clip.checkpoint.safetensors_files import read_header
from m2clip.data.sampling import ClipSampling
from m2clip.errors import CheckpointError, ConfigError
from tests.small_inputs import tiny_model


@pytest.mark.parametrize("options", [{}, {"visual_head": False}, {"method": "frozen"}, {"method": "linear-probe"}])
def test_the_record_is_that_of_the_loaded_model(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "model.safetensors"
    tiny_model(("a", "b"), template="{} it", **options).save(path)
    record, model = read_record(path), load(path)
    assert record.info == model.info
    assert record.visual_head == (model.visual_head is not None)


def test_a_backbones_name_is_described_without_its_weights() -> None:
    record, model = read_record("builtin"), create("builtin")
    unknown = {"weights", "layout", "rival"}  # what making the model settles
    assert record.info.model_dump(exclude=unknown) == model.info.model_dump(exclude=unknown)
    assert not record.visual_head


def test_no_tensor_is_looked_at(tmp_path: Path) -> None:
    tiny_model(("a", "b")).save(tmp_path / "model.safetensors")
    header = read_header(tmp_path / "model.safetensors")
    save_file({"visual_head.linear.weight": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata=header)
    assert read_record(tmp_path / "odd.safetensors") == read_record(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError):
        load(tmp_path / "odd.safetensors")


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        read_record(tmp_path / "text.safetensors")
    with pytest.raises(CheckpointError, match="is no file: pass a checkpoint's path"):
        read_record(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("options", [{"fps": 7.5}, {"clip_seconds": 2.0, "frames": 3}, {"stride_frames": 4}, {}])
def test_the_record_says_which_frames_clips_take(tmp_path: Path, options: dict[str, Any]) -> None:
    tiny_model(("a", "b"), **options).save(tmp_path / "model.safetensors")
    assert read_record(tmp_path / "model.safetensors").info.sampling == ClipSampling(**options)
    with pytest.raises(ConfigError, match="create: stride_frames is 2 and fps is 3, but only one"):
        tiny_model(stride_frames=2, fps=3.0)


def test_a_header_from_before_sampling_by_time_reads_as_it_did(tmp_path: Path) -> None:
    tiny_model(("a", "b"), frames=5, stride_frames=4).save(tmp_path / "model.safetensors")
    header = dict(read_header(tmp_path / "model.safetensors"))
    record = json.loads(header["info"])
    assert (record.pop("fps"), record.pop("clip_seconds")) == (None, None)
    header["info"] = json.dumps(record)
    old = tmp_path / "old.safetensors"
    save_file(load_file(tmp_path / "model.safetensors"), old, metadata=header)
    assert load(old).info.sampling == ClipSampling(5, stride_frames=4)
    record |= {"fps": 2.0}
    save_file(load_file(old), old, metadata=header | {"info": json.dumps(record)})
    with pytest.raises(CheckpointError, match="stride_frames is 4 and fps is 2, but only one"):
        load(old)

"""What a checkpoint says of itself, without its weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from m2clip.checkpoint import create, load
from m2clip.checkpoint.files import read_header
from m2clip.checkpoint.record import read_record
from m2clip.errors import CheckpointError
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

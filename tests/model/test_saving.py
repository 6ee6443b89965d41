"""Files are written whole, and a disk that refuses ends in one sentence with the file of before intact."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from m2clip import load
from m2clip.errors import CheckpointError
from m2clip.model.saving import replace_file, serialized
from m2clip.train.state import TrainingState
from tests.small_inputs import tiny_model


@contextmanager
def full_disk(*, after: int) -> Iterator[None]:
    """No file may grow over `after` bytes: to a writer that is a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def test_a_file_is_replaced_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file.bin"
    for content in (b"one", b"two"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_what_a_killed_save_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file.bin.draft").write_bytes(b"much more than is written now")
    replace_file(tmp_path / "file.bin", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file.bin", b"new")]


def test_a_full_disk_leaves_checkpoint_and_state_as_they_were(tmp_path: Path) -> None:
    model = tiny_model(("a", "b"))
    checkpoint, kept = model.save(tmp_path / "last.safetensors"), model.trained_state()
    state = TrainingState(1, 2, {"a": torch.zeros(50_000)}, {}, 0, {}, {}, 0.5, {}, {})
    state.write(tmp_path / "last.state.pt")
    for save, name in (
        (lambda: tiny_model(("a", "b"), seed=1).save(checkpoint), "last.safetensors"),
        (lambda: state.write(tmp_path / "last.state.pt"), "last.state.pt"),
    ):
        with (
            full_disk(after=20_000),
            pytest.raises(CheckpointError, match=rf"{name} cannot be written .*of before") as caught,
        ):
            save()
        assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in load(checkpoint).trained_state().items())
    assert TrainingState.read(tmp_path / "last.state.pt").steps_done == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/last\.safetensors cannot be written \(.*\); free space or choose"):
        tiny_model().save(tmp_path / "file/last.safetensors")


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    model = tiny_model(("a", "b\u00e9"))
    files = {model.save(tmp_path / f"{n}.safetensors").read_bytes() for n in range(8)}  # eight orders of four keys
    assert len(files) == 1
    tensors = {"b": torch.arange(3), "a": torch.ones(2, 2)}
    content = serialized(tensors, {"z": "1", "\u00e9": '"2"', "a": ""})
    (tmp_path / "file.safetensors").write_bytes(content)
    with safe_open(tmp_path / "file.safetensors", framework="pt") as file:
        assert file.metadata() == {"z": "1", "\u00e9": '"2"', "a": ""}
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())
    assert (8 + int.from_bytes(content[:8], "little")) % 8 == 0

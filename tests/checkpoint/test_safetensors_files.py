"""What the header of a safetensors file claims is believed only within limits, and before anything is allocated by it."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from m2clip.checkpoint import load
from m2clip.checkpoint.files import read_tensors
from m2clip.checkpoint.record import read_record
from m2clip.checkpoint.safetensors_files import MOST_TENSORS, read_header, tensor_names
from m2clip.errors import CheckpointError
from m2clip.model.saving import MOST_HEADER_BYTES, serialized
from tests.small_inputs import tiny_model


def written(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file with any header: eight bytes with its length, the header, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def test_a_good_file_comes_back(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.bin", {"__metadata__": {"k": "v"}, "a": tensor([2], 0, 8)}, struct.pack("<2f", 1.5, -2.0)
    )
    file = read_tensors(path)  # known by its content
    assert (file.metadata, file.tensors["a"].tolist()) == ({"k": "v"}, [1.5, -2.0])
    assert (read_header(path), tensor_names(path)) == ({"k": "v"}, ["a"])


FOUR = bytes(4)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, FOUR, "no readable safetensors file"),  # one over another
        ({"a": tensor([1], 0, 8)}, FOUR * 2, "no readable safetensors file"),  # longer than its shape
        ({"a": tensor([2**40], 0, 4)}, FOUR, "no readable safetensors file"),  # its shape says terabytes
        ({"a": tensor([2**33, 2**33], 0, 4)}, FOUR, "no readable safetensors file"),  # whose product overflows to 0
        ({"a": tensor([1], 4, 8)}, FOUR, "no readable safetensors file"),  # behind the end
        ({"a": tensor([1], 8, 4)}, FOUR, "no readable safetensors file"),
        ({"a": tensor([1], -4, 0)}, FOUR, "no readable safetensors file"),
        ({"a": tensor([1], 0, 4)}, b"", "no readable safetensors file"),  # cut
        ({"a": tensor([1], 0, 4)}, FOUR * 2, "no readable safetensors file"),  # bytes that belong to nothing
        (b'{"a":' + b"[" * 100_000, b"", "no readable safetensors file"),
        (b"{" * 9, b"", "no readable safetensors file"),
        ({"a": tensor([0, 2**62], 0, 0)}, b"", "'a' has a shape that no weight has"),
        ({"a": tensor([0, 2**63], 0, 0)}, b"", "'a' has a shape that no weight has"),
        ({"a": tensor([1] * 5000, 0, 4)}, FOUR, "'a' has a shape that no weight has"),
        ({"a": tensor([1], 0, 8, "C64")}, FOUR * 2, "'a' is of the type C64; save it as 32-bit or 16-bit numbers"),
        ({"a": tensor([4], 0, 4, "F8_E4M3")}, FOUR, "'a' is of the type F8_E4M3"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: dict[str, Any] | bytes, data: bytes, words: str) -> None:
    path = written(tmp_path / "x.safetensors", header, data)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_the_name_of_a_tensor_cannot_fill_the_screen(tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", {"a\n" * 10_000: tensor([1], 0, 8, "C64")}, FOUR * 2)
    with pytest.raises(CheckpointError) as caught:
        read_tensors(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [2**63, 2**40, 2**64 - 1])
def test_a_header_that_is_longer_than_its_file(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "x.safetensors", {"a": tensor([1], 0, 4)}, FOUR, length=length)
    for read in (read_tensors, read_header, read_record, load):
        with pytest.raises(CheckpointError, match="no readable safetensors file"):
            read(path)


def test_a_header_that_is_too_long_is_not_parsed(tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", b"{" + b" " * MOST_HEADER_BYTES)
    for read in (read_tensors, read_header, read_record, load):
        with pytest.raises(CheckpointError, match="has a header of 32 MiB, and 32 are the most"):
            read(path)


def test_more_tensors_than_any_model_has(tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", {f"{n}": tensor([0], 0, 0) for n in range(MOST_TENSORS + 1)})
    with pytest.raises(CheckpointError, match="holds over 65,536 tensors; it is no weight file of a CLIP"):
        read_tensors(path)


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(CheckpointError, match=r"texts of the model's classes take 32 MiB, and a checkpoint holds 32"):
        serialized({"a": torch.zeros(1)}, {"info": "x" * MOST_HEADER_BYTES})


def test_a_record_that_lies_of_its_tensors_costs_nothing(tmp_path: Path) -> None:
    """A header of a million channels is refused before a model of that size is made."""
    model = tiny_model(("a", "b"))
    header = {"format": "m2clip", "format_version": "3"}
    info = json.loads(model.info.model_dump_json())
    for change, words in (
        ({"vision_width": 10**6}, "vision_width"),
        ({"vision_layers": 10**6}, "vision_layers"),
        ({"vision_width": 65536, "vision_heads": 1, "vision_layers": 256}, "does not fit the layout"),
    ):
        lying = {**info, "sizes": {**info["sizes"], **change}}
        path = tmp_path / "x.safetensors"
        path.write_bytes(serialized(model.state_dict(), {**header, "info": json.dumps(lying)}))
        with pytest.raises(CheckpointError, match=words):
            load(path)

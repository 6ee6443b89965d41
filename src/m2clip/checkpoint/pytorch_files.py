"""Files of `torch.save` from anyone: plain tensors in plain containers, nothing run, and no more memory than the file's size excuses."""

import os
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from m2clip.checkpoint.pickled import OtherTensorsError, check_description
from m2clip.errors import CheckpointError

_MOST_MEMBERS = 1 << 17  # of an archive; each storage is one
_MOST_DESCRIPTION = 32 << 20  # bytes of the pickle in an archive; a training state of a CLIP takes some 300 kB
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_ZIP = b"PK\x03\x04"  # how PyTorch tells its archives from what it wrote before 1.6
_OLD_DESCRIPTIONS = 5  # one behind the other: a number, a version, the system, the content, the keys of the storages
_DTYPES = frozenset((*_FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool))


def read_plain(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: dictionaries, lists, numbers, texts and tensors. CheckpointError for all else."""
    check_archive(path)
    try:
        _check_descriptions(path)
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path") from None
    except OtherTensorsError:
        raise _other_tensors(path) from None
    except Exception:  # of a dozen kinds, whose texts speak of how to run what the file holds
        raise CheckpointError(
            f"{path} is no file of plain tensors and is not opened otherwise: it is damaged, of another kind, or holds whole objects; "
            "copy it again, or save its state dict alone"
        ) from None
    check_tensors(_tensors_in(content), path)
    return content


def check_archive(path: Path) -> None:
    """CheckpointError for a zip that unpacks to far more than it takes: numbers of trained weights do not compress so well."""
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP and not zipfile.is_zipfile(file):
                return
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                # zipfile looks for it right before the end, PyTorch where the end says: one file could show each another content.
                if archive.start_dir != _directory_begin(file):
                    raise zipfile.BadZipFile("two directories")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        raise CheckpointError(f"{path} is a damaged archive; download it again") from None
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _most_bytes(path):
        raise CheckpointError(f"{path} would unpack to {unpacked >> 20} MiB; it is no weight file, so it is not read")
    if len(entries) > _MOST_MEMBERS:
        raise CheckpointError(
            f"{path} is an archive of over {_MOST_MEMBERS:,} parts; it is no weight file, so it is not read"
        )
    description = max((entry.file_size for entry in entries if entry.filename.lower().endswith(".pkl")), default=0)
    if description > _MOST_DESCRIPTION:
        raise CheckpointError(
            f"{path} describes its tensors in {description >> 20} MiB, and {_MOST_DESCRIPTION >> 20} are the most; save them alone"
        )


def check_tensors(tensors: Iterator[Tensor], path: Path) -> None:
    """CheckpointError for tensors that are not plain, or that stand for more numbers than the file can hold.

    A stride of 0 lets four bytes stand for any number of values, which the first operation on them would write out.
    """
    held = 0
    for tensor in tensors:
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.is_meta or tensor.is_nested or tensor.dtype not in _DTYPES:
            raise _other_tensors(path)
        held += tensor.numel() * tensor.element_size()
        if held > _most_bytes(path):
            raise CheckpointError(
                f"{path} has {path.stat().st_size:,} bytes and describes tensors of over {held >> 20} MiB; it is no weight file, so it "
                "is not read"
            )


def _other_tensors(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} holds tensors that are packed, sparse, complex or without values; save plain 32-bit or 16-bit tensors"
    )


def _check_descriptions(path: Path) -> None:
    """What PyTorch would follow is looked through first."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            file.seek(0)
            for _ in range(_OLD_DESCRIPTIONS):
                check_description(file)
            return
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.filename.lower().endswith("data.pkl"):  # PyTorch finds it in any case of letters
                    with archive.open(entry) as description:
                        check_description(description)  # type: ignore[arg-type]


def _directory_begin(file: BinaryIO) -> int:
    """Where the directory of an archive begins by its last bytes. BadZipFile, struct.error where PyTorch does not write them so."""
    size = file.seek(0, os.SEEK_END)
    file.seek(size - 22)
    mark, *_, begin, comment = struct.unpack("<4s4H2LH", file.read(22))
    if mark != b"PK\x05\x06" or comment:
        raise zipfile.BadZipFile("something behind its end")
    if size >= 98:
        file.seek(size - 42)
        mark, _, large, _ = struct.unpack("<4sLQL", file.read(20))
        if mark == b"PK\x06\x07":  # of over 4 GiB
            if large != size - 98:
                raise zipfile.BadZipFile("two ends")
            file.seek(large)
            begin = struct.unpack("<4sQ2H2L4Q", file.read(56))[-1]
    return int(begin)


def _most_bytes(path: Path) -> int:
    """What may come out of a file. Tied weights stand in it once and count twice."""
    return 4 * path.stat().st_size + (64 << 20)


def _tensors_in(content: Any) -> Iterator[Tensor]:
    """All tensors in containers, each container once: a few bytes can nest one in itself, or a thousand levels deep."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, Mapping | list | tuple | set) and id(part) not in seen:
            seen.add(id(part))
            waiting += part.values() if isinstance(part, Mapping) else part

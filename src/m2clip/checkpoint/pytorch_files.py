"""Files of `torch.save` from anyone: plain tensors in plain containers, nothing run, and no more memory than the file's size excuses."""

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2clip.errors import CheckpointError

_MOST_MEMBERS = 1 << 17  # of an archive; each storage is one
_MOST_DESCRIPTION = 32 << 20  # bytes of the pickle in an archive; a training state of a CLIP takes some 300 kB
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPES = frozenset((*_FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool))


def read_plain(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: dictionaries, lists, numbers, texts and tensors. CheckpointError for all else."""
    check_archive(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path") from None
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
        if not path.is_file() or not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise CheckpointError(f"{path} is a damaged archive; download it again") from None
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _most_bytes(path):
        raise CheckpointError(f"{path} would unpack to {unpacked >> 20} MiB; it is no weight file, so it is not read")
    if len(entries) > _MOST_MEMBERS:
        raise CheckpointError(
            f"{path} is an archive of over {_MOST_MEMBERS:,} parts; it is no weight file, so it is not read"
        )
    description = max((entry.file_size for entry in entries if entry.filename.endswith(".pkl")), default=0)
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
            raise CheckpointError(
                f"{path} holds tensors that are packed, sparse, complex or without values; save plain 32-bit or 16-bit tensors"
            )
        held += tensor.numel() * tensor.element_size()
        if held > _most_bytes(path):
            raise CheckpointError(
                f"{path} has {path.stat().st_size:,} bytes and describes tensors of over {held >> 20} MiB; it is no weight file, so it "
                "is not read"
            )


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

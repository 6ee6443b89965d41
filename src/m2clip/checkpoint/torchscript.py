"""Tensors out of a TorchScript archive (OpenAI publishes CLIP so), without running anything that the archive holds.

Such a file is a zip: `data.pkl` describes a tree of modules, `data/N` are the raw numbers. Loading it the usual way compiles the
code inside. Here the description is read operation by operation: the only things it can build are numbers, strings, containers,
a dictionary for each module, and views of the raw numbers. Anything else ends in an error.
"""

import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2clip.checkpoint.pytorch_files import check_archive, check_tensors
from m2clip.errors import CheckpointError

_MOST_DESCRIPTION = 4 << 20  # bytes; a CLIP's takes less than one MiB
_MOST_MODULES = 1 << 16  # and tensors of a tree; a module that stands in it twice is visited twice
_LONGEST_NAME = 1000  # characters, of a tensor
_MOST_DIMENSIONS = 8

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class _Name:
    """A name of a class or function in the description: never looked up, only compared."""

    module: str
    name: str


@dataclass
class _Module:
    """A module of the tree: its attributes."""

    attributes: dict[str, Any] = field(default_factory=dict)


class _Mark:
    """Where an opened container begins on the stack."""


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive: a zip with a `code` folder. CheckpointError for a zip that is damaged or blown up."""
    check_archive(path)
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """All parameters and buffers by their dotted names. CheckpointError for an archive of another kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            description = next((name for name in names if name.split("/")[1:] == ["data.pkl"]), None)
            if description is None:
                raise CheckpointError(f"{path} is a zip without data.pkl, so it is no TorchScript archive")
            root = description.removesuffix("data.pkl")
            limit = archive.getinfo(description).file_size
            if limit > _MOST_DESCRIPTION:
                raise CheckpointError(f"{path}: its description takes {limit >> 20} MiB; a CLIP's takes less than one")
            tree = _Reader(path, lambda key: archive.read(f"{root}data/{key}")).read(archive.read(description))
            tensors = _collected(tree, path)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a stack machine meets in bytes that are no such description
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is a damaged TorchScript archive ({reason}); download it again") from None
    check_tensors(iter(tensors.values()), path)
    return tensors


def _collected(tree: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a tree of modules by their dotted names, in the order in which they stand there."""
    tensors: dict[str, Tensor] = {}
    visited = 0
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        name, node = waiting.pop()
        visited += 1
        if visited > _MOST_MODULES:  # sixty modules can stand for 2^60: each holds the one before it twice
            raise CheckpointError(f"{path} describes over {_MOST_MODULES:,} modules; it is not a CLIP of OpenAI's")
        if isinstance(node, Tensor):
            tensors[name] = node
        elif isinstance(node, _Module):
            prefix = f"{name}." if name else ""
            if len(name) > _LONGEST_NAME or len(waiting) + len(node.attributes) > _MOST_MODULES:
                raise CheckpointError(f"{path} describes modules without end; it is not a CLIP of OpenAI's")
            waiting += [(prefix + key, value) for key, value in reversed(node.attributes.items())]
    return tensors


def _key(key: Any) -> Any:
    """A name or a small number: Python hashes a tuple in tuples by recursion in C, which a deep one ends the process by."""
    if isinstance(key, str) or (isinstance(key, int) and key.bit_length() <= 32):
        return key
    raise ValueError("a key is neither a text nor a small number")


class _Reader:
    """A stack machine for the few operations that a module description uses."""

    def __init__(self, path: Path, raw: Callable[[str], bytes]) -> None:
        self.path = path
        self.raw = raw
        self.storages: dict[str, Tensor] = {}

    def read(self, description: bytes) -> Any:
        stack: list[Any] = []
        memo: dict[int, Any] = {}

        def since_mark() -> list[Any]:
            start = next(i for i in range(len(stack) - 1, -1, -1) if stack[i] is _Mark)
            items = stack[start + 1 :]
            del stack[start:]
            return items

        def pop(count: int) -> list[Any]:
            items = stack[-count:]
            del stack[-count:]
            return items

        operand: Any
        for opcode, operand, _ in pickletools.genops(description):
            match opcode.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack[-1]
                case "MARK":
                    stack.append(_Mark)
                case "EMPTY_TUPLE":
                    stack.append(())
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(opcode.name == "NEWTRUE")
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                    stack.append(operand)
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(pop(int(opcode.name[-1]))))
                case "APPEND":
                    (item,) = pop(1)
                    stack[-1].append(item)
                case "APPENDS":
                    items = since_mark()
                    stack[-1].extend(items)
                case "SETITEM":
                    key, value = pop(2)
                    stack[-1][_key(key)] = value
                case "SETITEMS":
                    items = since_mark()
                    stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
                case "BINPUT" | "LONG_BINPUT":
                    memo[operand] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[operand])
                case "GLOBAL":
                    stack.append(_Name(*operand.split(" ", 1)))
                case "STACK_GLOBAL":
                    stack.append(_Name(*pop(2)))
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "NEWOBJ" | "REDUCE":
                    name, arguments = pop(2)
                    stack.append(self._made(name, arguments))
                case "BUILD":
                    (state,) = pop(1)
                    if not isinstance(stack[-1], _Module) or stack[-1].attributes or not isinstance(state, dict):
                        raise CheckpointError(
                            f"{self.path} gives a state to something that is no new module; it is not a CLIP of OpenAI's"
                        )
                    # No copy: three bytes could ask for one of all entries, again and again.
                    stack[-1].attributes = state
                case other:
                    raise CheckpointError(
                        f"{self.path} uses the operation {other}, which no TorchScript archive of CLIP needs"
                    )
        raise CheckpointError(f"{self.path} ends in the middle of its description; download it again")

    def _storage(self, reference: Any) -> Tensor:
        """("storage", type, key, device, count) -> the raw numbers as one flat tensor."""
        _, kind, key, _, count = reference
        dtype = _STORAGES.get(kind.name)
        if dtype is None:
            raise CheckpointError(f"{self.path} holds numbers of the unknown type {kind.name:.80}")
        if not isinstance(key, str):
            raise CheckpointError(f"{self.path} names its numbers by something else than a text; download it again")
        if key not in self.storages:
            data = torch.from_numpy(np.frombuffer(bytearray(self.raw(key)), dtype=np.uint8))
            self.storages[key] = data.view(dtype)
        if len(self.storages[key]) != count:
            raise CheckpointError(
                f"{self.path}: storage {key} has {len(self.storages[key])} numbers instead of {count}; download it again"
            )
        return self.storages[key]

    def _made(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, _Name):
            raise CheckpointError(f"{self.path} calls something without a name; it is not a CLIP of OpenAI's")
        if name.module.startswith("__torch__"):
            return _Module()
        match (name.module, name.name):
            case ("torch._utils", "_rebuild_tensor_v2"):
                flat, offset, size, stride = arguments[:4]
                if len(size) > _MOST_DIMENSIONS:
                    raise CheckpointError(f"{self.path} describes a tensor of {len(size)} dimensions; no CLIP has one")
                needed = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
                if 0 not in size and (min((offset, *size, *stride)) < 0 or needed > len(flat)):
                    raise CheckpointError(
                        f"{self.path} describes a tensor of shape {tuple(size)!s:.100} that its numbers do not fill"
                    )
                return flat.as_strided(size, stride, offset)
            case ("torch._utils", "_rebuild_parameter"):
                return arguments[0]
            case ("collections", "OrderedDict"):
                return {}
            case ("torch.jit._pickle", "build_intlist" | "build_tensorlist" | "build_doublelist" | "build_boollist"):
                return arguments[0]
            case ("torch.jit._pickle", "restore_type_tag"):
                return arguments[0]
        raise CheckpointError(
            f"{self.path} asks for {name.module:.80}.{name.name:.80}; nothing from a weight file is run, so it cannot be read"
        )

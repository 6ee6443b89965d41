"""The description in a file of `torch.save`, looked through before PyTorch follows it.

PyTorch's reader for tensors alone runs no code, but a description of a few kilobytes can still make it copy a dictionary a million
times, take an archive's part again under another spelling, or end the process (Python hashes a tuple in tuples by recursion in C).
Here the operations are followed with placeholders for values, and only what a state dict or a training state needs may pass.
"""

import pickletools
from dataclasses import dataclass
from typing import BinaryIO

_MOST_STEPS = 1 << 22  # a tensor takes some 40
_MOST_COPIED = 1 << 20  # entries of dictionaries, and pieces of texts, that calls copy
_MOST_DIMENSIONS = 64
_REBUILT = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")


class RefusedDescriptionError(ValueError):
    """Something that no state dict of plain tensors holds."""


class OtherTensorsError(RefusedDescriptionError):
    """Tensors, but none that are plain."""


class _Name(str):
    """Module and name of a class or function, with a space between; never looked up."""


@dataclass(slots=True)
class _Dictionary:
    entries: int = 0
    is_metadata: bool = True
    """Whether it has no key but the one that `state_dict` keeps its versions under."""
    is_ordered: bool = False


class _Other:
    """Any value that nothing more has to be known of."""


def check_description(file: BinaryIO) -> None:
    """Follow one description to its end. RefusedDescriptionError, or whatever bytes that are none lead to."""
    _Follower().follow(file)


class _Follower:
    def __init__(self) -> None:
        self._stack: list[object] = []
        self._outer: list[list[object]] = []
        self._copied = 0

    def follow(self, file: BinaryIO) -> None:
        memo: dict[int, object] = {}
        for step, (opcode, operand, _) in enumerate(pickletools.genops(file)):
            if step >= _MOST_STEPS:
                raise RefusedDescriptionError("too long")
            match opcode.name:
                case "PROTO" | "STOP":
                    pass
                case "MARK":
                    self._outer.append(self._stack)
                    self._stack = []
                case "EMPTY_LIST" | "EMPTY_SET" | "NONE" | "NEWTRUE" | "NEWFALSE" | "BINFLOAT" | "LONG1":
                    self._stack.append(_Other())
                case "BININT" | "BININT1" | "BININT2" | "BINUNICODE" | "SHORT_BINSTRING":
                    self._stack.append(operand)
                case "EMPTY_DICT":
                    self._stack.append(_Dictionary())
                case "EMPTY_TUPLE":
                    self._stack.append(())
                case "TUPLE":
                    items = self._since_mark()
                    self._stack.append(tuple(items))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    self._stack.append(tuple(self._pop(int(opcode.name[-1]))))
                case "APPEND":
                    self._pop(1)
                case "APPENDS":
                    self._since_mark()
                case "SETITEM":
                    self._set(self._pop(2))
                case "SETITEMS":
                    self._set(self._since_mark())
                case "BINPUT" | "LONG_BINPUT":
                    memo[operand] = self._stack[-1]  # type: ignore[index]
                case "BINGET" | "LONG_BINGET":
                    self._stack.append(memo[operand])  # type: ignore[index]
                case "GLOBAL":
                    self._stack.append(_Name(operand))
                case "BINPERSID":
                    self._stack.append(_storage(*self._pop(1)))
                case "REDUCE":
                    self._stack.append(self._made(*self._pop(2)))
                case "BUILD":
                    self._build(*self._pop(1))
                case other:
                    raise RefusedDescriptionError(other)

    def _pop(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise RefusedDescriptionError("nothing to take")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[object]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _set(self, items: list[object]) -> None:
        """Keys are texts and small numbers: others can be made to have one hash, or to take the whole stack of the process to hash."""
        target = self._stack[-1]
        if not isinstance(target, _Dictionary) or not all(_is_text(key) or isinstance(key, int) for key in items[::2]):
            raise RefusedDescriptionError("a key or a target that is none")
        target.entries += len(items) // 2
        target.is_metadata &= all(key == "_metadata" for key in items[::2])

    def _build(self, state: object) -> None:
        """Attributes of an ordered dictionary; one named as a method would stand before it."""
        target = self._stack[-1]
        if not (isinstance(target, _Dictionary) and target.is_ordered and isinstance(state, _Dictionary)):
            raise RefusedDescriptionError("a state")
        if not state.is_metadata:
            raise RefusedDescriptionError("attributes")

    def _made(self, name: object, arguments: object) -> object:
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise RefusedDescriptionError("a call of no name")
        if name == "collections OrderedDict" and not arguments:
            return _Dictionary(is_ordered=True)
        if name == "collections Counter" and len(arguments) == 1 and isinstance(arguments[0], _Dictionary):
            self._copy(arguments[0].entries)
            return _Dictionary(entries=arguments[0].entries, is_metadata=False)
        if name == "_codecs encode" and arguments and _is_text(arguments[0]):
            self._copy(1 + len(str(arguments[0])) // 64)
            return _Other()
        if name in (*_REBUILT, "torch Size", "torch device"):
            if any(isinstance(one, tuple) and not _is_flat(one) for one in arguments):
                raise RefusedDescriptionError("a shape")
            return _Other()
        if name.startswith(("torch._utils _rebuild_", "torch._tensor _rebuild_", "torch.serialization _get_layout")):
            raise OtherTensorsError(name)
        raise RefusedDescriptionError(name)

    def _copy(self, count: int) -> None:
        self._copied += count
        if self._copied > _MOST_COPIED:
            raise RefusedDescriptionError("copies")


def _storage(reference: object) -> _Other:
    """("storage", type, key, device, count): a key is a number in digits, since an archive finds its parts in any case of letters."""
    match reference:
        case (_, _Name(), str(key), *rest) if _is_text(key) and all(
            not isinstance(one, tuple) or _is_flat(one) for one in rest
        ):
            if key.isascii() and key.isdecimal():
                return _Other()
    raise RefusedDescriptionError("a reference")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, _Name)


def _is_flat(items: tuple[object, ...]) -> bool:
    return len(items) <= _MOST_DIMENSIONS and not any(isinstance(one, tuple) for one in items)

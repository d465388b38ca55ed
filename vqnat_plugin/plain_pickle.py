"""Pickles that are data and nothing else: the values, tensors and options that fairseq stores.

A pickle is a program for a small machine with a stack, and may call whatever it names. This machine calls
nothing: for each of the few names that checkpoints need, a function here makes what is meant, once it has
looked at what it is given. Nothing is larger than what stands in the file.
"""

import argparse
import collections
import math
import pickle
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

# Above what any training keeps; values that are shared count as often as they are seen.
MOST_VALUES = 1_000_000
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
# numpy 1 and numpy 2 write the same functions under different module names.
SCALAR, ARRAY = (
    [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")] for name in ("scalar", "_reconstruct")
)
# Those of nested tuples are found by a recursion in C, which ends the process.
KEYS = (str, int, float, bool, type(None))
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


class ForeignName(pickle.UnpicklingError):
    """A pickle needs a class or a function that no checkpoint needs; the message is its name."""


@dataclass(frozen=True)
class Global:
    """What a pickle named, until it is known what it wants of it. Nothing can be done with it."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Numbers in a row, shape (count,), of which tensors are views."""

    values: Tensor


def read_pickle(file: IO[bytes], storage: Callable[[Any], Storage] | None = None) -> Any:
    """Read one pickle; what follows it stays unread.

    Args:
        file: at the beginning of the pickle.
        storage: finds the storage that a pickle refers to, given what it refers with.

    Raises:
        ForeignName: it needs something that is not data.
        Exception: it is damaged, or was forged; of nearly any kind.
    """
    machine = _Machine(storage)
    for opcode, argument, _ in pickletools.genops(file):
        machine.do(opcode.name, argument)
    [value] = machine.stack
    collections.deque(values_in(value), maxlen=0)
    return value


class _Machine:
    """The stack, the marks in it, and what is remembered."""

    def __init__(self, storage: Callable[[Any], Storage] | None) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """One instruction, by its name in `pickletools`."""
        stack = self.stack
        if name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"):
            stack.append(argument)
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._last(int(name[-1]))))
        elif name in ("APPEND", "APPENDS"):
            items = self._last(1) if name == "APPEND" else self._marked()
            _require(type(stack[-1]) is list, "appends to what is no list")
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._last(2) if name == "SETITEM" else self._marked()
            _put(stack[-1], items)
        elif name == "GLOBAL":
            stack.append(_named(argument.replace(" ", ".", 1)))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.append(_make(*self._last(2)))
        elif name == "BUILD":
            [state] = self._last(1)
            _complete(stack[-1], state)
        elif name == "BINPERSID":
            _require(self.storage is not None, "refers to a storage, but has none")
            stack.append(self.storage(stack.pop()))  # type: ignore[misc]
        else:
            _require(name in ("PROTO", "STOP"), f"has the instruction {name}")

    def _last(self, count: int) -> list[Any]:
        _require(len(self.stack) >= count, "takes more than there is")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _marked(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


EMPTY: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(complaint)


def _naturals(values: Any) -> bool:
    return type(values) is tuple and all(type(each) is int and each >= 0 for each in values)


def values_in(value: Any) -> Iterator[Any]:
    """A value and all that is in it.

    Raises:
        UnpicklingError: a copy would take for ever: values in themselves, or shared by what is shared.
    """
    pending, seen = [value], 1
    while pending:
        each = pending.pop()
        yield each
        if isinstance(each, dict | argparse.Namespace):
            inside = list((each if isinstance(each, dict) else vars(each)).values())
        else:
            inside = list(each) if isinstance(each, list | tuple) else []
        seen += len(inside)
        _require(seen <= MOST_VALUES, "holds values in themselves, or far too many")
        pending += inside


def _put(mapping: Any, items: list[Any]) -> None:
    _require(type(mapping) in (dict, collections.OrderedDict), "sets entries of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        _require(type(key) in KEYS, "has a key that is neither a text nor a number")
        mapping[key] = value


def _named(name: str) -> Global:
    if name not in MAKERS and name not in STORAGES and name != "numpy.ndarray":
        raise ForeignName(name)
    return Global(name)


def _make(what: Any, arguments: Any) -> Any:
    """What a function named in the pickle would return."""
    _require(type(what) is Global and what.name in MAKERS, "calls what is no function")
    _require(type(arguments) is tuple, "calls without arguments")
    return MAKERS[what.name](*arguments)


def _complete(value: Any, state: Any) -> None:
    """Set what is stored of a value beside what it was made of."""
    if type(value) is collections.OrderedDict:
        # The versions of modules, which torch keeps as an attribute; others would hide methods.
        _require(type(state) is dict and state.keys() <= {"_metadata"}, "sets attributes of a dictionary")
        for metadata in state.values():
            _require(isinstance(metadata, dict), "has metadata that are none")
            value._metadata = metadata  # type: ignore[attr-defined]
    elif type(value) is argparse.Namespace:
        _require(type(state) is dict, "has options that are none")
        for name, each in state.items():
            _require(type(name) is str and not hasattr(argparse.Namespace, name), "has odd options")
            setattr(value, name, each)
    elif type(value) is Numbers:
        value.__setstate__(state)
    elif type(value) is np.ndarray:
        value.__setstate__(_array_state(state))
    else:
        raise pickle.UnpicklingError("sets attributes of what has none")


class Numbers:
    """A kind of plain numbers, where numpy has its dtype."""

    dtype: np.dtype

    def __new__(cls, code: Any, _align: Any = False, _copy: Any = True) -> "Numbers":
        _require(type(code) is str and code in NUMBERS, "has an array of something else than numbers")
        made = super().__new__(cls)
        made.dtype = np.dtype(f"<{code}")
        return made

    def __setstate__(self, state: Any) -> None:
        _require(type(state) is tuple and state[1] in ("<", "|"), "has numbers of another kind of machine")


def _array_state(state: Any) -> tuple[Any, ...]:
    """What fills an array, once it has been looked at."""
    _version, shape, numbers, fortran, data = state
    sound = _naturals(shape) and type(numbers) is Numbers and type(fortran) is bool and type(data) is bytes
    _require(sound and math.prod(shape) * numbers.dtype.itemsize == len(data), "has an array of another size")
    return 1, shape, numbers.dtype, fortran, data


class Array(np.ndarray):
    """An array that torch's own loader may make: empty at first, then filled as here; saved as any other."""

    def __new__(cls) -> "Array":
        return super().__new__(cls, (0,), np.int8)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(_array_state(state))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _ordered_dict() -> Any:
    return collections.OrderedDict()


def _namespace() -> argparse.Namespace:
    return argparse.Namespace()


def _encode(text: Any, encoding: Any) -> bytes:
    _require(type(text) is str and encoding == "latin1", "has bytes that are none")
    return bytes(text, "latin1")


def _scalar(numbers: Any, data: Any) -> Any:
    _require(type(numbers) is Numbers and type(data) is bytes, "has a number that is none")
    [number] = np.frombuffer(data, numbers.dtype)
    return number


def _array(kind: Any, _shape: Any, _code: Any) -> np.ndarray:
    """An empty array, which `_array_state` will fill."""
    _require(kind == Global("numpy.ndarray"), "has an array that is none")
    return np.empty(0, np.int8)


def _torchs_array(kind: Any, _shape: Any, _code: Any) -> Array:
    _require(kind is Array, "has an array that is none")
    return Array()


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, _hooks: Any, metadata: Any = None
) -> Tensor:
    sound = type(storage) is Storage and _naturals((offset,)) and _naturals(size) and _naturals(stride)
    _require(sound and len(size) == len(stride) and not metadata, "has a tensor that is none")
    room, count = storage.values.numel(), math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else -1
    _require(max(count, last + 1) <= room, "has a tensor that is larger than its storage")
    return storage.values.as_strided(size, stride, offset).requires_grad_(requires_grad is True)


def _parameter(data: Any, requires_grad: Any, _hooks: Any) -> Tensor:
    _require(type(data) is Tensor, "has a parameter that is none")
    return torch.nn.Parameter(data, requires_grad is True)


MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "argparse.Namespace": _namespace,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encode,
    "numpy.dtype": Numbers,
    **dict.fromkeys(SCALAR, _scalar),
    **dict.fromkeys(ARRAY, _array),
}
# What torch's own loader may call, beside what it allows by itself, to read what fairseq stores.
FOR_TORCH: list[Any] = [
    argparse.Namespace,
    (Numbers, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    *((_scalar, name) for name in SCALAR),
    *((_torchs_array, name) for name in ARRAY),
]

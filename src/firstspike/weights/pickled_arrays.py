"""Arrays out of a ``.npy`` file that holds objects, without running anything that is in it.

NumPy keeps an array of arrays as a pickle, which is a program: reading it with `pickle` calls whatever it
names. Here `pickletools` takes it apart, nothing is imported and nothing called. Of its operations only
those are known that build numbers, texts, tuples, lists and arrays; any other is refused by its name.
"""

import io
import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstspike.support import InputError, one_line

# What a file of arrays names, as the versions of NumPy and CuPy have written it, and what we call it.
_GLOBALS = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "cupy.core.core array": "cupy",
    "cupy._core.core array": "cupy",
    # Protocol 5, and 2.
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
    "_codecs encode": "encode",
}
_NUMBERS = ("f2", "f4", "f8")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Global:
    kind: str


@dataclass(eq=False)
class _Type:
    """A number type; its byte order comes after it."""

    code: str
    order: str = "="


@dataclass(eq=False)
class _Array:
    """An array; what it holds comes after it."""

    shape: tuple[int, ...] = (0,)
    type: _Type | None = None
    data: Any = b""
    order: str = "C"


_MARK = object()


def read_arrays(path: Path) -> list[np.ndarray]:
    """Return the arrays of floats in a file that ``numpy.save`` wrote from a list of NumPy or CuPy arrays.

    Protocols 2 to 5, any version of NumPy and CuPy. The arrays cannot be written to, and are in the file's
    byte order.

    Raises:
        InputError: the file is something else, damaged, or a pickle that does anything but hold such
            arrays; nothing of it is run.
        OSError: it cannot be read.
    """
    stream = io.BytesIO(path.read_bytes())
    try:
        magic = stream.read(8)
        if magic[:6] != b"\x93NUMPY":
            raise ValueError("it is no .npy file")
        # NumPy's own reader gives the text to Python's parser, which meets a wrong one with any error.
        length = int.from_bytes(stream.read(2 if magic[6] == 1 else 4), "little")
        if b"'descr': '|O'" not in stream.read(length):
            raise ValueError("it holds one array of numbers")
        return _list(_unpickled(stream))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        reason = one_line(str(error))[:160] if isinstance(error, ValueError) else "it is damaged"
        raise InputError(
            f"{path} is no list of arrays as numpy.save writes it: {reason}; nothing of it was run"
        ) from error


def _unpickled(stream: io.BytesIO) -> Any:
    """What the pickle builds. Errors other than ValueError mean that it is damaged."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            items = _since_mark(stack)
            stack.append(tuple(items))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            if not isinstance(stack[-1], list):
                raise ValueError("it appends to what is no list")
            stack[-1].extend(items)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = stack.pop(-2), stack.pop()
            stack.append(_global(" ".join((module, attribute))))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_made(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _fill(stack[-1], state)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it uses the operation {name}")
    raise ValueError("it has no end")


def _since_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _global(name: str) -> _Global:
    if name not in _GLOBALS:
        raise ValueError(f"it names {name.replace(' ', '.')}")
    return _Global(_GLOBALS[name])


def _made(function: Any, arguments: Any) -> Any:
    """What a call would give, of the few that are known, with the arguments that NumPy and CuPy write."""
    match function, arguments:
        case _Global("reconstruct"), (_Global("ndarray"), (0,), b"b" | "b"):
            return _Array()
        case _Global("dtype"), (str(code), _, _) if code in (*_NUMBERS, "O8"):
            return _Type(code)
        case _Global("cupy"), (_Array() as array,):
            return array
        case _Global("frombuffer"), (data, _Type() as number, tuple(shape), "C" | "F" as order):
            return _Array(shape, number, data, order)
        case _Global("encode"), (str(text), "latin1"):
            return text.encode("latin1")
        case _Global(name), _:
            raise ValueError(f"it calls {name} in another way than NumPy and CuPy do")
    raise ValueError("it calls something")


def _fill(built: Any, state: Any) -> None:
    match built, state:
        case _Type(), (3, "<" | ">" | "|" as order, None, None, None, -1, -1, int()):
            built.order = order
        case _Array(), (1, tuple(shape), _Type() as number, bool(fortran), data):
            built.shape, built.type, built.data = shape, number, data
            built.order = "F" if fortran else "C"
        case _:
            raise ValueError("it sets the state of something in another way")


def _list(built: Any) -> list[np.ndarray]:
    match built:
        case _Array(shape=(int(count),), type=_Type(code="O8"), data=list(items)) if count == len(items):
            return [_numbers(item) for item in items]
    raise ValueError("it is no array of arrays along one axis")


def _numbers(item: Any) -> np.ndarray:
    """The array itself, of a size that the bytes which are there hold it to."""
    if not isinstance(item, _Array) or item.type is None or item.type.code not in _NUMBERS:
        raise ValueError("an item of it is no array of floats")
    shape, data = item.shape, item.data
    if isinstance(data, str):
        # Python 2 wrote bytes as text.
        data = data.encode("latin1")
    if not all(type(size) is int and size > 0 for size in shape) or not isinstance(data, bytes | bytearray):
        raise ValueError("the shape or the data of an array are none")
    number = np.dtype(item.type.order.replace("|", "=") + item.type.code)
    if math.prod(shape) * number.itemsize != len(data):
        raise ValueError(f"an array claims another size than the {len(data):,} bytes that are there")
    if len(shape) > 4:
        raise ValueError(f"an array has {len(shape)} axes")
    # A view: a file may name the same bytes many times.
    return np.frombuffer(data, number).reshape(shape, order="F" if item.order == "F" else "C")

"""Reading a pickle that holds arrays, lists and dictionaries of plain values, and nothing else.

A pickle is a program. Here its machine finds no function of Python or numpy at all: the three names that an
array of numbers needs lead to stand-ins of this file, which only note what they are given. Everything else
is refused before it runs. Nor does a short file take much memory, whatever sizes it names.
"""

import io
import math
import pickle
from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from firstspike.support import InputError

_PLAIN = (str, bytes, int, float, bool, type(None))
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_DEEPEST = 20
# None of these reserves memory that the file does not fill, or asks a registry of Python's. What is not
# here is refused: sets, bytearrays, instances of new classes, extension codes.
_OPERATIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT "
    "SETITEM SETITEMS GLOBAL STACK_GLOBAL INST REDUCE BUILD PERSID BINPERSID"
)


class _Refused(Exception):
    """What a pickle asks for is not allowed; the message says what."""


class _Budget:
    """What a file may still ask for: few bytes can name a long value again and again."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _Refused("it repeats itself to more than its length")


class _Inert:
    """An object that a pickle can be handed: it has no state to set and cannot be called."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        raise _Refused("it calls something that is no array")

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it sets the state of something that is no array")


def _shown(name: str) -> str:
    """A name out of the file as it may stand in a message: one line, and short."""
    safe = ascii(name)[1:-1]
    return safe if len(safe) <= 80 else f"{safe[:80]}..."


def _text(value: Any) -> str | None:
    """Text, which Python 2 wrote as bytes; None for anything else."""
    value = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return value if isinstance(value, str) else None


class _ArrayType(_Inert):
    """Stands for ``numpy.ndarray`` where an array names its type."""

    __slots__ = ()


class _Dtype(_Inert):
    """Stands for a numpy dtype of numbers."""

    __slots__ = ("order", "text")

    def __init__(self, text: str) -> None:
        self.text, self.order = text, "="

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, and None for everything that only structured types have, ...)
        order = _text(state[1]) if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise _Refused("it holds a damaged array type")
        self.order = order


class _Array(_Inert):
    """Stands for an array until its content is known."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise _Refused("it holds a damaged array")
        _, shape, dtype, by_columns, content = state
        sizes = isinstance(shape, tuple) and len(shape) <= 32
        sizes = sizes and all(type(n) is int and 0 <= n < 2**62 for n in shape)
        if not (sizes and isinstance(dtype, _Dtype) and isinstance(content, bytes)):
            raise _Refused("it holds an array of something other than numbers")
        kind = np.dtype(dtype.order + dtype.text)
        if math.prod(shape) * kind.itemsize != len(content):
            raise _Refused(f"it holds an array of {shape} whose content has {len(content)} bytes")
        flat = np.frombuffer(content, kind)
        self.value = flat.reshape(shape, order="F" if by_columns else "C")


class _MakeDtype(_Inert):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        text = _text(arguments[0]) if arguments else None
        if text not in _NUMBERS:
            raise _Refused(f"it holds an array of type '{_shown(str(text))}', and only numbers are read")
        return _Dtype(text)


class _MakeArray(_Inert):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        if not arguments or not isinstance(arguments[0], _ArrayType):
            raise _Refused("it makes an array of an unknown class")
        return _Array()


class _Encode(_Inert):
    """Stands for ``_codecs.encode``, with which Python 3 writes bytes by protocol 2."""

    __slots__ = ("budget",)

    def __init__(self, budget: _Budget) -> None:
        self.budget = budget

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
            raise _Refused("it converts text in an unknown way")
        self.budget.spend(len(arguments[0]))
        return arguments[0].encode("latin1")


_ALLOWED: dict[tuple[str, str], type[_Inert]] = {
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray,
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _MakeDtype,
}


def _refuse(reader: Any) -> None:
    raise _Refused("it uses an operation that no array needs")


def _with_text_keys(operation: int) -> Callable[[Any], None]:
    """The operation, if what it makes keys of is text: the hash of nested tuples may never end."""
    run: Callable[[Any], None] = pickle._Unpickler.dispatch[operation]

    def checked(reader: Any) -> None:
        keys = reader.stack[-2:-1] if operation == pickle.SETITEM[0] else reader.stack[::2]
        if any(type(key) not in (str, bytes) for key in keys):
            raise _Refused("it has a key that is no text")
        run(reader)

    return checked


def _dispatch() -> dict[int, Callable[[Any], None]]:
    """What each operation runs."""
    codes = [getattr(pickle, name)[0] for name in _OPERATIONS.split()]
    table = dict.fromkeys(pickle._Unpickler.dispatch, _refuse) | {
        code: pickle._Unpickler.dispatch[code] for code in codes
    }
    return table | {
        name[0]: _with_text_keys(name[0]) for name in (pickle.DICT, pickle.SETITEM, pickle.SETITEMS)
    }


# The machine written in Python: the one in C reserves whatever memory a pickle names.
class _Reader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _dispatch()

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.budget = _Budget(len(content))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Encode(self.budget)
        if (module, name) not in _ALLOWED:
            raise _Refused(f"it asks for {_shown(f'{module}.{name}')}")
        return _ALLOWED[module, name]()

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it refers to an object outside the file")


def load_arrays(content: bytes, path: str | PathLike[str]) -> Any:
    """Return what a pickle holds: dictionaries, lists, tuples, plain values and arrays of numbers.

    Text of Python 2 comes as bytes.

    Args:
        content: the file's bytes.
        path: for the error.

    Raises:
        InputError: the pickle asks for anything else, which is not run, or is damaged.
    """
    try:
        return _checked(_Reader(content).load(), _Budget(len(content)), 0)
    except _Refused as error:
        raise InputError(f"{path}: refused, {error}; this file is no data set of arrays") from None
    except Exception as error:
        # The machine raises whatever a nonsensical program runs into.
        raise InputError(f"{path}: damaged or no pickle ({type(error).__name__})") from None


def _checked(value: Any, budget: _Budget, depth: int) -> Any:
    """Return `value` with its arrays in place."""
    if depth > _DEEPEST:
        raise _Refused("it is nested too deeply")
    budget.spend(1)
    if type(value) in _PLAIN:
        return value
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if type(value) is dict:
        return {key: _checked(item, budget, depth + 1) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_checked(item, budget, depth + 1) for item in value)
    raise _Refused(f"it holds a {type(value).__name__.lstrip('_')}")

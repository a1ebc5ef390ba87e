"""One node of an ONNX file with what it is given."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from firstspike.models.convert import make
from firstspike.models.convert.graph import Node, Pads, refuse
from firstspike.nn.geometry import Pair
from firstspike.support import InputError

TYPES: dict[str, Any] = {
    **dict.fromkeys(("float32", "float16", "bfloat16", "float64"), np.float32),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"), np.int64),
    "bool": np.bool_,
}


class Reader(Protocol):
    """What walks through the file.

    Attributes:
        name: of the file, for messages.
        opset: of its operations.
        batch: samples that are read together.
    """

    name: str
    opset: int
    batch: int

    def move(self, name: str, x: Any, move: Callable[[Tensor], Any]) -> Any:
        """Return a value, a `Node` or a constant, with its places moved."""

    def constant(self, tensor: Any) -> Tensor:
        """Return a tensor of the file: floating point as float32, integers as int64."""


class Call:
    """One node of the file with what it is given."""

    def __init__(self, reader: Reader, name: str, proto: Any, inputs: list[Any]) -> None:
        self.reader, self.name, self.inputs = reader, name, inputs
        self.attributes = {one.name: one for one in proto.attribute}
        self.results = len(proto.output)

    @property
    def x(self) -> Node:
        """The first input, which must come from the network's input."""
        x = self.given(0)
        if not isinstance(x, Node):
            raise refuse(self.name, "an operation on a constant", make.OTHERWISE)
        return x

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute of the node, or `default`."""
        from onnx.helper import get_attribute_value

        if key not in self.attributes:
            return default
        value = get_attribute_value(self.attributes[key])
        if isinstance(value, float):
            # It was written in decimals; float32 keeps them in no more than these.
            return float(str(np.float32(value)))
        return value.decode() if isinstance(value, bytes) else value

    def given(self, place: int) -> Any:
        """The input at a place, which must be there."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            raise InputError(f"{self.reader.name}: {self.name} has no input {place}; export it again")
        return value

    def optional(self, place: int) -> Tensor | None:
        """The input at a place, a constant, or None without it."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(value, Node):
            raise refuse(
                self.name, "an operation whose settings or weights are activations", make.OTHERWISE
            )
        return value

    def constant(self, place: int) -> Tensor:
        """The input at a place, a constant, which must be there."""
        value = self.optional(place)
        return self.given(place) if value is None else value

    def weight(self, place: int) -> Tensor:
        """The input at a place, weights."""
        value = self.constant(place)
        if not value.is_floating_point():
            raise refuse(
                self.name,
                "an operation with integer weights",
                "give the network as it was before it was quantised",
            )
        return value

    def bias(self, place: int) -> Tensor | None:
        """The input at a place, weights, or None without it."""
        return None if self.optional(place) is None else self.weight(place)

    def setting(self, key: str, place: int, default: Any = None) -> Any:
        """What older opsets give as an attribute and newer ones as an input."""
        value = self.optional(place)
        return self.attribute(key, default) if value is None else value.tolist()

    def needed(self, key: str, place: int) -> Any:
        """A setting that must be there."""
        value = self.setting(key, place)
        return self.given(place) if value is None else value

    def pair(self, key: str, default: Pair | None = None) -> Pair:
        """An attribute with a number for y and one for x."""
        value = self.attribute(key, default)
        if value is None or len(value) != 2:
            found = "no" if value is None else f"{len(value)}-dimensional"
            raise refuse(self.name, f"an operation with {found} {key}", "use those on maps (y, x)")
        return value[0], value[1]

    def pads(self, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Pads:
        """Paddings of a convolution or a pooling."""
        kind = self.attribute("auto_pad", "NOTSET")
        if kind == "NOTSET":
            return four(self.attribute("pads", [0, 0, 0, 0]))
        if kind == "VALID":
            return 0, 0, 0, 0
        sizes = zip(self.x.shape[1:], kernel, stride, dilation, strict=True)
        totals = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sizes]
        return halves(totals, more_at_end=kind == "SAME_UPPER")

    def moved(self, move: Callable[[Tensor], Any]) -> Any:
        """What only moves places of the first input."""
        return self.reader.move(self.name, self.given(0), move)


def type_name(number: int) -> str:
    """Return what a file's number of a type means, as "float32"."""
    from onnx import TensorProto

    try:
        name = str(TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return f"an unknown type {number}"
    return {"float": "float32", "double": "float64"}.get(name, name)


def four(pads: Sequence[int]) -> Pads:
    """Return paddings that ONNX orders with all beginnings first."""
    top, left, bottom, right = pads
    return top, bottom, left, right


def halves(totals: Sequence[int], *, more_at_end: bool) -> Pads:
    """Return total paddings cut into beginnings and ends."""
    less, more = [n // 2 for n in totals], [n - n // 2 for n in totals]
    starts, ends = (less, more) if more_at_end else (more, less)
    return starts[0], ends[0], starts[1], ends[1]

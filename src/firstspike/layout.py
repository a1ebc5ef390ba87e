"""Architectures written as one line, such as ``32C3-A2-64C3-A2-F128``. Free of torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from firstspike.support import InputError

_TOKEN = re.compile(r"(?:(\d+)C(\d+)(?:s(\d+))?|(\d+)R(?:s(\d+))?|F(\d+)|([AEM])(\d+))")


@dataclass(frozen=True)
class Conv:
    """A convolution with padding ``kernel // 2``."""

    channels: int
    kernel: int
    stride: int = 1


@dataclass(frozen=True)
class Residual:
    """Two 3 x 3 convolutions with a shortcut around them."""

    channels: int
    stride: int = 1


@dataclass(frozen=True)
class Pool:
    """Pooling over patches that do not overlap: "average" or "earliest"."""

    kind: str
    size: int


@dataclass(frozen=True)
class Full:
    """A fully connected layer."""

    features: int


Part = Conv | Residual | Pool | Full


def parse_layout(text: str) -> list[Part]:
    """Return the hidden layers that `text` describes; the output layer comes from the classes.

    ``nCk`` is a convolution with n maps and a k x k kernel, ``nCks2`` one of stride 2, ``nR`` or ``nRs2``
    a residual block, ``Ak`` and ``Ek`` average and earliest-spike pooling over k x k, ``Fn`` a fully
    connected layer of n neurons.

    Raises:
        InputError: an unknown part, max pooling, a map layer after a fully connected one, or pooling first.

    >>> parse_layout("16C5s2-A2-F100")
    [Conv(channels=16, kernel=5, stride=2), Pool(kind='average', size=2), Full(features=100)]
    """
    parts: list[Part] = []
    for token in text.split("-"):
        parts.append(_part(token, text))
    for one, two in pairwise(parts):
        if isinstance(one, Full) and not isinstance(two, Full):
            raise InputError(f"layout {text!r}: after a fully connected layer come only such layers")
        if isinstance(one, Pool) and isinstance(two, Pool):
            raise InputError(f"layout {text!r}: two poolings in a row; put a layer between them")
    if isinstance(parts[0], Pool):
        raise InputError(f"layout {text!r}: pooling needs a layer before it")
    return parts


def _part(token: str, text: str) -> Part:
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InputError(
            f"layout {text!r}: unknown part {token!r}; expected nCk, nCks2 (convolution), nR, nRs2 "
            "(residual block), Ak (average pooling), Ek (earliest-spike pooling) or Fn (fully connected)"
        )
    maps, kernel, stride, blocks, block_stride, features, kind, size = found.groups()
    if kind == "M":
        raise InputError(
            f"layout {text!r}: max pooling at every step lets a pooled neuron spike once for each input of "
            f"its patch; use A{size} (average) or E{size} (earliest spike, which keeps one)"
        )
    numbers = [int(n) for n in found.groups() if n is not None and n.isdigit()]
    if 0 in numbers:
        raise InputError(f"layout {text!r}: {token!r} has a size of 0")
    if maps is not None:
        if int(kernel) % 2 == 0:
            raise InputError(f"layout {text!r}: {token!r} has an even kernel; expected an odd one")
        return Conv(int(maps), int(kernel), int(stride or 1))
    if blocks is not None:
        return Residual(int(blocks), int(block_stride or 1))
    if features is not None:
        return Full(int(features))
    return Pool({"A": "average", "E": "earliest"}[kind], int(size))


Shape = tuple[int, ...]


def layout_shapes(parts: Sequence[Part], in_shape: Shape) -> list[Shape]:
    """Return the shape of the input ``(channels, height, width)`` and of every part's output.

    Raises:
        InputError: a map that a part cannot take.
    """
    shapes: list[Shape] = [in_shape]
    for depth, part in enumerate(parts):
        shape = shapes[-1]
        if isinstance(part, Full):
            shapes.append((part.features,))
            continue
        channels, *sides = shape
        if isinstance(part, Pool):
            if any(side % part.size for side in sides):
                raise InputError(
                    f"part {depth + 1} of the layout pools {part.size} x {part.size}, which does not "
                    f"divide a map of {sides[0]} x {sides[1]} (input {in_shape[1]} x {in_shape[2]})"
                )
            shapes.append((channels, *(side // part.size for side in sides)))
        else:
            shapes.append((part.channels, *(-(-side // part.stride) for side in sides)))
    return shapes

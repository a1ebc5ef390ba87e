"""Architectures written as one line, such as ``32C3-A2-64C3-A2-F128``, for every network. Free of torch."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from firstspike.support import InputError, check_integer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """``nCk``, ``nCks2``: a convolution with n maps, a k x k kernel, padding ``(k - 1) // 2`` and a stride.

    Its weights are trained unless it is `fixed`.
    """

    channels: int
    kernel: int
    stride: int = 1
    fixed: bool = False

    @property
    def padding(self) -> int:
        """Of each side, so that an odd kernel keeps the size of the map."""
        return (self.kernel - 1) // 2

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        if min(shape[1:]) < self.kernel - 2 * self.padding:
            raise InputError(
                f"a {self.kernel} x {self.kernel} kernel does not fit a map of {shape[1]} x {shape[2]}"
            )
        over = 2 * self.padding - self.kernel
        return (self.channels, *((side + over) // self.stride + 1 for side in shape[1:]))

    def multiply_adds(self, shape: Shape) -> int:
        """Return those of the ANN for such an input; products with padding are none."""
        taps = (self._taps(side) for side in shape[1:])
        return shape[0] * self.channels * math.prod(taps)

    def _taps(self, side: int) -> int:
        """Products along one axis of a map, those with padding left out."""
        starts = range(-self.padding, side + self.padding - self.kernel + 1, self.stride)
        return sum(min(start + self.kernel, side) - max(start, 0) for start in starts)


@dataclass(frozen=True)
class Whiten:
    """``Wk``: a fixed k x k convolution that takes the correlations out of the image's patches.

    Its maps are those of `firstspike.models.whitening.whitening_filters`, two for each number in a patch.
    """

    kernel: int

    def conv(self, shape: Shape) -> Conv:
        """Return the convolution that it is for an input ``(channels, height, width)``.

        Raises:
            InputError: the input is smaller than a patch.
        """
        if min(shape[1:]) < self.kernel:
            raise InputError(
                f"whitening over patches of {self.kernel} x {self.kernel} does not fit an image of "
                f"{shape[1]} x {shape[2]}"
            )
        return Conv(2 * shape[0] * self.kernel**2, self.kernel, fixed=True)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        return self.conv(shape).out_shape(shape)

    def multiply_adds(self, shape: Shape) -> int:
        """Return those of the ANN for such an input."""
        return self.conv(shape).multiply_adds(shape)


@dataclass(frozen=True)
class Residual:
    """``nR``, ``nRs2``: two 3 x 3 convolutions with n maps and a shortcut around them."""

    channels: int
    stride: int = 1

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        return (self.channels, *(-(-side // self.stride) for side in shape[1:]))

    def multiply_adds(self, shape: Shape) -> int:
        """Return those of the ANN for such an input; the shortcut is 1 x 1 where the shape changes."""
        first, second = Conv(self.channels, 3, self.stride), Conv(self.channels, 3)
        inner = first.out_shape(shape)
        past = 0 if inner == shape else shape[0] * math.prod(inner)
        return first.multiply_adds(shape) + second.multiply_adds(inner) + past


@dataclass(frozen=True)
class Recurrent:
    """``nLk``: a convolutional LSTM over the patches of the map, n maps, a k x k kernel on its input."""

    channels: int
    kernel: int

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        return (self.channels, *shape[1:])


@dataclass(frozen=True)
class Dense:
    """``D``: a full connection of the maps of each place to as many, with a shortcut past it."""

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        return shape


@dataclass(frozen=True)
class Bottleneck:
    """``nB``: two full connections of the maps of each place, n maps in between, a shortcut past both."""

    hidden: int

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        return shape


@dataclass(frozen=True)
class Gather:
    """``nG``: each 2 x 2 places become one (patch merging), their maps fully connected to n."""

    channels: int

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        if max(shape[1:]) < 2:
            raise InputError(f"{self.channels}G: nothing to merge in a map of {shape[1]} x {shape[2]}")
        return (self.channels, *(-(-side // 2) for side in shape[1:]))


@dataclass(frozen=True)
class Pool:
    """``Ak``, ``Ek``: "average" or "earliest" spike over k x k places that do not overlap.

    Averages need sides that k divides; of the earliest spikes, rows and columns left over have none.
    """

    kind: str
    size: int

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input ``(channels, height, width)``."""
        if self.kind == "earliest" and min(shape[1:]) < self.size:
            raise InputError(
                f"pooling over {self.size} x {self.size} does not fit a map of {shape[1]} x {shape[2]}"
            )
        if self.kind == "average" and any(side % self.size for side in shape[1:]):
            raise InputError(
                f"pooling over {self.size} x {self.size} does not divide a map of {shape[1]} x {shape[2]}"
            )
        return (shape[0], *(side // self.size for side in shape[1:]))

    def multiply_adds(self, shape: Shape) -> int:
        """Return 0: pooling adds or compares."""
        return 0


@dataclass(frozen=True)
class Full:
    """``Fn``: a layer of n neurons, each connected to the whole input."""

    features: int

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input of any shape."""
        return (self.features,)

    def multiply_adds(self, shape: Shape) -> int:
        """Return those of the ANN for an input of this shape."""
        return math.prod(shape) * self.features


Part = Conv | Whiten | Residual | Recurrent | Dense | Bottleneck | Gather | Pool | Full
P = TypeVar("P", bound=Part)

_POOLS = {"A": "average", "E": "earliest"}
# A part, how it is written, and the pattern whose groups are its fields.
_GRAMMAR: tuple[tuple[type[Part], str, str], ...] = (
    (Conv, "nCk, nCks2 (convolution)", r"(\d+)C(\d+)(?:s(\d+))?"),
    (Whiten, "Wk (whitening, at the front)", r"W(\d+)"),
    (Residual, "nR, nRs2 (residual block)", r"(\d+)R(?:s(\d+))?"),
    (Recurrent, "nLk (convolutional LSTM)", r"(\d+)L(\d+)"),
    (Dense, "D (dense at each place, with a shortcut)", "D"),
    (Bottleneck, "nB (two dense layers at each place, n maps between)", r"(\d+)B"),
    (Gather, "nG (patch merging)", r"(\d+)G"),
    (Pool, "Ak (average pooling), Ek (earliest-spike pooling)", r"([AE])(\d+)"),
    (Full, "Fn (fully connected)", r"F(\d+)"),
)


PARTS: tuple[type[Part], ...] = tuple(kind for kind, _, _ in _GRAMMAR)


def parse_layout(text: str, taken: tuple[type[P], ...]) -> list[P]:
    """Return the hidden layers that `text` describes; the output layer comes from the classes.

    Parts are joined by ``-`` and written as their classes say; ``(...)xk`` repeats a group k times.

    Args:
        text: the layout.
        taken: the parts that the network may be made of.

    Raises:
        InputError: an unknown part or one that the network does not take, a size of 0, an even kernel,
            brackets that do not match, max pooling, a map layer after a fully connected one, pooling first,
            two poolings in a row, or whitening behind another part.

    >>> parse_layout("16C5s2-(A2-8R)x2-F100", PARTS)[1:3]
    [Pool(kind='average', size=2), Residual(channels=8, stride=1)]
    """
    parts: list[P] = []
    for token in _repeated(text).split("-"):
        part = _part(token, text)
        if not isinstance(part, taken):
            written = ", ".join(how for kind, how, _ in _GRAMMAR if kind in taken)
            raise InputError(f"layout {text!r}: this network cannot have {token!r}; it takes {written}")
        parts.append(part)
    if any(isinstance(part, Whiten) for part in parts[1:]):
        raise InputError(f"layout {text!r}: whitening is of the image; put it first")
    for one, two in pairwise(parts):
        if isinstance(one, Full) and not isinstance(two, Full):
            raise InputError(f"layout {text!r}: after a fully connected layer come only such layers")
        if isinstance(one, Pool) and isinstance(two, Pool):
            raise InputError(f"layout {text!r}: two poolings in a row; put a layer between them")
    if isinstance(parts[0], Pool):
        raise InputError(f"layout {text!r}: pooling needs a layer before it")
    return parts


def built(parts: Sequence[Part], in_shape: Shape) -> list[Any]:
    """Return the parts with a whitening as the fixed convolution that it is for such an input."""
    return [part.conv(in_shape) if isinstance(part, Whiten) else part for part in parts]


def check_ends(owner: str, in_shape: Sequence[int], num_classes: int) -> tuple[Shape, int]:
    """Return the shape ``(channels, height, width)`` of a network's input and its number of classes.

    Raises:
        ValueError: one of the numbers is no integer of 1 or more, or the shape has not three of them.
    """
    sides = tuple(in_shape) if isinstance(in_shape, Iterable) else ()
    if len(sides) != 3:
        raise ValueError(f"{owner}.in_shape must be (channels, height, width), found {in_shape!r}")
    return (
        tuple(check_integer(owner, "in_shape", side, low=1) for side in sides),
        check_integer(owner, "num_classes", num_classes, low=1),
    )


def _part(token: str, text: str) -> Part:
    for kind, _, pattern in _GRAMMAR:
        found = re.fullmatch(pattern, token)
        if found is None:
            continue
        fields = [_POOLS.get(value) or int(value) for value in found.groups() if value is not None]
        if 0 in fields:
            raise InputError(f"layout {text!r}: {token!r} has a size of 0")
        part = kind(*fields)  # type: ignore[arg-type]
        if isinstance(part, Conv | Recurrent) and part.kernel % 2 == 0:
            raise InputError(f"layout {text!r}: {token!r} has an even kernel; expected an odd one")
        return part
    if re.fullmatch(r"M\d+", token):
        size = token[1:]
        raise InputError(
            f"layout {text!r}: max pooling at every step lets a pooled neuron spike once for each input "
            f"that it pools; use A{size} (average) or E{size} (earliest spike, which keeps one)"
        )
    written = ", ".join(how for _, how, _ in _GRAMMAR)
    raise InputError(f"layout {text!r}: unknown part {token!r}; expected {written} or (...)xk (a group)")


def _repeated(text: str) -> str:
    """`text` with its repeated groups written out."""
    group = re.compile(r"\(([^()]*)\)x([1-9]\d*)")
    written = group.sub(lambda found: "-".join([found[1]] * int(found[2])), text)
    if "(" in written or ")" in written:
        raise InputError(
            f"layout {text!r}: expected each group as (...)xk, k 1 or more, without groups in groups"
        )
    return written


def layout_shapes(parts: Sequence[Part], in_shape: Shape) -> list[Shape]:
    """Return the shape of the input ``(channels, height, width)`` and of every part's output.

    Raises:
        InputError: a part cannot take what the one before it gives.
    """
    shapes: list[Shape] = [in_shape]
    for number, part in enumerate(parts, 1):
        try:
            shapes.append(part.out_shape(shapes[-1]))
        except InputError as error:
            size = " x ".join(map(str, in_shape[1:]))
            raise InputError(f"part {number} of the layout: {error} (input {size})") from None
    return shapes

"""Nodes from the operations of any framework: one place for paddings, dilations and constants."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.convert.graph import (
    Add,
    Arrange,
    Clip,
    Convolve,
    MaxPool,
    Multiply,
    Node,
    Op,
    Pad,
    Pads,
    Pick,
    Scale,
    Shape,
    joined,
    refuse,
)
from firstspike.nn.geometry import Pair
from firstspike.support import InputError


def node(name: str, op: Op, *inputs: Node) -> Node:
    """Return the node of `op`, its shape found by a try on zeros.

    Raises:
        InputError: the inputs do not fit.
    """
    try:
        with torch.no_grad():
            shape = tuple(op(*(torch.zeros(1, *one.shape) for one in inputs)).shape[1:])
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{name} does not take inputs {[one.shape for one in inputs]}: {error}") from error
    return Node(name, op, list(inputs), shape)


def convolve(
    name: str,
    x: Node,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    pads: Pads,
    *,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Node:
    """Return a convolution; dilation becomes zeros in the kernel."""
    _check_maps(name, x)
    op = Convolve(weight=_dilated(weight, dilation), bias=bias, stride=stride, groups=groups)
    return node(name, Pad(top=pads[0], bottom=pads[1], left=pads[2], right=pads[3]).before(op), x)


def transposed(
    name: str,
    x: Node,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    *,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Node:
    """Return a transposed convolution; `output_padding` becomes zeros at the end of the kernel."""
    _check_maps(name, x)
    kernel = F.pad(_dilated(weight, dilation), (0, output_padding[1], 0, output_padding[0]))
    op = Convolve(weight=kernel, bias=bias, stride=stride, padding=padding, groups=groups, transposed=True)
    return node(name, op, x)


def multiply(name: str, x: Node, weight: Tensor, bias: Tensor | None) -> Node:
    """Return a product with a matrix ``(O, features)``."""
    if len(x.shape) != 1:
        raise refuse(name, f"a linear layer on {x.shape}", "flatten maps before it")
    return node(name, Multiply(weight=weight, bias=bias), x)


def normalise(
    name: str,
    x: Node,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> Node:
    """Return a batch normalisation by running statistics."""
    gain = (variance.double() + eps).rsqrt()
    if weight is not None:
        gain = gain * weight.double()
    shift = -mean.double() * gain
    if bias is not None:
        shift = shift + bias.double()
    return node(name, Scale(gain=gain.float(), shift=shift.float()), x)


def scale(name: str, x: Node, gain: Any, shift: Any) -> Node:
    """Return a gain and a shift, numbers or tensors with one entry a channel."""
    return node(name, Scale(gain=_by_channel(name, x, gain), shift=_by_channel(name, x, shift)), x)


def clip(name: str, x: Node, low: float, high: float) -> Node:
    """Return an activation.

    Raises:
        InputError: it has no lower bound, or no range.
    """
    if math.isinf(low):
        raise refuse(name, "an activation without a lower bound", "use ReLU, ReLU6 or clamp(x, low, high)")
    if not low < high:
        raise refuse(name, f"an activation of the range {low} ... {high}", "its neurons would never fire")
    return node(name, Clip(low=low, high=high), x)


def add(name: str, values: Sequence[Any]) -> Node:
    """Return a sum of nodes and constants."""
    nodes = [value for value in values if isinstance(value, Node)]
    constants = [value for value in values if not isinstance(value, Node)]
    if len({one.shape for one in nodes}) > 1:
        raise refuse(name, f"a sum of shapes {[one.shape for one in nodes]}", "they must be equal")
    total = node(name, Add(), *nodes) if len(nodes) > 1 else nodes[0]
    for constant in constants:
        total = scale(name, total, 1.0, constant)
    return total


def concatenate(name: str, values: Sequence[Node]) -> Node:
    """Return inputs with their channels one after the other, as the sum of their parts."""
    if len({one.shape[1:] for one in values}) > 1:
        raise refuse(
            name, f"a concatenation of {[one.shape for one in values]}", "the maps must be equally large"
        )
    picks = joined([one.shape[0] for one in values])
    return node(name, Add(), *(node(name, pick, one) for pick, one in zip(picks, values, strict=True)))


def pad(name: str, x: Node, top: int, bottom: int, left: int, right: int) -> Node:
    """Return maps with zeros around them."""
    _check_maps(name, x)
    return node(name, Pad(top=top, bottom=bottom, left=left, right=right), x)


def max_pool(
    name: str, x: Node, kernel: Pair, stride: Pair, pads: Pads, *, ceil_mode: bool = False
) -> Node:
    """Return a max pooling."""
    _check_maps(name, x)
    pads = _whole(x, kernel, stride, pads) if ceil_mode else pads
    return node(name, MaxPool(kernel=kernel, stride=stride, pads=pads), x)


def average_pool(
    name: str,
    x: Node,
    kernel: Pair,
    stride: Pair,
    pads: Pads,
    *,
    counts_padding: bool = True,
    ceil_mode: bool = False,
    divisor: int | None = None,
) -> Node:
    """Return an average pooling, a convolution of each map with one weight."""
    _check_maps(name, x)
    ends = _whole(x, kernel, stride, pads) if ceil_mode else pads
    if ends != pads or (any(pads) and not counts_padding):
        raise refuse(
            name,
            "an average pooling whose patches at the border are smaller",
            "count the padding, without ceil_mode",
        )
    weight = torch.full((x.shape[0], 1, *kernel), 1 / (divisor or math.prod(kernel)))
    return convolve(name, x, weight, None, stride, pads, groups=x.shape[0])


def arrange(name: str, x: Node, index: Tensor, shape: Shape) -> Node:
    """Return places by their index, -1 for zeros; channels by theirs where whole channels move."""
    if isinstance(x.op, Arrange | Pick):
        # One after the other are one.
        before = x.op.index if isinstance(x.op, Arrange) else places(x.op, x.inputs[0].shape)
        index = torch.where(index >= 0, before[index.clamp(min=0)], -1)
        x = x.inputs[0]
    area = math.prod(x.shape[1:])
    if torch.equal(index, whole(x.shape)) and shape == x.shape:
        return x
    if len(shape) == len(x.shape) and shape[1:] == x.shape[1:] and area:
        first = index.reshape(shape[0], area)
        channel = torch.where(first[:, 0] >= 0, first[:, 0] // area, -1)
        if torch.equal(places(Pick(index=channel), x.shape), index):
            return node(name, Pick(index=channel), x)
    return node(name, Arrange(index=index, shape=shape), x)


def places(pick: Pick, shape: Shape) -> Tensor:
    """Return the index of all places that channels move to."""
    area = math.prod(shape[1:])
    inside = pick.index[:, None] * area + torch.arange(area)
    return torch.where(pick.index[:, None] >= 0, inside, -1).flatten()


def whole(shape: Shape) -> Tensor:
    """Return the index of all places where they are."""
    return torch.arange(math.prod(shape))


def _whole(x: Node, kernel: Pair, stride: Pair, pads: Pads) -> Pads:
    """Paddings with what the last patches of ceil_mode need, which begin inside."""
    ends = []
    for size, k, s, low, high in zip(x.shape[1:], kernel, stride, pads[::2], pads[1::2], strict=True):
        count = -(-(size + low + high - k) // s) + 1
        if (count - 1) * s >= size + low:
            count -= 1
        ends += [low, max((count - 1) * s + k - size - low, high)]
    return ends[0], ends[1], ends[2], ends[3]


def _dilated(weight: Tensor, dilation: Pair) -> Tensor:
    if dilation == (1, 1):
        return weight
    y, x = ((k - 1) * d + 1 for k, d in zip(weight.shape[-2:], dilation, strict=True))
    wide = weight.new_zeros(*weight.shape[:-2], y, x)
    wide[..., :: dilation[0], :: dilation[1]] = weight
    return wide


def _by_channel(name: str, x: Node, value: Any) -> Tensor:
    """A constant as one number a channel."""
    constant = torch.as_tensor(value, dtype=torch.float32)
    try:
        spread = constant.broadcast_to(1, *x.shape)[0].reshape(x.shape[0], -1)
    except RuntimeError as error:
        raise refuse(
            name, f"a constant {tuple(constant.shape)} on {x.shape}", "one number a channel can be"
        ) from error
    if not torch.equal(spread, spread[:, :1].expand_as(spread)):
        raise refuse(name, "a constant that differs from place to place", "one number a channel can be")
    return spread[:, 0].clone()


def _check_maps(name: str, x: Node) -> None:
    if len(x.shape) != 3:
        raise refuse(
            name, f"an operation on maps that takes {x.shape}", "give images (batch, channels, y, x)"
        )

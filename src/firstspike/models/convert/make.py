"""Nodes from the operations of any framework: one place for paddings, dilations and constants."""

import math
from collections.abc import Callable, Sequence
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

OTHERWISE = (
    "linear layers, convolutions, batch normalisation, ReLU, clamp, pooling, sums and concatenations can be"
)
_SMOOTH = "train it with ReLU, ReLU6 or clamp instead"
_FLOAT = "give the network as it was before it was quantised"
# What to use instead of an operation, by its name in lower case without underscores.
_INSTEAD = {
    **dict.fromkeys(
        (
            *("leakyrelu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
            *("hardswish", "softsign", "tanhshrink", "hardshrink", "softshrink"),
        ),
        f"a spike time stands for a clipped ReLU's activity and for no other; {_SMOOTH}",
    ),
    **dict.fromkeys(("sigmoid", "tanh", "hardsigmoid", "logsigmoid", "erf", "threshold", "glu"), _SMOOTH),
    **dict.fromkeys(
        (
            *("layernorm", "groupnorm", "instancenorm", "localresponsenorm", "rmsnorm"),
            *("layernormalization", "groupnormalization", "instancenormalization", "lrn"),
            *("rmsnormalization", "meanvariancenormalization", "lpnormalization"),
        ),
        "its statistics depend on the sample; train it with batch normalisation",
    ),
    **dict.fromkeys(("lstm", "gru", "rnn", "rnntanh", "rnnrelu"), "a single spike has no recurrence"),
    **dict.fromkeys(("if", "loop", "scan"), "export a network that does the same for every image"),
    **dict.fromkeys(("argmax", "topk", "hardmax"), "take the network without it: the first spike decides"),
    **dict.fromkeys(
        (
            *("quantizelinear", "dequantizelinear", "dynamicquantizelinear", "qlinearconv"),
            *("qlinearmatmul", "convinteger", "matmulinteger"),
        ),
        _FLOAT,
    ),
}


def unknown(name: str, operation: str, within: str) -> InputError:
    """Return the error for an operation that has no meaning with single spikes.

    Args:
        name: of the layer, with the operation.
        operation: its own.
        within: the layer or function that the user wrote, of which it may be a part only.
    """
    own, whole_one = (one.lower().replace("_", "") for one in (operation, within))
    part = "" if own == whole_one else f", part of {within},"
    instead = _INSTEAD.get(whole_one, _INSTEAD.get(own, OTHERWISE))
    return InputError(f"{name}{part} cannot be converted; {instead}")


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
    pads: Pads,
    output_padding: Pair,
    *,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Node:
    """Return a transposed convolution.

    `output_padding` becomes zeros at the end of the kernel, and so does what `pads` cut off less there than
    at the beginning; what they cut off more becomes zeros at the beginning.
    """
    _check_maps(name, x)
    top, bottom, left, right = pads
    frame = max(right - left, 0), max(left - right, 0), max(bottom - top, 0), max(top - bottom, 0)
    frame = frame[0], frame[1] + output_padding[1], frame[2], frame[3] + output_padding[0]
    op = Convolve(
        weight=F.pad(_dilated(weight, dilation), frame),
        bias=bias,
        stride=stride,
        padding=(max(top, bottom), max(left, right)),
        groups=groups,
        transposed=True,
    )
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
    """Return a gain and a shift, numbers or tensors with one entry a channel, also of transposed maps."""
    if isinstance(x.op, Arrange) and _transposed_maps(x):
        before, back = x.inputs[0], torch.argsort(x.op.index)
        gain, shift = (_by_place(name, x, one).flatten()[back] for one in (gain, shift))
        scaled = scale(name, before, gain.reshape(before.shape), shift.reshape(before.shape))
        return arrange(name, scaled, x.op.index, x.shape)
    return node(name, Scale(gain=_by_channel(name, x, gain), shift=_by_channel(name, x, shift)), x)


def clip(name: str, x: Node, low: float, high: float) -> Node:
    """Return an activation.

    Raises:
        InputError: it has no lower bound, or no range.
    """
    if isinstance(x.op, Arrange) and _transposed_maps(x):
        return arrange(name, clip(name, x.inputs[0], low, high), x.op.index, x.shape)
    if isinstance(x.op, Clip):
        # One after the other are one.
        low, high = (min(max(bound, low), high) for bound in (x.op.low, x.op.high))
        x = x.inputs[0]
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


def subtract(name: str, one: Any, two: Any, factor: float = 1) -> Node:
    """Return ``one - factor * two``, of which one may be a constant."""
    return add(name, [one, scale(name, two, -factor, 0.0) if isinstance(two, Node) else two * -factor])


def product(name: str, one: Any, two: Any) -> Node:
    """Return the product of a node and a constant."""
    if isinstance(one, Node) and isinstance(two, Node):
        raise refuse(name, "a product of two activations", "such gates have no single-spike form")
    return scale(name, one, two, 0.0) if isinstance(one, Node) else scale(name, two, one, 0.0)


def quotient(name: str, one: Any, two: Any) -> Node:
    """Return a node divided by a constant."""
    if isinstance(two, Node):
        raise refuse(name, "a division by an activation", OTHERWISE)
    return scale(name, one, 1 / two, 0.0)


def matrix_product(name: str, x: Any, weight: Any) -> Node:
    """Return the product of a node and a constant matrix ``(features, O)``."""
    if not isinstance(x, Node) or not isinstance(weight, Tensor) or weight.dim() != 2:
        raise refuse(name, "a product of two activations, or of a constant first", OTHERWISE)
    return multiply(name, x, weight.t(), None)


def mean(name: str, x: Node, axes: Sequence[int], *, keep: bool) -> Node:
    """Return the mean over axes, counted with the batch; only that of whole maps can be."""
    axes = sorted(axis % (len(x.shape) + 1) for axis in axes)
    if len(x.shape) != 3 or axes != [2, 3]:
        raise refuse(name, f"a mean over the axes {axes}", "only that of whole maps can be")
    pooled = average_pool(name, x, x.shape[1:], x.shape[1:], (0, 0, 0, 0))
    return pooled if keep else arrange(name, pooled, whole(pooled.shape), x.shape[:1])


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
    """Return an average pooling, a convolution of each map with one weight.

    Raises:
        InputError: patches are divided by different numbers of places, which one weight cannot do.
    """
    _check_maps(name, x)
    ends = _whole(x, kernel, stride, pads) if ceil_mode else pads
    if divisor is None and (ends != pads or (any(pads) and not counts_padding)):
        counted = Pad(top=pads[0], bottom=pads[1], left=pads[2], right=pads[3])(
            torch.ones(1, 1, *x.shape[1:])
        )
        counted = torch.ones_like(counted) if counts_padding else counted
        more = (ends[2] - pads[2], ends[3] - pads[3], ends[0] - pads[0], ends[1] - pads[1])
        counts = F.avg_pool2d(F.pad(counted, more), kernel, stride, divisor_override=1)
        divisor = int(counts.max())
        if not bool((counts == divisor).all()):
            raise refuse(
                name,
                "an average pooling whose patches at the border hold fewer places",
                "use one that counts its padding (count_include_pad), or none, with whole patches (no "
                "ceil_mode)",
            )
    weight = torch.full((x.shape[0], 1, *kernel), 1 / (divisor or math.prod(kernel)))
    return convolve(name, x, weight, None, stride, ends, groups=x.shape[0])


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


def moved(name: str, x: Node, move: Callable[[Tensor], Any], batch: int) -> Any:
    """Return the nodes of what only moves places, a tensor or a list of them.

    It is found by moving numbers of places, counted from 1; 0 is a new place.

    Args:
        name, x: of the node.
        move: what moves the values of `batch` samples.
        batch: samples that are moved together.

    Raises:
        InputError: values go from one sample to another.
    """
    count = math.prod(x.shape)
    results = move((torch.arange(batch * count, dtype=torch.float64) + 1).reshape(batch, *x.shape))
    found = []
    for part in results if isinstance(results, list | tuple) else [results]:
        one = part[0] if part.dim() and len(part) == batch else None
        offsets = torch.arange(batch, dtype=torch.float64).reshape(-1, *([1] * (part.dim() - 1))) * count
        if one is None or not torch.equal(part, torch.where(one > 0, one + offsets, 0)):
            raise refuse(name, "an operation across the batch", "keep samples apart")
        found.append(arrange(name, x, one.flatten().to(torch.int64) - 1, tuple(one.shape)))
    return found if isinstance(results, list | tuple) else found[0]


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


def _by_place(name: str, x: Node, value: Any) -> Tensor:
    """A constant as one number a place, in the node's shape."""
    constant = torch.as_tensor(value, dtype=torch.float32)
    try:
        return constant.broadcast_to(1, *x.shape)[0]
    except RuntimeError as error:
        raise refuse(
            name, f"a constant {tuple(constant.shape)} on {x.shape}", "one number a channel can be"
        ) from error


def _by_channel(name: str, x: Node, value: Any) -> Tensor:
    """A constant as one number a channel."""
    spread = _by_place(name, x, value).reshape(x.shape[0], -1)
    if not torch.equal(spread, spread[:, :1].expand_as(spread)):
        raise refuse(name, "a constant that differs from place to place", "one number a channel can be")
    return spread[:, 0].clone()


def _transposed_maps(x: Node) -> bool:
    """Whether a rearranged node is maps with all places of others, as with channels last."""
    assert isinstance(x.op, Arrange)
    return len(x.shape) == len(x.inputs[0].shape) == 3 and torch.equal(
        x.op.index.sort().values, whole(x.inputs[0].shape)
    )


def _check_maps(name: str, x: Node) -> None:
    if len(x.shape) != 3:
        raise refuse(
            name, f"an operation on maps that takes {x.shape}", "give images (batch, channels, y, x)"
        )

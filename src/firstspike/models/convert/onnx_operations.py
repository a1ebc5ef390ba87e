"""ONNX's operations, each as a `Node` of a `Graph`, or as a constant where it is given constants only."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.convert import make
from firstspike.models.convert.graph import Node, Pads, Softmax, refuse
from firstspike.models.convert.onnx_call import TYPES, Call, four, halves, type_name
from firstspike.nn.geometry import Pair
from firstspike.support import InputError

# Values that a file may ask for by a shape alone, and those that one operation may go through for it.
_MAX_FILLED = 2**24
_MAX_VISITED = 2**28
# Bounds of a clip that stand for none: the largest float32, or float16.
_UNBOUNDED = 65504.0


def _convolve(call: Call) -> Node:
    weight = call.weight(1)
    if weight.dim() != 4:
        raise refuse(call.name, f"a {weight.dim() - 2}-dimensional convolution", "use those on maps (y, x)")
    kernel, stride, dilation = _kernel(weight), call.pair("strides", (1, 1)), call.pair("dilations", (1, 1))
    pads = call.pads(kernel, stride, dilation)
    _check_patches(call, weight.shape[:2], _spread(kernel, dilation), stride, pads, weight.numel())
    return make.convolve(
        call.name,
        call.x,
        weight,
        call.bias(2),
        stride,
        pads,
        dilation=dilation,
        groups=call.attribute("group", 1),
    )


def _kernel(weight: Tensor) -> Pair:
    return weight.shape[2], weight.shape[3]


def _spread(kernel: Pair, dilation: Pair) -> Pair:
    """Sides of a kernel with the zeros of a dilation."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def _check_patches(
    call: Call, outer: Sequence[int], kernel: Pair, stride: Pair, pads: Pads, given: int = 0
) -> None:
    """Refuse a kernel ``(*outer, y, x)``, a padded input or a result that is very large.

    Where paddings differ, both ends are padded alike and the kernel becomes larger.
    """
    ends = pads[:2], pads[2:]
    kernel_sides = [k + abs(low - high) for k, (low, high) in zip(kernel, ends, strict=True)]
    _check_filled(call, (*outer, *kernel_sides), given)
    channels, *sides = call.x.shape
    padded = [n + 2 * max(*end, 0) for n, end in zip(sides, ends, strict=False)]
    _check_filled(call, (channels, *padded))
    each = zip(padded, kernel_sides, stride, strict=False)
    results = [max(n - k, 0) // max(s, 1) + 1 for n, k, s in each]
    _check_filled(call, (outer[0], *results))
    _check_filled(call, (*results, *kernel_sides), _MAX_VISITED)


def _transposed(call: Call) -> Node:
    weight = call.weight(1)
    if weight.dim() != 4:
        raise refuse(call.name, f"a {weight.dim() - 2}-dimensional convolution", "use those on maps (y, x)")
    stride, dilation = call.pair("strides", (1, 1)), call.pair("dilations", (1, 1))
    more, kind = call.pair("output_padding", (0, 0)), call.attribute("auto_pad", "NOTSET")
    wanted = call.attribute("output_shape")
    pads = four(call.attribute("pads", [0, 0, 0, 0])) if kind == "NOTSET" else (0, 0, 0, 0)
    if wanted is not None or kind in ("SAME_UPPER", "SAME_LOWER"):
        sizes = call.x.shape[1:]
        wanted = [n * s for n, s in zip(sizes, stride, strict=True)] if wanted is None else wanted[-2:]
        each = zip(wanted, sizes, _kernel(weight), stride, dilation, more, strict=True)
        totals = [s * (n - 1) + m + (k - 1) * d + 1 - w for w, n, k, s, d, m in each]
        if min(totals) < 0:
            raise refuse(call.name, "a transposed convolution to a larger shape", "use output_padding")
        pads = halves(totals, more_at_end=kind == "SAME_UPPER")
    # As `make.transposed` makes it: what paddings differ by becomes part of the kernel.
    ends = pads[:2], pads[2:]
    wide = _spread(_kernel(weight), dilation)
    sides = [k + abs(low - high) + m for k, (low, high), m in zip(wide, ends, more, strict=True)]
    _check_filled(call, (*weight.shape[:2], *sides), weight.numel())
    places = [s * (n - 1) + k for n, k, s in zip(call.x.shape[1:], sides, stride, strict=False)]
    _check_filled(call, (weight.shape[1] * call.attribute("group", 1), *places))
    return make.transposed(
        call.name,
        call.x,
        weight,
        call.bias(2),
        stride,
        pads,
        more,
        dilation=dilation,
        groups=call.attribute("group", 1),
    )


def _gemm(call: Call) -> Node:
    if call.attribute("transA", 0):
        raise refuse(call.name, "a product with transposed activations", make.OTHERWISE)
    weight = call.weight(1) if call.attribute("transB", 0) else call.weight(1).t()
    weight = weight * call.attribute("alpha", 1.0)
    added, beta = call.inputs[2] if len(call.inputs) > 2 else None, call.attribute("beta", 1.0)
    if isinstance(added, Node):
        total = make.multiply(call.name, call.x, weight, None)
        return make.add(call.name, [total, make.product(call.name, added, beta)])
    bias = None if added is None else (call.weight(2) * beta).broadcast_to(1, len(weight))[0]
    return make.multiply(call.name, call.x, weight, bias)


def _matmul(call: Call) -> Node:
    one, two = call.given(0), call.given(1)
    return make.matrix_product(call.name, one, two if isinstance(two, Node) else call.weight(1))


def _normalise(call: Call) -> Node:
    if call.attribute("training_mode", 0) or not call.attribute("spatial", 1):
        raise refuse(
            call.name, "a batch normalisation in training, or by place", "export it for evaluation"
        )
    gain, shift, mean, variance = (call.weight(k) for k in range(1, 5))
    return make.normalise(call.name, call.x, gain, shift, mean, variance, call.attribute("epsilon", 1e-5))


def _clip(call: Call) -> Node:
    low, high = call.setting("min", 1), call.setting("max", 2)
    low = -math.inf if low is None or low <= -_UNBOUNDED else low
    high = math.inf if high is None or high >= _UNBOUNDED else high
    return make.clip(call.name, call.x, low, high)


def _extreme(call: Call, *, largest: bool) -> Node:
    """Max or Min with a constant, a clip."""
    bounds = [one for one in call.inputs if not isinstance(one, Node)]
    nodes = [one for one in call.inputs if isinstance(one, Node)]
    if len(nodes) != 1 or len(bounds) != 1 or bounds[0].numel() != 1:
        raise refuse(call.name, "a choice between activations", make.OTHERWISE)
    bound = float(bounds[0])
    return make.clip(call.name, nodes[0], *((bound, math.inf) if largest else (-math.inf, bound)))


def _pool(call: Call, *, largest: bool) -> Node:
    kernel, stride = call.pair("kernel_shape"), call.pair("strides", (1, 1))
    if call.pair("dilations", (1, 1)) != (1, 1):
        raise refuse(call.name, "a dilated pooling", "use a strided one")
    pads, ceil_mode = call.pads(kernel, stride), bool(call.attribute("ceil_mode", 0))
    if largest:
        # The last patches of ceil_mode begin inside.
        beyond = [k + s if ceil_mode else 0 for k, s in zip(kernel, stride, strict=True)]
        places = [n + sum(pads[2 * k : 2 * k + 2]) + beyond[k] for k, n in enumerate(call.x.shape[1:3])]
        _check_filled(call, (call.x.shape[0], *places))
        return make.max_pool(call.name, call.x, kernel, stride, pads, ceil_mode=ceil_mode)
    more = kernel if ceil_mode else (0, 0)
    framed = (pads[0], pads[1] + more[0], pads[2], pads[3] + more[1])
    _check_patches(call, (call.x.shape[0], 1), kernel, stride, framed)
    counts = bool(call.attribute("count_include_pad", 0))
    return make.average_pool(
        call.name, call.x, kernel, stride, pads, counts_padding=counts, ceil_mode=ceil_mode
    )


def _whole_pool(call: Call, *, largest: bool) -> Node:
    if len(call.x.shape) != 3:
        raise refuse(
            call.name, f"an operation on maps that takes {call.x.shape}", "use those on maps (y, x)"
        )
    kernel = (call.x.shape[1], call.x.shape[2])
    function = make.max_pool if largest else make.average_pool
    return function(call.name, call.x, kernel, kernel, (0, 0, 0, 0))


def _mean(call: Call) -> Node:
    axes = call.setting("axes", 1) or range(len(call.x.shape) + 1)
    x, keep = call.x, bool(call.attribute("keepdims", 1))
    if len(x.shape) == 3 and sorted(axis % 4 for axis in axes) == [1, 2]:
        # Channels stand last.
        pooled = make.mean(
            call.name, call.reader.move(call.name, x, lambda v: v.permute(0, 3, 1, 2)), (2, 3), keep=keep
        )
        return call.reader.move(call.name, pooled, lambda v: v.permute(0, 2, 3, 1)) if keep else pooled
    return make.mean(call.name, x, axes, keep=keep)


def _flatten(call: Call) -> Any:
    axis = call.attribute("axis", 1)
    return call.moved(lambda v: v.reshape(math.prod(v.shape[:axis]), math.prod(v.shape[axis:])))


def _reshape(call: Call) -> Any:
    wanted, zeros = call.needed("shape", 1), call.attribute("allowzero", 0)

    def move(values: Tensor) -> Tensor:
        return values.reshape(
            [values.shape[k] if side == 0 and not zeros else side for k, side in enumerate(wanted)]
        )

    return call.moved(move)


def _transpose(call: Call) -> Any:
    order = call.attribute("perm")
    return call.moved(lambda v: v.permute(order or list(range(v.dim()))[::-1]))


def _squeeze(call: Call) -> Any:
    axes = call.setting("axes", 1)
    return call.moved(lambda v: v.squeeze() if axes is None else v.squeeze(tuple(axes)))


def _unsqueeze(call: Call) -> Any:
    axes = call.needed("axes", 1)

    def move(values: Tensor) -> Tensor:
        for axis in sorted(one % (values.dim() + len(axes)) for one in axes):
            values = values.unsqueeze(axis)
        return values

    return call.moved(move)


def _slice(call: Call) -> Any:
    starts, ends = call.needed("starts", 1), call.needed("ends", 2)
    axes = call.setting("axes", 3) or range(len(starts))
    steps = call.setting("steps", 4) or [1] * len(starts)

    def move(values: Tensor) -> Tensor:
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            kept = range(*slice(start, end, step).indices(values.shape[axis]))
            values = values.index_select(axis, torch.tensor(kept, dtype=torch.int64))
        return values

    return call.moved(move)


def _expand(call: Call) -> Any:
    wanted = call.needed("shape", 1)

    def move(values: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(values.shape, wanted)
        _check_filled(call, shape, values.numel())
        return values.expand(shape)

    return call.moved(move)


def _split(call: Call) -> Any:
    axis, sizes = call.attribute("axis", 0), call.setting("split", 1)

    def move(values: Tensor) -> list[Tensor]:
        count = call.attribute("num_outputs", call.results)
        return list(values.split(sizes or -(-values.shape[axis] // count), axis))

    return call.moved(move)


def _gather(call: Call) -> Any:
    axis, index = call.attribute("axis", 0), call.constant(1)

    def move(values: Tensor) -> Tensor:
        shape = [*values.shape[:axis], *index.shape, *values.shape[axis % values.dim() + 1 :]]
        _check_filled(call, shape, values.numel())
        kept = torch.where(index < 0, index + values.shape[axis], index)
        return values.index_select(axis, kept.flatten()).reshape(shape)

    return call.moved(move)


def _depth_to_space(call: Call) -> Any:
    size, mode = call.attribute("blocksize"), call.attribute("mode", "DCR")

    def move(values: Tensor) -> Tensor:
        if mode == "CRD":
            return F.pixel_shuffle(values, size)
        blocks = values.unflatten(1, (size, size, -1))
        return blocks.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)

    return call.moved(move)


def _pad(call: Call) -> Any:
    x, pads, value = call.x, call.needed("pads", 1), call.setting("value", 2, 0.0)
    axes = call.setting("axes", 3) or range(len(x.shape) + 1)
    if call.attribute("mode", "constant") != "constant" or value:
        raise refuse(
            call.name, "a padding that is not of zeros", "only zeros, silent inputs, can be padded"
        )
    ends = [(0, 0)] * (len(x.shape) + 1)
    for axis, low, high in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        ends[axis] = (low, high)
    _check_filled(call, [n + low + high for n, (low, high) in zip((1, *x.shape), ends, strict=True)])
    if len(ends) == 4 and ends[:2] == [(0, 0)] * 2:
        return make.pad(call.name, x, *ends[2], *ends[3])
    return call.moved(lambda v: F.pad(v, [one for pair in reversed(ends) for one in pair]))


def _concatenate(call: Call) -> Any:
    axis, values = call.attribute("axis"), [call.given(k) for k in range(len(call.inputs))]
    if not any(isinstance(one, Node) for one in values):
        _check_filled(call, (sum(one.numel() for one in values),))
        return torch.cat(values, axis)
    if not all(isinstance(one, Node) for one in values):
        raise refuse(call.name, "a concatenation with a constant", "concatenate activations only")
    if axis % (len(values[0].shape) + 1) != 1:
        raise refuse(
            call.name, f"a concatenation along axis {axis}", "only channels (1) can be concatenated"
        )
    shape = sum(one.shape[0] for one in values), *values[0].shape[1:]
    _check_filled(call, shape)
    # It is the sum of as many inputs, each with zeros for the others.
    _check_filled(call, (len(values), shape[0]))
    _check_filled(call, (len(values), *shape), _MAX_VISITED)
    return make.concatenate(call.name, values)


def _softmax(call: Call, kind: str) -> Softmax:
    x, old = call.x, call.reader.opset < 13
    axis = call.attribute("axis", 1 if old else -1) % (len(x.shape) + 1)
    # The older one is over all axes from `axis` on.
    if axis != 1 or (old and math.prod(x.shape[1:]) > 1):
        raise refuse(
            call.name, f"a softmax over axis {axis}", "only over the classes (1) it changes no decision"
        )
    return Softmax(x, kind)


def _arithmetic(call: Call, on_nodes: Callable[..., Any], on_constants: Callable[..., Any]) -> Any:
    one, two = call.given(0), call.given(1)
    if isinstance(one, Node) or isinstance(two, Node):
        return on_nodes(call.name, one, two)
    _check_filled(call, torch.broadcast_shapes(one.shape, two.shape), max(one.numel(), two.numel()))
    return on_constants(one, two)


def _divided(one: Tensor, two: Tensor) -> Tensor:
    return one / two if one.is_floating_point() else torch.div(one, two, rounding_mode="trunc")


def _sum(call: Call) -> Node:
    return make.add(call.name, call.inputs)


def _same(call: Call) -> Any:
    training = call.optional(2)
    if training is not None and bool(training):
        raise refuse(call.name, "a dropout in training", "export the network for evaluation")
    return call.inputs[0]


def _cast(call: Call) -> Any:
    kind, value = type_name(call.attribute("to")), call.inputs[0]
    if kind not in TYPES:
        raise InputError(f"{call.name} casts to {kind}; export a network of float32")
    wanted = TYPES[kind]
    if isinstance(value, Node):
        if wanted is not np.float32:
            raise refuse(
                call.name, f"a cast of activations to {kind}", "keep activations in floating point"
            )
        return value
    return value.to({np.float32: torch.float32, np.int64: torch.int64}.get(wanted, torch.bool))


def _shape(call: Call) -> Tensor:
    value = call.inputs[0]
    shape = (call.reader.batch, *value.shape) if isinstance(value, Node) else tuple(value.shape)
    return torch.tensor(shape[call.attribute("start", 0) : call.attribute("end")], dtype=torch.int64)


def _constant(call: Call) -> Tensor:
    for key, kind in (
        ("value_float", torch.float32),
        ("value_floats", torch.float32),
        ("value_int", torch.int64),
        ("value_ints", torch.int64),
    ):
        if key in call.attributes:
            return torch.tensor(call.attribute(key), dtype=kind)
    if "value" not in call.attributes:
        raise refuse(call.name, "a constant of text or a sparse one", "export a network of float32")
    return call.reader.constant(call.attribute("value"))


def _filled(call: Call) -> Tensor:
    shape, value = call.needed("shape", 0), call.attribute("value")
    _check_filled(call, shape)
    filling = torch.zeros(()) if value is None else call.reader.constant(value).reshape(())
    return filling.expand(shape)


def _check_filled(call: Call, shape: Sequence[int], given: int = 0) -> None:
    """Refuse what a few bytes of a file would make very large, and larger than what is `given`."""
    if math.prod(shape) > max(_MAX_FILLED, given):
        raise refuse(call.name, f"an operation that gives the shape {tuple(shape)}", "use smaller maps")


OPERATIONS: dict[str, Callable[[Call], Any]] = {
    "Conv": _convolve,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _normalise,
    "Relu": lambda call: make.clip(call.name, call.x, 0.0, math.inf),
    "Clip": _clip,
    "Max": partial(_extreme, largest=True),
    "Min": partial(_extreme, largest=False),
    "MaxPool": partial(_pool, largest=True),
    "AveragePool": partial(_pool, largest=False),
    "GlobalMaxPool": partial(_whole_pool, largest=True),
    "GlobalAveragePool": partial(_whole_pool, largest=False),
    "ReduceMean": _mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Expand": _expand,
    "Split": _split,
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "Pad": _pad,
    "Concat": _concatenate,
    "Add": partial(
        _arithmetic, on_nodes=lambda name, *values: make.add(name, values), on_constants=torch.add
    ),
    "Sub": partial(_arithmetic, on_nodes=make.subtract, on_constants=torch.sub),
    "Mul": partial(_arithmetic, on_nodes=make.product, on_constants=torch.mul),
    "Div": partial(_arithmetic, on_nodes=make.quotient, on_constants=_divided),
    "Sum": _sum,
    "Neg": lambda call: make.product(call.name, call.x, -1.0),
    "Softmax": partial(_softmax, kind="softmax"),
    "LogSoftmax": partial(_softmax, kind="log_softmax"),
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Shape": _shape,
    "Constant": _constant,
    "ConstantOfShape": _filled,
}

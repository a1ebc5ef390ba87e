"""Reading an ONNX file: its operations as a `Graph`. Nothing in a file is run or followed outside of it."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.models.convert import make
from firstspike.models.convert.graph import Graph, Node, Pads, Shape, Softmax, ended, refuse
from firstspike.nn.geometry import Pair
from firstspike.support import InputError, refuse_pickled

# Samples that are read together where the file leaves their number open; of one, an axis might be lost.
_BATCH = 2
_MAX_BATCH = 1024
_OLDEST = 7
# Protobuf reads no more.
_MAX_BYTES = 2**31 - 1
# Values that a file may ask for by a shape alone, and those that one operation may go through for it.
_MAX_FILLED = 2**24
_MAX_VISITED = 2**28
# Bounds of a clip that stand for none: the largest float32, or float16.
_UNBOUNDED = 65504.0
_CHANNELS_FIRST = [0, 3, 1, 2]
# Activations that exporters take apart, by what is done to their input before it is multiplied by that.
_GATES = {("Sigmoid",): "SiLU", ("HardSigmoid",): "Hardswish", ("Softplus", "Tanh"): "Mish"}


def read_onnx(path: str | Path, shape: Shape) -> Graph:
    """Return the graph of an ONNX file.

    Args:
        path: of the file.
        shape: of one image; maps are ``(channels, y, x)``, also where the file takes ``(y, x, channels)``.

    Raises:
        InputError: the file is none of ONNX, damaged, too large, or has parts outside of it; an operation
            has no meaning with single spikes; the images have another shape.
        ImportError: without the package onnx.
    """
    path = Path(path)
    return _Reader(_load(path), path.name, shape).read()


def declared(path: str | Path) -> tuple[list[int | None] | None, list[int | None] | None]:
    """Return the shapes that an ONNX file takes and gives, without the batch.

    A side that it leaves open is None, and so is a shape of which it says nothing.

    Raises:
        InputError, ImportError: as `read_onnx`.
    """
    path = Path(path)
    given, wanted = (_declared(one) for one in _ends(_load(path), path.name))
    return None if given is None else given[1:], None if wanted is None else wanted[1:]


def _load(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            'reading ONNX files needs the package onnx; pip install "firstspike[onnx]"'
        ) from error
    from google.protobuf.message import DecodeError

    try:
        if not path.is_file():
            raise InputError(f"{path} is no file; give an ONNX file")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than 2 GB, which ONNX files cannot be")
        refuse_pickled(path)
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise InputError(f"{path} is damaged or no ONNX file; export the network again") from error
    if not model.graph.node or not model.opset_import:
        raise InputError(f"{path} is damaged or no ONNX file: it holds no network; export it again")
    return model


def _ends(model: Any, name: str) -> tuple[Any, Any]:
    """The one input and the one output of a file."""
    graph = model.graph
    constants = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(
            f"{name} has {len(inputs)} inputs and {len(graph.output)} outputs; export a network "
            "with one of each"
        )
    return inputs[0], graph.output[0]


def _declared(given: Any) -> list[int | None] | None:
    """The sides of an input with that of the batch, None for open ones; None for all if it says nothing."""
    sides = given.type.tensor_type
    if not sides.HasField("shape"):
        return None
    return [one.dim_value if one.dim_value > 0 else None for one in sides.shape.dim]


class _Reader:
    """Walks through the file's nodes; a value is a `Node`, or a constant: float32, int64 or bool.

    Args:
        model: the file.
        name: of the file, for messages.
        shape: of one image, channels first.
    """

    def __init__(self, model: Any, name: str, shape: Shape) -> None:
        self.model, self.name = model, name
        self.opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
        if self.opset < _OLDEST:
            raise InputError(f"{name} is of opset {self.opset}; export it with opset {_OLDEST} or newer")
        graph = model.graph
        if graph.sparse_initializer:
            raise InputError(f"{name} has sparse weights; export it with dense ones")
        self.given, self.wanted = _ends(model, name)
        kind = _type_name(self.given.type.tensor_type.elem_type)
        if kind not in ("float32", "float16", "float64"):
            raise InputError(f"{name} takes {kind}; export a network that takes float32")
        self.batch, last_channels = self._layout(shape)
        self.input = Node("the input", None, [], shape)
        self.values: dict[str, Any] = {one.name: self._constant(one) for one in graph.initializer}
        taken = self.input
        if last_channels:
            taken = self._move("the input", self.input, lambda values: values.permute(0, 2, 3, 1))
        self.values[self.given.name] = taken
        # Bytes of what the operations made, by its place in memory, which stays taken.
        self.held: dict[int, int] = {}
        self.bytes = 0

    def _layout(self, shape: Shape) -> tuple[int, bool]:
        """Samples read together, and whether the file takes channels last."""
        declared = _declared(self.given)
        batch, *own = [None] * (len(shape) + 1) if declared is None else declared or [None]

        def fits(one: Sequence[int]) -> bool:
            return len(one) == len(own) and all(d in (None, n) for d, n in zip(own, one, strict=True))

        users = [one for one in self.model.graph.node if self.given.name in one.input]
        turned = all(_is_transpose(one, _CHANNELS_FIRST) for one in users) and bool(users)
        last = len(shape) == 3 and fits((*shape[1:], shape[0])) and (turned or not fits(shape))
        if not last and not fits(shape):
            text = " x ".join("?" if side is None else str(side) for side in own)
            raise InputError(
                f"{self.name} takes {text or 'single numbers'}, found calibration images of "
                f"{' x '.join(map(str, shape))}; give what it takes, maps as (count, channels, y, x)"
            )
        if batch is not None and batch > _MAX_BATCH:
            raise InputError(f"{self.name} takes {batch} samples at once; export it with a dynamic batch")
        return batch or _BATCH, last

    def read(self) -> Graph:
        for one in self.model.graph.node:
            name = f"{one.name or next(iter(one.output), '')} ({one.op_type})"
            if one.domain not in ("", "ai.onnx"):
                raise refuse(name, f"an operation of {one.domain}", "export it with ONNX's own operations")
            try:
                results = self._call(name, one)
            except InputError:
                raise
            except Exception as error:
                reason = next(iter(str(error).splitlines()), "") or type(error).__name__
                raise InputError(f"{self.name}: {name} cannot be read: {reason}") from error
            results = results if isinstance(results, list) else [results]
            self._hold(name, results)
            self.values.update(zip(one.output, results, strict=False))
        return ended(self.input, self._value("the output", self.wanted.name), self.name)

    def _hold(self, name: str, results: Sequence[Any]) -> None:
        """Refuse many operations that together make far more than the file holds."""
        for result in results:
            made: list[Any] = [result]
            if isinstance(result, Node):
                ops = [one.op for one in (result, *result.inputs) if one.op is not None]
                made = [value for op in ops for value in vars(op).values()]
            for storage in (one.untyped_storage() for one in made if isinstance(one, Tensor)):
                place, size = storage.data_ptr(), storage.nbytes()
                self.bytes += size - self.held.get(place, 0)
                self.held[place] = size
        if self.bytes > _MAX_BYTES + 4 * self.model.ByteSize():
            raise refuse(
                name, "one of many operations that give more than 2 GB", "use smaller maps and kernels"
            )

    def _value(self, name: str, key: str) -> Any:
        if key not in self.values:
            raise InputError(f"{self.name}: {name} takes {key!r}, which nothing before it gives")
        return self.values[key]

    def _constant(self, tensor: Any) -> Tensor:
        """A tensor of the file: floating point as float32, integers as int64."""
        from onnx import TensorProto, numpy_helper

        what = f"the tensor {tensor.name!r} of {self.name}"
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(f"{what} lies in another file; export the network into one file")
        kind = _type_name(tensor.data_type)
        if kind not in _TYPES:
            raise InputError(f"{what} is of {kind}; export a network of float32")
        try:
            values: Any = np.array(numpy_helper.to_array(tensor)).astype(_TYPES[kind])
        except Exception as error:
            raise InputError(f"{what} is damaged; export the network again") from error
        return torch.from_numpy(values)

    def _call(self, name: str, one: Any) -> Any:
        if one.op_type not in _HANDLERS:
            raise make.unknown(name, one.op_type, _written(self.model.graph.node, one))
        inputs = [self._value(name, key) if key else None for key in one.input]
        if any(isinstance(value, Softmax) for value in inputs):
            if one.op_type == "Identity":
                return inputs[0]
            raise refuse(name, "an operation after a softmax", "take the network without its softmax")
        return _HANDLERS[one.op_type](_Call(self, name, one, inputs))

    def _move(self, name: str, x: Any, move: Callable[[Tensor], Any]) -> Any:
        return make.moved(name, x, move, self.batch) if isinstance(x, Node) else move(x)


def _written(nodes: Sequence[Any], one: Any) -> str:
    """The activation that an operation begins, as the user wrote it before an exporter took it apart."""
    if one.op_type == "Erf":
        return "GELU"
    kinds, last = [one.op_type], one
    for _ in range(2):
        users = [other for other in nodes if set(last.output) & set(other.input)]
        if any(user.op_type == "Mul" and set(one.input) & set(user.input) for user in users):
            return _GATES.get(tuple(kinds), one.op_type)
        if len(users) != 1:
            break
        last = users[0]
        kinds.append(last.op_type)
    return str(one.op_type)


class _Call:
    """One node of the file with what it is given."""

    def __init__(self, reader: _Reader, name: str, proto: Any, inputs: list[Any]) -> None:
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
            return _four(self.attribute("pads", [0, 0, 0, 0]))
        if kind == "VALID":
            return 0, 0, 0, 0
        sizes = zip(self.x.shape[1:], kernel, stride, dilation, strict=True)
        totals = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sizes]
        return _halves(totals, more_at_end=kind == "SAME_UPPER")

    def moved(self, move: Callable[[Tensor], Any]) -> Any:
        """What only moves places of the first input."""
        return self.reader._move(self.name, self.given(0), move)


_TYPES: dict[str, Any] = {
    **dict.fromkeys(("float32", "float16", "bfloat16", "float64"), np.float32),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"), np.int64),
    "bool": np.bool_,
}


def _type_name(number: int) -> str:
    from onnx import TensorProto

    try:
        name = str(TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return f"an unknown type {number}"
    return {"float": "float32", "double": "float64"}.get(name, name)


def _is_transpose(one: Any, order: Sequence[int]) -> bool:
    return one.op_type == "Transpose" and any(
        a.name == "perm" and list(a.ints) == list(order) for a in one.attribute
    )


def _four(pads: Sequence[int]) -> Pads:
    """Paddings as ONNX orders them, all beginnings first."""
    top, left, bottom, right = pads
    return top, bottom, left, right


def _halves(totals: Sequence[int], *, more_at_end: bool) -> Pads:
    less, more = [n // 2 for n in totals], [n - n // 2 for n in totals]
    starts, ends = (less, more) if more_at_end else (more, less)
    return starts[0], ends[0], starts[1], ends[1]


def _convolve(call: _Call) -> Node:
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
    call: _Call, outer: Sequence[int], kernel: Pair, stride: Pair, pads: Pads, given: int = 0
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


def _transposed(call: _Call) -> Node:
    weight = call.weight(1)
    if weight.dim() != 4:
        raise refuse(call.name, f"a {weight.dim() - 2}-dimensional convolution", "use those on maps (y, x)")
    stride, dilation = call.pair("strides", (1, 1)), call.pair("dilations", (1, 1))
    more, kind = call.pair("output_padding", (0, 0)), call.attribute("auto_pad", "NOTSET")
    wanted = call.attribute("output_shape")
    pads = _four(call.attribute("pads", [0, 0, 0, 0])) if kind == "NOTSET" else (0, 0, 0, 0)
    if wanted is not None or kind in ("SAME_UPPER", "SAME_LOWER"):
        sizes = call.x.shape[1:]
        wanted = [n * s for n, s in zip(sizes, stride, strict=True)] if wanted is None else wanted[-2:]
        each = zip(wanted, sizes, _kernel(weight), stride, dilation, more, strict=True)
        totals = [s * (n - 1) + m + (k - 1) * d + 1 - w for w, n, k, s, d, m in each]
        if min(totals) < 0:
            raise refuse(call.name, "a transposed convolution to a larger shape", "use output_padding")
        pads = _halves(totals, more_at_end=kind == "SAME_UPPER")
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


def _gemm(call: _Call) -> Node:
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


def _matmul(call: _Call) -> Node:
    one, two = call.given(0), call.given(1)
    return make.matrix_product(call.name, one, two if isinstance(two, Node) else call.weight(1))


def _normalise(call: _Call) -> Node:
    if call.attribute("training_mode", 0) or not call.attribute("spatial", 1):
        raise refuse(
            call.name, "a batch normalisation in training, or by place", "export it for evaluation"
        )
    gain, shift, mean, variance = (call.weight(k) for k in range(1, 5))
    return make.normalise(call.name, call.x, gain, shift, mean, variance, call.attribute("epsilon", 1e-5))


def _clip(call: _Call) -> Node:
    low, high = call.setting("min", 1), call.setting("max", 2)
    low = -math.inf if low is None or low <= -_UNBOUNDED else low
    high = math.inf if high is None or high >= _UNBOUNDED else high
    return make.clip(call.name, call.x, low, high)


def _extreme(call: _Call, *, largest: bool) -> Node:
    """Max or Min with a constant, a clip."""
    bounds = [one for one in call.inputs if not isinstance(one, Node)]
    nodes = [one for one in call.inputs if isinstance(one, Node)]
    if len(nodes) != 1 or len(bounds) != 1 or bounds[0].numel() != 1:
        raise refuse(call.name, "a choice between activations", make.OTHERWISE)
    bound = float(bounds[0])
    return make.clip(call.name, nodes[0], *((bound, math.inf) if largest else (-math.inf, bound)))


def _pool(call: _Call, *, largest: bool) -> Node:
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


def _whole_pool(call: _Call, *, largest: bool) -> Node:
    if len(call.x.shape) != 3:
        raise refuse(
            call.name, f"an operation on maps that takes {call.x.shape}", "use those on maps (y, x)"
        )
    kernel = (call.x.shape[1], call.x.shape[2])
    function = make.max_pool if largest else make.average_pool
    return function(call.name, call.x, kernel, kernel, (0, 0, 0, 0))


def _mean(call: _Call) -> Node:
    axes = call.setting("axes", 1) or range(len(call.x.shape) + 1)
    x, keep = call.x, bool(call.attribute("keepdims", 1))
    if len(x.shape) == 3 and sorted(axis % 4 for axis in axes) == [1, 2]:
        # Channels stand last.
        pooled = make.mean(
            call.name, call.reader._move(call.name, x, lambda v: v.permute(0, 3, 1, 2)), (2, 3), keep=keep
        )
        return call.reader._move(call.name, pooled, lambda v: v.permute(0, 2, 3, 1)) if keep else pooled
    return make.mean(call.name, x, axes, keep=keep)


def _flatten(call: _Call) -> Any:
    axis = call.attribute("axis", 1)
    return call.moved(lambda v: v.reshape(math.prod(v.shape[:axis]), math.prod(v.shape[axis:])))


def _reshape(call: _Call) -> Any:
    wanted, zeros = call.needed("shape", 1), call.attribute("allowzero", 0)

    def move(values: Tensor) -> Tensor:
        return values.reshape(
            [values.shape[k] if side == 0 and not zeros else side for k, side in enumerate(wanted)]
        )

    return call.moved(move)


def _transpose(call: _Call) -> Any:
    order = call.attribute("perm")
    return call.moved(lambda v: v.permute(order or list(range(v.dim()))[::-1]))


def _squeeze(call: _Call) -> Any:
    axes = call.setting("axes", 1)
    return call.moved(lambda v: v.squeeze() if axes is None else v.squeeze(tuple(axes)))


def _unsqueeze(call: _Call) -> Any:
    axes = call.needed("axes", 1)

    def move(values: Tensor) -> Tensor:
        for axis in sorted(one % (values.dim() + len(axes)) for one in axes):
            values = values.unsqueeze(axis)
        return values

    return call.moved(move)


def _slice(call: _Call) -> Any:
    starts, ends = call.needed("starts", 1), call.needed("ends", 2)
    axes = call.setting("axes", 3) or range(len(starts))
    steps = call.setting("steps", 4) or [1] * len(starts)

    def move(values: Tensor) -> Tensor:
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            kept = range(*slice(start, end, step).indices(values.shape[axis]))
            values = values.index_select(axis, torch.tensor(kept, dtype=torch.int64))
        return values

    return call.moved(move)


def _expand(call: _Call) -> Any:
    wanted = call.needed("shape", 1)

    def move(values: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(values.shape, wanted)
        _check_filled(call, shape, values.numel())
        return values.expand(shape)

    return call.moved(move)


def _split(call: _Call) -> Any:
    axis, sizes = call.attribute("axis", 0), call.setting("split", 1)

    def move(values: Tensor) -> list[Tensor]:
        count = call.attribute("num_outputs", call.results)
        return list(values.split(sizes or -(-values.shape[axis] // count), axis))

    return call.moved(move)


def _gather(call: _Call) -> Any:
    axis, index = call.attribute("axis", 0), call.constant(1)

    def move(values: Tensor) -> Tensor:
        shape = [*values.shape[:axis], *index.shape, *values.shape[axis % values.dim() + 1 :]]
        _check_filled(call, shape, values.numel())
        kept = torch.where(index < 0, index + values.shape[axis], index)
        return values.index_select(axis, kept.flatten()).reshape(shape)

    return call.moved(move)


def _depth_to_space(call: _Call) -> Any:
    size, mode = call.attribute("blocksize"), call.attribute("mode", "DCR")

    def move(values: Tensor) -> Tensor:
        if mode == "CRD":
            return F.pixel_shuffle(values, size)
        blocks = values.unflatten(1, (size, size, -1))
        return blocks.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)

    return call.moved(move)


def _pad(call: _Call) -> Any:
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


def _concatenate(call: _Call) -> Any:
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


def _softmax(call: _Call, kind: str) -> Softmax:
    x, old = call.x, call.reader.opset < 13
    axis = call.attribute("axis", 1 if old else -1) % (len(x.shape) + 1)
    # The older one is over all axes from `axis` on.
    if axis != 1 or (old and math.prod(x.shape[1:]) > 1):
        raise refuse(
            call.name, f"a softmax over axis {axis}", "only over the classes (1) it changes no decision"
        )
    return Softmax(x, kind)


def _arithmetic(call: _Call, on_nodes: Callable[..., Any], on_constants: Callable[..., Any]) -> Any:
    one, two = call.given(0), call.given(1)
    if isinstance(one, Node) or isinstance(two, Node):
        return on_nodes(call.name, one, two)
    _check_filled(call, torch.broadcast_shapes(one.shape, two.shape), max(one.numel(), two.numel()))
    return on_constants(one, two)


def _divided(one: Tensor, two: Tensor) -> Tensor:
    return one / two if one.is_floating_point() else torch.div(one, two, rounding_mode="trunc")


def _sum(call: _Call) -> Node:
    return make.add(call.name, call.inputs)


def _same(call: _Call) -> Any:
    training = call.optional(2)
    if training is not None and bool(training):
        raise refuse(call.name, "a dropout in training", "export the network for evaluation")
    return call.inputs[0]


def _cast(call: _Call) -> Any:
    kind, value = _type_name(call.attribute("to")), call.inputs[0]
    if kind not in _TYPES:
        raise InputError(f"{call.name} casts to {kind}; export a network of float32")
    wanted = _TYPES[kind]
    if isinstance(value, Node):
        if wanted is not np.float32:
            raise refuse(
                call.name, f"a cast of activations to {kind}", "keep activations in floating point"
            )
        return value
    return value.to({np.float32: torch.float32, np.int64: torch.int64}.get(wanted, torch.bool))


def _shape(call: _Call) -> Tensor:
    value = call.inputs[0]
    shape = (call.reader.batch, *value.shape) if isinstance(value, Node) else tuple(value.shape)
    return torch.tensor(shape[call.attribute("start", 0) : call.attribute("end")], dtype=torch.int64)


def _constant(call: _Call) -> Tensor:
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
    return call.reader._constant(call.attribute("value"))


def _filled(call: _Call) -> Tensor:
    shape, value = call.needed("shape", 0), call.attribute("value")
    _check_filled(call, shape)
    filling = torch.zeros(()) if value is None else call.reader._constant(value).reshape(())
    return filling.expand(shape)


def _check_filled(call: _Call, shape: Sequence[int], given: int = 0) -> None:
    """Refuse what a few bytes of a file would make very large, and larger than what is `given`."""
    if math.prod(shape) > max(_MAX_FILLED, given):
        raise refuse(call.name, f"an operation that gives the shape {tuple(shape)}", "use smaller maps")


_HANDLERS: dict[str, Callable[[_Call], Any]] = {
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

"""Reading a torch module: its operations, traced by torch.export, as a `Graph`."""

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx

from firstspike.models.convert import make
from firstspike.models.convert.graph import Graph, Node, Softmax, ended, refuse
from firstspike.support import InputError

# Samples that are traced together; of one, torch might forget the axis.
_BATCH = 2


def read_torch(model: torch.nn.Module, examples: Tensor) -> tuple[Graph, Tensor]:
    """Return the graph of a module in evaluation mode, and what the module gives for the examples.

    Args:
        model: left as it is.
        examples: two inputs, float32 ``(2, ...)``.

    Raises:
        InputError: the module cannot be traced, or an operation has no meaning with single spikes.
        TypeError: no module.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, found {type(model).__name__}")
    shape = tuple(examples.shape[1:])
    failed = f"{type(model).__name__} does not take images of shape {shape}, as the calibration's"
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = copy.deepcopy(model).to("cpu", torch.float32).eval()
            for parameter in plain.parameters():
                parameter.requires_grad_(False)
            # A network may change its input in place. It runs before it is traced, since torch.export logs
            # pages where the input does not fit.
            outputs = plain(examples.clone())
            failed = f"torch.export cannot trace {type(model).__name__} on inputs of shape {shape}"
            program = torch.export.export(plain, (examples.clone(),), strict=False)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{failed}: {reason}") from error
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"{type(model).__name__} gives a {type(outputs).__name__}; give a module that returns one "
            "tensor"
        )
    return _Reader(program, shape, type(model).__name__).read(), outputs


class _Reader:
    """Walks through the traced operations; a value is a `Node`, a constant, or a list of them."""

    def __init__(self, program: Any, shape: tuple[int, ...], name: str) -> None:
        self.program, self.name = program, name
        self.input = Node("the input", None, [], shape)
        self.values: dict[fx.Node, Any] = {}
        # The operations whose results may share memory with each one's, itself among them.
        self.sharing: dict[fx.Node, set[fx.Node]] = {}
        self.order = {traced: index for index, traced in enumerate(program.graph.nodes)}

    def read(self) -> Graph:
        signature = self.program.graph_signature
        held: dict[str, Any] = {
            **dict.fromkeys(signature.user_inputs, self.input),
            **{name: self._constant(of) for name, of in signature.inputs_to_parameters.items()},
            **{name: self._constant(of) for name, of in signature.inputs_to_buffers.items()},
            **{
                name: self._constant(of) for name, of in signature.inputs_to_lifted_tensor_constants.items()
            },
        }
        for traced in self.program.graph.nodes:
            if traced.op == "placeholder":
                self.values[traced] = held[traced.name]
            elif traced.op == "call_function":
                self.values[traced] = self._call(traced)
            elif traced.op == "output":
                return self._graph(traced.args[0])
        raise AssertionError("a traced program ends in an output")

    def _constant(self, name: str) -> Any:
        return self.program.state_dict.get(name, self.program.constants.get(name))

    def _graph(self, given: Any) -> Graph:
        found = [self.values[one] for one in given if isinstance(one, fx.Node)]
        if len(found) != 1:
            raise InputError(
                f"{self.name} gives {len(found)} outputs; give a module that returns one tensor"
            )
        return ended(self.input, found[0], self.name)

    def _call(self, traced: fx.Node) -> Any:
        args = fx.node.map_arg(traced.args, self.values.__getitem__)
        named = fx.node.map_arg(traced.kwargs, self.values.__getitem__)
        name = _layer_name(traced)
        operation = _operation(traced.target)
        within = [one for one in _flat([*args, *named.values()]) if isinstance(one, Node | Softmax)]
        if not within:
            return cast(Callable[..., Any], traced.target)(*args, **named)
        if any(isinstance(one, Softmax) for one in within):
            raise refuse(name, "an operation after a softmax", "take the network without its softmax")
        plain = operation.rstrip("_")
        of = traced.args[0] if traced.args else None
        if plain == "getitem":
            self._share(traced, of)
            return cast(Any, args[0])[args[1]]
        try:
            if plain in _HANDLERS:
                result = _HANDLERS[plain](name, *args, **named)
            elif plain in _MOVING:
                result = _moved(name, traced.target, args, named)
                self._share(traced, of)
            else:
                raise make.unknown(name, plain, _written(traced) or plain)
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise refuse(
                name, f"a {plain} of a form that is not known", f"its plain form can be ({error})"
            ) from error
        if operation.endswith("_") and isinstance(of, fx.Node):
            later = [
                user
                for other in self.sharing.get(of, set()) - {of}
                for user in other.users
                if self.order[user] > self.order[traced]
            ]
            if later:
                raise refuse(
                    name,
                    "an operation in place on a view of what is used later",
                    "let it return its result",
                )
            # Whoever takes the argument later takes the result.
            self.values[of] = result
        return result

    def _share(self, traced: fx.Node, of: Any) -> None:
        """Take down that a result may be a view of what an operation takes."""
        if isinstance(of, fx.Node):
            together = self.sharing.setdefault(of, {of})
            together.add(traced)
            self.sharing[traced] = together


def _layer_name(traced: fx.Node) -> str:
    stack = traced.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    operation = _operation(traced.target)
    return f"{paths[-1]} ({operation})" if paths else operation


def _written(traced: fx.Node) -> str:
    """What the user wrote that an operation is of: torch's module, else its function; "" if unknown."""
    stack = list((traced.meta.get("nn_module_stack") or {}).values())
    module = str(stack[-1][1]) if stack else ""
    if module.startswith("torch.nn."):
        return module.rpartition(".")[2]
    _, function = traced.meta.get("torch_fn", ("", ""))
    return str(function).rpartition(".")[2]


def _operation(target: Any) -> str:
    return str(getattr(target, "_opname", getattr(target, "__name__", target)))


def _flat(values: Any) -> list[Any]:
    if isinstance(values, list | tuple):
        return [one for value in values for one in _flat(value)]
    return [values]


def _node(name: str, value: Any) -> Node:
    if not isinstance(value, Node):
        raise refuse(name, "an operation on a constant where values are expected", make.OTHERWISE)
    return value


def _pairs(value: Any, default: Any = None) -> tuple[int, int]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    if not given:
        given = list(default)
    return (given[0], given[0]) if len(given) == 1 else (given[0], given[1])


def _convolve(
    name: str,
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Node:
    kernel, spread = tuple(weight.shape[-2:]), _pairs(dilation)
    if isinstance(padding, str):
        whole = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, spread, strict=True)]
        pads = (whole[0] // 2, whole[0] - whole[0] // 2, whole[1] // 2, whole[1] - whole[1] // 2)
    else:
        y, x_pad = _pairs(padding)
        pads = (y, y, x_pad, x_pad)
    return make.convolve(
        name, _node(name, x), weight, bias, _pairs(stride), pads, dilation=spread, groups=groups
    )


def _transposed(
    name: str,
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Node:
    y, x_pad = _pairs(padding)
    return make.transposed(
        name,
        _node(name, x),
        weight,
        bias,
        _pairs(stride),
        (y, y, x_pad, x_pad),
        _pairs(output_padding),
        dilation=_pairs(dilation),
        groups=groups,
    )


def _linear(name: str, x: Any, weight: Tensor, bias: Tensor | None = None) -> Node:
    return make.multiply(name, _node(name, x), weight, bias)


def _addmm(name: str, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Node:
    return make.multiply(name, _node(name, x), weight.t() * alpha, bias * beta)


def _batch_norm(
    name: str,
    x: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *rest: Any,
) -> Node:
    if mean is None or variance is None:
        raise refuse(
            name, "a batch normalisation without running statistics", "train it with track_running_stats"
        )
    return make.normalise(name, _node(name, x), weight, bias, mean, variance, eps)


def _clip(name: str, x: Any, low: float | None = None, high: float | None = None) -> Node:
    node = _node(name, x)
    bounds = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    return make.clip(name, node, *bounds)


def _max_pool(
    name: str,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Node:
    if _pairs(dilation) != (1, 1):
        raise refuse(name, "a dilated max pooling", "use a strided one")
    y, x_pad = _pairs(padding)
    sizes = _pairs(kernel), _pairs(stride, _pairs(kernel))
    return make.max_pool(name, _node(name, x), *sizes, (y, y, x_pad, x_pad), ceil_mode=ceil_mode)


def _avg_pool(
    name: str,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Node:
    y, x_pad = _pairs(padding)
    return make.average_pool(
        name,
        _node(name, x),
        _pairs(kernel),
        _pairs(stride, _pairs(kernel)),
        (y, y, x_pad, x_pad),
        counts_padding=count_include_pad,
        ceil_mode=ceil_mode,
        divisor=divisor,
    )


def _adaptive(name: str, x: Any, size: Any, *, largest: bool) -> Node:
    node = _node(name, x)
    wanted = [n if w is None else w for w, n in zip(_pairs(size), node.shape[-2:], strict=True)]
    if any(n % w for w, n in zip(wanted, node.shape[-2:], strict=True)):
        raise refuse(
            name,
            f"an adaptive pooling of {node.shape[-2]} x {node.shape[-1]} to {wanted[0]} x {wanted[1]}",
            "use sizes that divide",
        )
    kernel = (node.shape[-2] // wanted[0], node.shape[-1] // wanted[1])
    if largest:
        return make.max_pool(name, node, kernel, kernel, (0, 0, 0, 0))
    return make.average_pool(name, node, kernel, kernel, (0, 0, 0, 0))


def _mean(name: str, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    node = _node(name, x)
    axes = range(len(node.shape) + 1) if dim is None else dim if isinstance(dim, list | tuple) else [dim]
    return make.mean(name, node, axes, keep=keepdim)


def _add(name: str, one: Any, two: Any, *, alpha: float = 1) -> Node:
    if isinstance(two, Node) and alpha != 1:
        two = make.scale(name, two, alpha, 0.0)
    elif not isinstance(two, Node):
        two = two * alpha
    return make.add(name, [one, two])


def _cat(name: str, values: Sequence[Any], dim: int = 0) -> Node:
    nodes = [_node(name, value) for value in values]
    if dim % (len(nodes[0].shape) + 1) != 1:
        raise refuse(name, f"a concatenation along axis {dim}", "only channels (1) can be concatenated")
    return make.concatenate(name, nodes)


def _softmax(kind: str, name: str, x: Any, dim: int = -1, *rest: Any, **_: Any) -> Softmax:
    node = _node(name, x)
    if dim % (len(node.shape) + 1) != 1:
        raise refuse(name, f"a softmax over axis {dim}", "only over the classes (1) it changes no decision")
    return Softmax(node, kind)


def _same(name: str, x: Any, *rest: Any, **_: Any) -> Node:
    return _node(name, x)


def _pad(name: str, x: Any, pads: Sequence[int], *mode: Any, value: float | None = None) -> Node:
    node = _node(name, x)
    kind = [one for one in mode if isinstance(one, str)]
    filled = next((one for one in mode if isinstance(one, float | int)), value)
    if (kind and kind[0] != "constant") or filled not in (None, 0, 0.0):
        raise refuse(name, "a padding that is not of zeros", "only zeros, silent inputs, can be padded")
    if len(pads) > 4 and any(pads[4:]):
        # Channels: places that nothing reaches.
        return _moved(name, torch.ops.aten.constant_pad_nd.default, (node, list(pads)), {})
    left, right, top, bottom = [*pads, 0, 0, 0, 0][:4]
    return make.pad(name, node, top, bottom, left, right)


def _moved(name: str, target: Any, args: Sequence[Any], named: dict[str, Any]) -> Any:
    """What only moves places."""
    node = next(one for one in _flat([*args, *named.values()]) if isinstance(one, Node))

    def move(values: Tensor) -> Any:
        given = fx.node.map_aggregate((tuple(args), named), lambda one: values if one is node else one)
        return target(*given[0], **given[1])

    return make.moved(name, node, move, _BATCH)


_HANDLERS: dict[str, Callable[..., Any]] = {
    "conv2d": _convolve,
    "conv_transpose2d": _transposed,
    "linear": _linear,
    "addmm": _addmm,
    "matmul": make.matrix_product,
    "mm": make.matrix_product,
    "batch_norm": _batch_norm,
    "relu": lambda name, x: _clip(name, x, 0.0),
    "relu6": lambda name, x: _clip(name, x, 0.0, 6.0),
    "hardtanh": lambda name, x, low=-1.0, high=1.0: _clip(name, x, low, high),
    "clamp": lambda name, x, min=None, max=None: _clip(name, x, min, max),
    "clamp_min": lambda name, x, min: _clip(name, x, min),
    "clamp_max": lambda name, x, max: _clip(name, x, None, max),
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": lambda name, x, size: _adaptive(name, x, size, largest=False),
    "adaptive_max_pool2d": lambda name, x, size: (_adaptive(name, x, size, largest=True), None),
    "mean": _mean,
    "add": _add,
    "sub": lambda name, one, two, alpha=1: make.subtract(name, one, two, alpha),
    "rsub": lambda name, one, two, alpha=1: make.subtract(name, two, one, alpha),
    "mul": make.product,
    "div": make.quotient,
    "neg": lambda name, x: make.scale(name, _node(name, x), -1.0, 0.0),
    "cat": _cat,
    "concat": _cat,
    "softmax": partial(_softmax, "softmax"),
    "log_softmax": partial(_softmax, "log_softmax"),
    "pad": _pad,
    "constant_pad_nd": _pad,
    **dict.fromkeys(
        (
            "dropout",
            "feature_dropout",
            "alpha_dropout",
            "feature_alpha_dropout",
            "contiguous",
            "clone",
            "detach",
            "alias",
            "to",
            "_to_copy",
            "lift_fresh_copy",
        ),
        _same,
    ),
}
_MOVING = {
    "flatten",
    "view",
    "reshape",
    "_unsafe_view",
    "unflatten",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
    "slice",
    "select",
    "narrow",
    "chunk",
    "split",
    "split_with_sizes",
    "channel_shuffle",
    "pixel_shuffle",
    "pixel_unshuffle",
    "flip",
    "roll",
    "index_select",
    "expand",
}

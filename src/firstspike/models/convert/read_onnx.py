"""Reading an ONNX file: its operations as a `Graph`. Nothing in a file is run or followed outside of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstspike.models.convert import make
from firstspike.models.convert.graph import Graph, Node, Shape, Softmax, ended, refuse
from firstspike.models.convert.onnx_call import TYPES, Call, type_name
from firstspike.models.convert.onnx_operations import OPERATIONS
from firstspike.support import InputError, refuse_pickled

# Samples that are read together where the file leaves their number open; of one, an axis might be lost.
_BATCH = 2
_MAX_BATCH = 1024
_OLDEST = 7
# Protobuf reads no more.
_MAX_BYTES = 2**31 - 1
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
        kind = type_name(self.given.type.tensor_type.elem_type)
        if kind not in ("float32", "float16", "float64"):
            raise InputError(f"{name} takes {kind}; export a network that takes float32")
        self.batch, last_channels = self._layout(shape)
        self.input = Node("the input", None, [], shape)
        self.values: dict[str, Any] = {one.name: self.constant(one) for one in graph.initializer}
        taken = self.input
        if last_channels:
            taken = self.move("the input", self.input, lambda values: values.permute(0, 2, 3, 1))
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

    def constant(self, tensor: Any) -> Tensor:
        """Return a tensor of the file: floating point as float32, integers as int64."""
        from onnx import TensorProto, numpy_helper

        what = f"the tensor {tensor.name!r} of {self.name}"
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(f"{what} lies in another file; export the network into one file")
        kind = type_name(tensor.data_type)
        if kind not in TYPES:
            raise InputError(f"{what} is of {kind}; export a network of float32")
        try:
            values: Any = np.array(numpy_helper.to_array(tensor)).astype(TYPES[kind])
        except Exception as error:
            raise InputError(f"{what} is damaged; export the network again") from error
        return torch.from_numpy(values)

    def _call(self, name: str, one: Any) -> Any:
        if one.op_type not in OPERATIONS:
            raise make.unknown(name, one.op_type, _written(self.model.graph.node, one))
        inputs = [self._value(name, key) if key else None for key in one.input]
        if any(isinstance(value, Softmax) for value in inputs):
            if one.op_type == "Identity":
                return inputs[0]
            raise refuse(name, "an operation after a softmax", "take the network without its softmax")
        return OPERATIONS[one.op_type](Call(self, name, one, inputs))

    def move(self, name: str, x: Any, move: Callable[[Tensor], Any]) -> Any:
        """Return a value with its places moved."""
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


def _is_transpose(one: Any, order: Sequence[int]) -> bool:
    return one.op_type == "Transpose" and any(
        a.name == "perm" and list(a.ints) == list(order) for a in one.attribute
    )

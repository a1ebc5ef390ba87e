"""A stack without its weights, as a value that a file can hold and from which it is built again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from firstspike.neurons import Neuron
from firstspike.nn.connection import Connection
from firstspike.nn.geometry import Pair, Shape
from firstspike.nn.layers import Conv2d, ConvTranspose2d, Layer, Linear
from firstspike.nn.pool import AvgPool2d, EarliestPool2d
from firstspike.nn.stack import Stack
from firstspike.nn.wiring import Wiring

_DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}
# What these compute is known by their fields; a subclass may compute something else.
_LAYERS = (Layer, Linear, Conv2d, ConvTranspose2d)


@dataclass(frozen=True, kw_only=True)
class ConnectionDescription:
    """A `Connection`.

    Attributes:
        wiring, source: its own.
        bias: shape of its bias, one per neuron, per map or per place of the maps; None for none.
        dtype: of its weights.
    """

    wiring: Wiring
    source: int | None
    bias: Shape | None
    dtype: Literal["float32", "float64"]

    def build(self) -> Connection:
        """Return it with weights that are drawn alike each time."""
        made = Connection(self.wiring, bias=self.bias is not None, source=self.source, generator=_drawing())
        self.shape(made)
        return made

    def shape(self, made: Connection) -> None:
        """Give a connection the bias and the type that are described.

        Raises:
            ValueError: the bias does not belong to the wiring.
        """
        if self.bias is not None:
            if self.bias[:1] != (self.wiring.gives[1],) or min(self.bias) < 1:
                raise ValueError(f"a bias of shape {self.bias} does not belong to {self.wiring}")
            made.bias = torch.nn.Parameter(torch.zeros(self.bias, dtype=_DTYPES[self.dtype]))
        made.weight = torch.nn.Parameter(made.weight.detach().to(_DTYPES[self.dtype]))


@dataclass(frozen=True, kw_only=True)
class LayerDescription(ConnectionDescription):
    """A `Layer`.

    Attributes:
        neuron: its own.
        shortcuts: its further connections.
    """

    neuron: Neuron
    shortcuts: tuple[ConnectionDescription, ...]

    def build(self) -> Layer:
        """Return it with weights that are drawn alike each time."""
        made = Layer(
            self.wiring,
            self.neuron,
            bias=self.bias is not None,
            shortcuts=[shortcut.build() for shortcut in self.shortcuts],
            source=self.source,
            generator=_drawing(),
        )
        self.shape(made)
        return made


@dataclass(frozen=True, kw_only=True)
class PoolDescription:
    """An `AvgPool2d` or `EarliestPool2d`.

    Attributes:
        kernel_size, stride, padding, source: its own.
        neuron: that of average pooling; None for the earliest spike.
    """

    kernel_size: Pair
    stride: Pair
    padding: Pair
    source: int | None
    neuron: Neuron | None

    def build(self) -> AvgPool2d:
        """Return it."""
        if self.neuron is None:
            return EarliestPool2d(
                self.kernel_size, stride=self.stride, padding=self.padding, source=self.source
            )
        return AvgPool2d(
            self.kernel_size,
            self.neuron,  # type: ignore[arg-type]  # AvgPool2d refuses others.
            stride=self.stride,
            padding=self.padding,
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class StackDescription:
    """A `Stack`: `describe` returns it.

    Attributes:
        layers: from the input on.
        steps: length of the input window.
    """

    layers: tuple[LayerDescription | PoolDescription, ...]
    steps: int

    def build(self) -> Stack:
        """Return the stack that is described; its weights are drawn alike each time.

        Raises:
            TypeError, ValueError: there is no such stack.
        """
        return Stack(*(layer.build() for layer in self.layers), steps=self.steps)


def describe(stack: Stack) -> StackDescription:
    """Return a stack without its weights.

    ``describe(stack).build()`` with the weights of ``stack.state_dict()`` gives the same spikes to the bit.

    Raises:
        TypeError: `stack` is no Stack, or of a subclass; a layer of it is of a class of its own, which no
            description holds; weights that are neither float32 nor float64.

    >>> import firstspike as fs
    >>> net = fs.Stack(fs.Linear(4, 8), fs.Linear(8, 2), steps=16)
    >>> again = describe(net).build()
    >>> again.load_state_dict(net.state_dict())
    <All keys matched successfully>
    """
    if type(stack) is not Stack:
        raise TypeError(f"expected a firstspike.Stack itself, found {type(stack).__name__}")
    return StackDescription(layers=tuple(map(_described, stack)), steps=stack.steps)


def _described(layer: Layer | AvgPool2d) -> LayerDescription | PoolDescription:
    if type(layer) in (AvgPool2d, EarliestPool2d):
        assert isinstance(layer, AvgPool2d)
        return PoolDescription(
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            source=layer.source,
            neuron=None if isinstance(layer, EarliestPool2d) else layer.neuron,
        )
    one = _connection(layer, _LAYERS)
    assert isinstance(layer, Layer)
    return LayerDescription(
        **vars(one),
        neuron=layer.neuron,
        shortcuts=tuple(_connection(shortcut, (Connection,)) for shortcut in layer.shortcuts),
    )


def _connection(connection: torch.nn.Module, known: tuple[type, ...]) -> ConnectionDescription:
    if type(connection) not in known:
        raise TypeError(
            f"{type(connection).__name__} is a class of its own, of which a file cannot hold what it "
            f"computes; expected {' or '.join(one.__name__ for one in known)}"
        )
    assert isinstance(connection, Connection)
    if connection.rounding is not None:
        raise TypeError(
            "weights are rounded on their way to the neurons, which no file holds; make them whole by "
            "firstspike.integer"
        )
    names = [name for name, dtype in _DTYPES.items() if dtype == connection.weight.dtype]
    if not names:
        raise TypeError(f"weights must be float32 or float64, found {connection.weight.dtype}")
    return ConnectionDescription(
        wiring=connection.wiring,
        source=connection.source,
        bias=None if connection.bias is None else tuple(connection.bias.shape),
        dtype=names[0],  # type: ignore[arg-type]  # The keys are these two.
    )


def _drawing() -> torch.Generator:
    """Of weights that are filled afterwards; torch's own state is left as it is."""
    return torch.Generator().manual_seed(0)

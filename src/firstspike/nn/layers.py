"""Layers: a neuron behind one or more connections."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from firstspike.neurons import Neuron, Synapses, Window
from firstspike.neurons.base import check_fired, check_neuron
from firstspike.nn.connection import Connection
from firstspike.nn.geometry import Pair, Shape
from firstspike.nn.wiring import Convolution, Dense, TransposedConvolution, Wiring
from firstspike.spikes import Spikes, check_spikes


class Layer(Connection):
    """Spikes in, spikes out, through a connection and the neurons behind it.

    What the neurons do is their own affair, see `firstspike.Neuron`. Further connections, each with its
    own `source`, add to the membrane; a `Stack` gives the layer what they take.

    Args:
        wiring: of the first connection.
        neuron: the neuron model.
        bias: learn a bias; None takes what the neuron usually has.
        shortcuts: further connections.
        source: whose spikes the first connection takes, see `Connection`: the layer before's if None.
        generator: source of the initial weights; torch's global one by default.

    Raises:
        TypeError: `neuron` is no `Neuron`.
        ValueError: the neuron does not work behind these wirings, or a shortcut has no source.
    """

    shortcuts: Sequence[Connection]

    def __init__(
        self,
        wiring: Wiring,
        neuron: Neuron,
        *,
        bias: bool | None = None,
        shortcuts: Sequence[Connection] = (),
        source: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_neuron(neuron)
        biased = neuron.has_bias if bias is None else bias
        super().__init__(
            wiring,
            bias=biased,
            scale=neuron.scale(),
            drive=neuron.drive(),
            source=source,
            by_input=neuron.by_input,
            generator=generator,
        )
        self.neuron = neuron
        if any(shortcut.source is None for shortcut in shortcuts):
            raise ValueError("a shortcut must say whose spikes it takes; give its Connection a source")
        self.shortcuts = cast(Sequence[Connection], torch.nn.ModuleList(shortcuts))
        neuron.check(self.synapses)
        if shortcuts:
            neuron.check_all([connection.synapses for connection in (self, *self.shortcuts)])

    @property
    def takes(self) -> tuple[str, int | None]:
        """What comes in: "features" or "channels", and how many; None for any number."""
        return self.wiring.takes

    @property
    def gives(self) -> tuple[str, int | None]:
        """What goes out, likewise."""
        return self.wiring.gives

    def forward(self, spikes: Spikes, *others: Spikes) -> Spikes:
        """Return the layer's spikes.

        Args:
            spikes: of the layer before; a fully connected layer flattens maps.
            others: what each of the shortcuts takes.
        """
        if self.shortcuts or others:
            return self.read(spikes, *others)[0]
        fitted = _fitted(self, spikes)
        return self._fired(self.neuron.fire(self.synapses, fitted), fitted)

    def membrane(self, spikes: Spikes, *others: Spikes) -> Tensor:
        """Return the membrane ``(batch, ...)`` that decides whether and when to fire, see the neuron."""
        first, *further = (self.neuron.membrane(*one) for one in self._inputs(spikes, others))
        return sum(further, first)

    def read(self, spikes: Spikes, *others: Spikes) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane together."""
        inputs = self._inputs(spikes, others)
        out, membrane = self.neuron.read_all(inputs)
        return self._fired(out, inputs[0][1]), membrane

    def simulate(self, spikes: Spikes, *others: Spikes) -> Spikes:
        """Return the spikes of a walk through the steps, see `Neuron.simulate`."""
        return self.neuron.simulate_all(self._inputs(spikes, others))

    def _inputs(self, spikes: Spikes, others: Sequence[Spikes]) -> list[tuple[Synapses, Spikes]]:
        """Every connection with what it takes, after a look at whether they fit."""
        if len(others) != len(self.shortcuts):
            raise ValueError(
                f"the layer has {len(self.shortcuts)} shortcuts, found {len(others)} more inputs"
            )
        inputs = [(self.synapses, fitted := _fitted(self, spikes))]
        shape = self.out_shape(tuple(fitted.shape[1:]))
        for shortcut, given in zip(self.shortcuts, others, strict=True):
            try:
                other = _fitted(shortcut, given)
            except ValueError as error:
                raise ValueError(f"the shortcut from {shortcut.source} {error}") from None
            if len(other) != len(fitted):
                raise ValueError(
                    f"connections into one layer take one batch, found {len(fitted)} and {len(other)} "
                    "samples"
                )
            gives = shortcut.out_shape(tuple(other.shape[1:]))
            if gives != shape:
                raise ValueError(f"connections into one layer give {shape} and {gives}")
            inputs.append((shortcut.synapses, other))
        return inputs

    def _fired(self, out: Spikes, spikes: Spikes) -> Spikes:
        shape = (len(spikes), *self.out_shape(tuple(spikes.shape[1:])))
        return check_fired(self.neuron, out, shape, spikes.steps)

    def synapses_for(self, shape: Shape) -> Synapses:
        """Return the weights that a sample of `shape` meets; a layer with parameters has one set."""
        return self.synapses

    def extra_repr(self) -> str:
        """Return the sizes, whose spikes it takes, and the neuron, for printing."""
        return f"{super().extra_repr()}, {self.neuron}"


def _fitted(connection: Connection, spikes: Spikes) -> Spikes:
    """The spikes as the wiring takes them, after a look at types and shape."""
    check_spikes(spikes)
    if connection.weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"weights must be float32 or float64, found {connection.weight.dtype}; use torch.autocast for "
            "products in half precision"
        )
    connection.out_shape(tuple(spikes.shape[1:]))
    flat = connection.wiring.takes[0] == "features" and spikes.times.dim() > 2
    return spikes.flatten() if flat else spikes


class Linear(Layer):
    """Spikes in, spikes out, through one fully connected layer.

    Args:
        in_features, out_features: sizes; spikes ``(batch, in_features)`` in, ``(batch, out_features)`` out.
        neuron, bias, shortcuts, source, generator: see `Layer`.

    Weights ``(out_features, in_features)`` start uniform in ``+- scale / sqrt(in_features)`` about
    ``drive / in_features``, both being the neuron's: about 0, of `Causal` neurons about a positive mean.

    Raises:
        TypeError, ValueError: see `Layer`; or a size below 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        neuron: Neuron = Window(),  # noqa: B008 - a frozen value
        *,
        bias: bool | None = None,
        shortcuts: Sequence[Connection] = (),
        source: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        wiring = Dense(in_features=in_features, out_features=out_features)
        super().__init__(wiring, neuron, bias=bias, shortcuts=shortcuts, source=source, generator=generator)


class Conv2d(Layer):
    """Spikes in, spikes out, through a convolution over maps ``(batch, channels, y, x)``.

    Args:
        in_channels, out_channels: numbers of maps.
        kernel_size: size of a neuron's patch, one number or ``(y, x)``.
        neuron, bias, shortcuts, source, generator: see `Layer`; one bias per map.
        stride, padding: in inputs, one number or ``(y, x)``; what lies beyond the border is silent.
        groups: parts of the channels that are not connected to each other.

    Weights ``(out_channels, in_channels / groups, y, x)`` start as those of `Linear`.

    Raises:
        TypeError, ValueError: see `Layer`; sizes below 1, channels that do not divide into the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        neuron: Neuron = Window(),  # noqa: B008 - a frozen value
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
        bias: bool | None = None,
        shortcuts: Sequence[Connection] = (),
        source: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        wiring = Convolution(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
        )
        super().__init__(wiring, neuron, bias=bias, shortcuts=shortcuts, source=source, generator=generator)


class ConvTranspose2d(Layer):
    """Spikes in, spikes out, through a transposed convolution, whose stride enlarges the maps.

    Args:
        in_channels, out_channels, kernel_size, neuron, groups, bias, shortcuts, source, generator: as for
            `Conv2d`.
        stride: in outputs, one number or ``(y, x)``.
        padding: outputs cut off at each edge, one number or ``(y, x)``.

    Weights ``(in_channels, out_channels / groups, y, x)`` start as those of `Linear`, with the mean fan-in.

    Raises:
        TypeError, ValueError: as for `Conv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        neuron: Neuron = Window(),  # noqa: B008 - a frozen value
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
        bias: bool | None = None,
        shortcuts: Sequence[Connection] = (),
        source: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        wiring = TransposedConvolution(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
        )
        super().__init__(wiring, neuron, bias=bias, shortcuts=shortcuts, source=source, generator=generator)

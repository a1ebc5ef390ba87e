"""Weights with their wiring: what a neuron is connected by."""

from typing import Any

import torch
from torch import Tensor

from firstspike.neurons import Synapses
from firstspike.nn.geometry import Pair, Shape
from firstspike.nn.wiring import Convolution, Dense, Wiring


class Connection(torch.nn.Module):
    """Weights that learn, and their wiring: from one layer's spikes, or the input's, into a layer.

    Made by `linear` and `conv2d`, or from a wiring. Weights start uniform in ``+- scale / sqrt(fan-in)``
    about ``drive / fan-in``, biases in the first about 0.

    Args:
        wiring: which input reaches which neuron.
        bias: learn a bias per neuron, of maps one per map.
        scale: of the initial weights and biases.
        drive: what a neuron's initial weights add up to on average.
        source: whose spikes a connection of a layer takes: 0 the network's input, ``d + 1`` what
            layer ``d`` of the stack gives. None: the layer before.
        by_input: keep an input's weights together in memory, as event kernels read them, instead of a
            neuron's; see ``docs/decisions/0007``. `state_dict` has them contiguous either way.
        generator: source of the initial weights; torch's global one by default.
    """

    def __init__(
        self,
        wiring: Wiring,
        *,
        bias: bool = False,
        scale: float = 1.0,
        drive: float = 0.0,
        source: int | None = None,
        by_input: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.wiring, self.source = wiring, source
        bound = wiring.fan_in**-0.5 * scale
        weight = wiring.draw(bound, generator).add_(drive / wiring.fan_in)
        self.weight = torch.nn.Parameter(weight if by_input else weight.contiguous())
        self.bias = (
            torch.nn.Parameter(torch.empty(wiring.gives[1]).uniform_(-bound, bound, generator=generator))
            if bias
            else None
        )
        # What the weights pass through on their way to the neuron, see `firstspike.rounded_weights`.
        self.rounding: torch.nn.Module | None = None

    @classmethod
    def linear(
        cls,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        source: int | None = None,
        generator: torch.Generator | None = None,
    ) -> "Connection":
        """Return a fully connected one."""
        wiring = Dense(in_features=in_features, out_features=out_features)
        return Connection(wiring, bias=bias, source=source, generator=generator)

    @classmethod
    def conv2d(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = False,
        source: int | None = None,
        generator: torch.Generator | None = None,
    ) -> "Connection":
        """Return a convolution, see `firstspike.Conv2d`."""
        wiring = Convolution(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
        )
        return Connection(wiring, bias=bias, source=source, generator=generator)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not keep_vars and f"{prefix}weight" in destination:
            destination[f"{prefix}weight"] = destination[f"{prefix}weight"].contiguous()

    @property
    def synapses(self) -> Synapses:
        """The weights as the neuron is given them, rounded by `rounding` if there is one."""
        weight = self.weight if self.rounding is None else self.rounding(self.weight)
        return Synapses(self.wiring, weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes and whose spikes it takes, for printing."""
        return str(self.wiring) if self.source is None else f"{self.wiring}, source={self.source}"

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        found = self.wiring.out_shape(shape)
        if self.bias is not None and self.bias.dim() > 1 and self.bias.shape != found:
            raise ValueError(f"has a bias for each place of {tuple(self.bias.shape)}, found {found}")
        return found

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons receive each input of `shape`, float32, see the wiring."""
        return self.wiring.fan_out(shape)

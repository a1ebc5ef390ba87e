"""Every operation that a one-step network takes."""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.metrics.cost import ADD_PJ, MULTIPLY_ADD_PJ
from firstspike.onestep.network import (
    Connection,
    NormalisedLSTM,
    OneStepNetwork,
    Passed,
    Perceptron,
    SpikingLayer,
    WindowLSTM,
    spiking_layers,
)
from firstspike.onestep.settings import WindowCarry
from firstspike.onestep.windows import WindowGrid, cover

# 45 nm, 0.9 V: M. Horowitz, "Computing's energy problem", ISSCC 2014.
MULTIPLY_PJ = 3.7
# A sine, exponential or the like as an odd polynomial of degree 9 in five multiply-adds; our own figure.
FUNCTION_PJ = 5 * MULTIPLY_ADD_PJ


@dataclass(frozen=True)
class Operations:
    """Mean operations per image.

    Attributes:
        additions: caused by spikes at their targets.
        multiply_adds: caused at their targets by numbers that are no spikes: the image, an LSTM's states,
            fractional spikes, mean spikes at the head. A 0 causes nothing.
        neuron_additions, neuron_multiplies, neuron_multiply_adds, neuron_functions: of every neuron,
            whether or not anything spikes: the shift that normalisation leaves, the carried membrane and
            its merging, an LSTM's gates. A function is a sine, a cosine or one of the exponential's family.
    """

    additions: float = 0.0
    multiply_adds: float = 0.0
    neuron_additions: float = 0.0
    neuron_multiplies: float = 0.0
    neuron_multiply_adds: float = 0.0
    neuron_functions: float = 0.0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> "Operations":
        """Return so many times as much of everything."""
        return Operations(*(value * factor for value in astuple(self)))

    @property
    def inputs_pj(self) -> float:
        """Energy of what inputs cause, which is what papers count."""
        return self.additions * ADD_PJ + self.multiply_adds * MULTIPLY_ADD_PJ

    @property
    def energy_pj(self) -> float:
        """Energy of every operation."""
        return (
            self.inputs_pj
            + self.neuron_additions * ADD_PJ
            + self.neuron_multiplies * MULTIPLY_PJ
            + self.neuron_multiply_adds * MULTIPLY_ADD_PJ
            + self.neuron_functions * FUNCTION_PJ
        )


class OperationCounter:
    """Watches a network's layers and adds up their operations.

    Attributes:
        total: sum over all images seen.
        dense: multiply-adds of the ordinary network, per image.
        spikes, sizes: spikes of the last batch and number of places, layer by layer.
    """

    def __init__(self, network: OneStepNetwork) -> None:
        self.total, self.dense = Operations(), 0
        layers = spiking_layers(network)
        self.spikes, self.sizes = [0.0] * len(layers), [0] * len(layers)
        self._places = {id(layer): k for k, layer in enumerate(layers)}
        self._counted: set[int] = set()
        self._hears_numbers: set[int] = set()
        numbers = True
        for block in network.blocks:
            assert isinstance(block, SpikingLayer | Perceptron)
            if numbers:
                first = block.first if isinstance(block, Perceptron) else block
                self._hears_numbers |= {id(module) for module in first.modules()}
            numbers = block.neuron.fractional and _overlap(block.grid)
        self._head_hears_numbers = numbers
        self._head_size = network.head_size
        watch: dict[type, Callable[..., None]] = {
            Connection: self._connection,
            WindowLSTM: self._lstm,
            NormalisedLSTM: self._normalisation,
            SpikingLayer: self._neurons,
            Perceptron: self._neurons,
            torch.nn.Linear: self._head,
        }
        self._hooks = [
            module.register_forward_hook(watch[type(module)])
            for module in network.modules()
            if type(module) in watch
        ]

    def remove(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()

    def _connection(self, module: Connection, inputs: tuple[Tensor], out: Tensor) -> None:
        self._heard(module, inputs[0], len(module.weight), module.weight.shape[-1])
        self.total += Operations(neuron_additions=out.numel())

    def _lstm(self, module: WindowLSTM, inputs: tuple[Tensor], out: Tensor) -> None:
        width, channels = module.recurrent_weight.shape
        self._heard(module, inputs[0], width, module.weight.shape[-1])
        visits = _visits(module.grid) * len(out) * channels
        recurrent = (_visits(module.grid) - math.prod(module.grid.sides)) * width * channels
        self.dense += recurrent if id(module.recurrent_weight) not in self._counted else 0
        self._counted.add(id(module.recurrent_weight))
        self.total += Operations(
            multiply_adds=float(len(out) * recurrent),
            neuron_additions=float(len(out) * math.prod(module.grid.shape) * width),
            neuron_multiplies=2.0 * visits,
            neuron_multiply_adds=float(visits),
            neuron_functions=5.0 * visits,
        )
        self.total += _merging(module.grid).times(len(out) * channels)

    def _normalisation(self, module: NormalisedLSTM, inputs: tuple[Tensor], out: Tensor) -> None:
        self.total += Operations(neuron_multiply_adds=out.numel())

    def _neurons(self, module: SpikingLayer | Perceptron, inputs: tuple[Passed], out: Passed) -> None:
        place = self._places[id(module)]
        self.spikes[place] = float(out.spikes.sum(dtype=torch.float64))
        self.sizes[place] = out.spikes[0].numel()
        self._last = out.spikes
        (heard,) = inputs
        if isinstance(module, Perceptron) or module.shortcut:
            self.total += Operations(additions=float((heard.spikes != 0).sum()))
        neuron, grid = module.neuron, module.grid
        maps = out.spikes.shape[0] * out.spikes.shape[1]
        before = heard.left is not None and heard.left.shape == out.spikes.shape
        carried = carry_operations(neuron, before=before, windows=len(grid.corners) > 1)
        self.total += carried.times(maps * _visits(grid))
        merging = _merging(grid)
        # Whether a place spikes follows from the sum; a fraction needs the mean.
        spikes = merging if neuron.fractional else Operations(neuron_additions=merging.neuron_additions)
        self.total += spikes.times(maps)
        if neuron.carried == "both" or (neuron.carried == "layer" and neuron.projection != "sine_window"):
            self.total += merging.times(maps)

    def _head(self, module: torch.nn.Linear, inputs: tuple[Tensor], out: Tensor) -> None:
        (rates,) = inputs
        if id(module) not in self._counted:
            self._counted.add(id(module))
            self.dense += module.weight.numel()
        active = (self._last != 0).sum((0, 1)).to(torch.float64)
        parts = [_parts(length, self._head_size, active) for length in active.shape]
        summed = float((active * parts[0][:, None] * parts[1]).sum())
        heard = float((rates != 0).sum()) * len(module.weight)
        single = tuple(active.shape) == (self._head_size, self._head_size)
        if single and not self._head_hears_numbers:
            self.total += Operations(additions=heard)
        else:
            self.total += Operations(additions=0.0 if single else summed, multiply_adds=heard)

    def _heard(self, module: torch.nn.Module, maps: Tensor, targets: int, kernel: int) -> None:
        """What the inputs of a convolution cause at its outputs, and what they cause in a dense one."""
        reach = F.conv2d(
            torch.ones(1, 1, *maps.shape[2:], device=maps.device),
            torch.ones(1, 1, kernel, kernel, device=maps.device),
            padding=kernel // 2,
        )[0, 0]
        if id(module) not in self._counted:
            self._counted.add(id(module))
            self.dense += int(reach.sum()) * maps.shape[1] * targets
        events = float(((maps != 0).sum((0, 1)) * reach).sum(dtype=torch.float64)) * targets
        if id(module) in self._hears_numbers:
            self.total += Operations(multiply_adds=events)
        else:
            self.total += Operations(additions=events)


def _visits(grid: WindowGrid) -> int:
    """How many places all windows hold together."""
    return math.prod(grid.sides) * len(grid.corners)


def _overlap(grid: WindowGrid) -> bool:
    return _visits(grid) > math.prod(grid.shape)


def _merging(grid: WindowGrid) -> Operations:
    """What the mean over overlapping windows takes for one map."""
    return Operations(
        neuron_additions=float(_visits(grid) - math.prod(grid.shape)),
        neuron_multiplies=float((cover(grid) > 1).sum()),
    )


def _parts(length: int, count: int, like: Tensor) -> Tensor:
    """In how many of the head's `count` parts each of `length` places lies; the parts may overlap."""
    inside = torch.zeros(length, dtype=like.dtype, device=like.device)
    for k in range(count):
        inside[k * length // count : -(-(k + 1) * length // count)] += 1
    return inside


def carry_operations(neuron: WindowCarry, *, before: bool, windows: bool) -> Operations:
    """Return the operations of one neuron in one window for the membrane that it carries.

    Args:
        neuron: what is carried.
        before: the previous layer has membranes of the same shape.
        windows: there are several windows.
    """
    window = windows and neuron.carried in ("both", "window")
    layer = before and neuron.carried in ("both", "layer")
    if not (window or layer):
        return Operations()
    # The reset of what is left, and the projection's weight and sum with the current.
    common = Operations(neuron_additions=1, neuron_multiply_adds=1)
    if neuron.projection in ("sine_window", "sine_layer"):
        if not (window if neuron.projection == "sine_window" else layer):
            # The sine of nothing is nothing.
            return Operations()
        both = window and layer
        return common + Operations(neuron_multiplies=3 if both else 1, neuron_functions=2 if both else 1)
    functions = 1.0 if neuron.projection in ("sigmoid", "tanh") else 0.0
    return common + Operations(
        neuron_additions=1.0 if window and layer else 0.0, neuron_functions=functions
    )

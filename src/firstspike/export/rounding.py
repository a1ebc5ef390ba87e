"""Weights in few bits: their steps, their rounding, and training through it.

Shape legend: O neurons of a layer that differ in their weights: features, or maps.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from firstspike.nn import AvgPool2d, Connection, Layer, Stack
from firstspike.nn.wiring import Dense, TransposedConvolution, Wiring
from firstspike.support import check_choice, check_integer

# Ends of the weights' range that are tried, as shares of the largest.
_ENDS = torch.linspace(1, 0.5, 26, dtype=torch.float64)


Granularity = Literal["channel", "layer"]


_NEAR = 1e-9
# The largest step of a neuron's connections beside the least.
_WIDEST = 2.0**12
_MOST_BITS = 8


@dataclass(frozen=True)
class Grid:
    """How weights are rounded; the steps of connections that learnt with rounded weights."""

    bits: int
    per: Granularity
    learnt: dict[Connection, Tensor]


def check_grid(owner: str, bits: Any, per: Any) -> int:
    """Return `bits` as an int; ValueError for bits or a granularity that are out of range."""
    checked = check_integer(owner, "bits", bits, low=2)
    if checked > _MOST_BITS:
        raise ValueError(f"{owner}.bits must be 2 ... {_MOST_BITS}, found {bits}")
    check_choice(owner, "per", per, get_args(Granularity))
    return checked


def bias_flows(layer: Layer) -> bool:
    """Whether a bias is added at every step."""
    return layer.neuron.bias_is_current and any(one.bias is not None for one in (layer, *layer.shortcuts))


def granularity(layer: Layer, per: Granularity) -> Granularity:
    """What the steps of a layer's weights may differ by.

    Causal neurons of maps with steps of their own have levels of their own, which are a bias, and not every
    convolution takes one, see `Convolution.with_clock`.
    """
    wiring = layer.wiring
    if layer.neuron.quantiser() is not None or isinstance(wiring, Dense):
        return "layer" if bias_flows(layer) else per
    within = all(2 * p < k for k, p in zip(wiring.kernel_size, wiring.padding, strict=True))
    return per if within and wiring.groups == 1 and not bias_flows(layer) else "layer"


def by_output(wiring: Wiring, weight: Tensor) -> Tensor:
    """Return weights as ``(O, inputs)``."""
    if isinstance(wiring, TransposedConvolution):
        grouped = weight.unflatten(0, (wiring.groups, -1)).transpose(1, 2)
        return grouped.flatten(0, 1).flatten(1)
    return weight.flatten(1)


def per_weight(wiring: Wiring, values: Tensor) -> Tensor:
    """Values ``(O,)`` as they meet the weights."""
    if isinstance(wiring, TransposedConvolution):
        inputs = wiring.in_channels // wiring.groups
        grouped = values.reshape(wiring.groups, 1, -1).expand(-1, inputs, -1)
        return grouped.reshape(wiring.in_channels, -1, 1, 1)
    return values.reshape(-1, *[1] * (len(wiring.weight_shape) - 1))


def layer_steps(layer: Layer, windows: Sequence[int], grid: Grid) -> list[Tensor]:
    """Return the step of the weights of each connection of a layer, float64 ``(O,)``.

    Weights of causal neurons share one. Those of window neurons are finer where a connection's weights are
    smaller; what each step adds to the membrane is a power of two times the least.

    Args:
        layer: with weights in float64.
        windows: of what its connections take, in steps.
        grid: how weights are rounded.
    """
    connections, per = (layer, *layer.shortcuts), granularity(layer, grid.per)
    held = layer.neuron.quantiser() is not None
    # What a weight adds to a membrane in each step.
    shares = [1 / window if held else 1.0 for window in windows]
    wanted = []
    for one, share in zip(connections, shares, strict=True):
        rows = by_output(one.wiring, one.weight)
        step = grid.learnt.get(one)
        if step is None:
            step = _step(rows if per == "channel" else rows.reshape(1, -1), grid.bits)
        wanted.append(step.expand(len(rows)) * share)
    together = torch.stack(wanted)
    # A connection of zeros takes any step, one of far smaller weights than the others a coarser one.
    least = together.where(together > 0, math.inf).amin(0)
    base = (least.maximum(together.amax(0) / _WIDEST) if held else together.amax(0)).where(
        least.isfinite(), 1.0
    )
    # Doublings that were learnt are whole but for rounding errors.
    doubled = ((together / base).clamp(min=1).log2() - _NEAR).ceil().clamp(min=0) if held else 0 * together
    return [base * 2.0**times / share for times, share in zip(doubled, shares, strict=True)]


def _step(rows: Tensor, bits: int) -> Tensor:
    """The step of the least squared error for each row of weights, 0 for zeros."""
    most = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1)
    power = _common_power(rows)
    best = torch.where(largest <= power * most, power, largest / most)
    least = _error(rows, best, most)
    for end in _ENDS[1:]:
        step = largest * end / most
        error = _error(rows, step, most)
        best, least = torch.where(error < least, step, best), torch.minimum(least, error)
    return best


def _error(rows: Tensor, step: Tensor, most: int) -> Tensor:
    safe = step.where(step > 0, 1.0)[:, None]
    return ((rows / safe).round().clamp(-most, most) * safe - rows).square().sum(1)


def _common_power(rows: Tensor) -> Tensor:
    """The largest power of two of which every weight of a row is a multiple, 0 for zeros."""
    mantissa, exponent = torch.frexp(rows)
    digits = (mantissa * 2.0**53).long()
    lowest = torch.ldexp((digits & -digits).double(), exponent - 53)
    powers = lowest.where(lowest > 0, math.inf).amin(1)
    return powers.where(powers.isfinite(), 0.0)


def round_to(connection: Connection, step: Tensor, bits: int) -> Tensor:
    """A connection's weights in steps ``(O,)``, int8; its own become what they stand for."""
    most, spread = 2 ** (bits - 1) - 1, per_weight(connection.wiring, step)
    steps = (connection.weight / spread).round().clamp(-most, most)
    connection.weight.copy_(steps * spread)
    return steps.to(torch.int8)


class RoundedWeight(torch.nn.Module):
    """Rounds weights to whole steps; the gradient passes straight through.

    Args:
        step: float64 ``(O,)``.
        wiring: of the weights.
        bits: of a weight.
    """

    step: Tensor

    def __init__(self, step: Tensor, wiring: Wiring, bits: int) -> None:
        super().__init__()
        self.register_buffer("step", step)
        self.wiring, self.bits = wiring, bits

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights, rounded."""
        step = per_weight(self.wiring, self.step).to(weight.dtype)
        most = 2 ** (self.bits - 1) - 1
        rounded = (weight.detach() / step).round().clamp(-most, most) * step
        return weight + (rounded - weight.detach())


@torch.no_grad()
def rounded_weights(net: Stack, *, bits: int, per: Granularity = "channel") -> Stack:
    """Return a copy of a network whose weights are rounded as `integer` rounds them, for fine-tuning.

    It computes with rounded weights and learns full ones: the gradient passes the rounding straight through
    (quantisation-aware training). `integer` of the trained copy takes the same steps.

    Args:
        net, bits, per: as for `integer`.

    Raises:
        TypeError: `net` is no Stack.
        ValueError: `bits` or `per` is out of range.

    >>> import firstspike as fs
    >>> net = fs.Stack(fs.Linear(4, 8), fs.Linear(8, 2, fs.Window.output(steps=32)), steps=16)
    >>> rounded = fs.rounded_weights(net, bits=2)
    >>> len(rounded[0].synapses.weight[0].unique()) <= 3
    True
    """
    if not isinstance(net, Stack):
        raise TypeError(f"rounded_weights takes a firstspike.Stack, found {type(net).__name__}")
    bits = check_grid("rounded_weights", bits, per)
    made = copy.deepcopy(net)
    exact = copy.deepcopy(net).double()
    for layer, precise, sources in zip(made, exact, net.sources, strict=True):
        if isinstance(layer, AvgPool2d):
            continue
        steps = layer_steps(precise, [net.windows[source] for source in sources], Grid(bits, per, {}))
        for one, step in zip((layer, *layer.shortcuts), steps, strict=True):
            one.rounding = RoundedWeight(step, one.wiring, bits)
    return made


def settle(net: Stack, bits: int) -> dict[Connection, Tensor]:
    """Make weights that learnt while rounded what they were rounded to; return their steps."""
    found = {}
    for module in net.modules():
        if isinstance(module, Connection) and module.rounding is not None:
            rounding = module.rounding
            if not isinstance(rounding, RoundedWeight) or rounding.bits != bits:
                raise ValueError(f"weights must be plain, or learnt by rounded_weights(net, bits={bits})")
            module.weight.copy_(rounding(module.weight))
            module.rounding, found[module] = None, rounding.step
    return found

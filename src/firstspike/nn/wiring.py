"""Which input reaches which neuron: dense, convolutional, transposed, each written once for all neurons.

A wiring is a value without weights: it knows shapes, the linear algebra of `torch`, how initial weights are
drawn, and the event kernels of neurons that sum weights.

Shape legend: B batch, I inputs of a neuron, O neurons, G groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.kernels.dispatch import common_device, kernels_for
from firstspike.kernels.geometry import Geometry
from firstspike.nn.geometry import (
    Pair,
    Shape,
    check_channels,
    check_features,
    check_map,
    conv_size,
    pair,
    reach,
    reach_transposed,
    transposed_size,
)
from firstspike.nn.side_by_side import every
from firstspike.support import check_integer


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Every input reaches every neuron; weights ``(out_features, in_features)``."""

    kind: ClassVar[str] = "dense"
    in_features: int
    out_features: int

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            size = check_integer("Linear", name, getattr(self, name), low=1)
            object.__setattr__(self, name, size)

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weights."""
        return self.out_features, self.in_features

    @property
    def takes(self) -> tuple[str, int]:
        """What comes in, and how many."""
        return "features", self.in_features

    @property
    def gives(self) -> tuple[str, int]:
        """What goes out, and how many; as many biases there are."""
        return "features", self.out_features

    @property
    def fan_in(self) -> float:
        """Inputs of a neuron."""
        return self.in_features

    def draw(self, bound: float, generator: torch.Generator | None) -> Tensor:
        """Return weights uniform in ``+- bound``."""
        columns = torch.empty(self.in_features, self.out_features)
        return columns.uniform_(-bound, bound, generator=generator).t()

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_features(shape, self.in_features)
        return (self.out_features,)

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons receive each input: all, float32, one number for every place."""
        self.out_shape(shape)
        return torch.tensor(float(self.out_features))

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None, silent: float) -> Tensor:
        """Return ``b + W x`` ``(batch, out_features)`` for values ``(batch, in_features)``."""
        return F.linear(values.flatten(1), weight, bias)

    def crossings(self, times: Tensor, weight: Tensor, threshold: float, steps: int) -> Tensor:
        """Return the step at which each sum of weights reaches the threshold, ``(batch, out_features)``."""
        kernels = kernels_for(common_device(times=times, weight=weight)).linear
        crossing: Tensor = kernels.forward(times, self.rows(weight)[0], threshold, steps)
        return crossing

    def gradients(
        self,
        times: Tensor,
        weight: Tensor,
        crossing: Tensor,
        delta: Tensor,
        steps: int,
        *,
        for_times: bool,
        for_weight: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the published gradients of input times and weights, each where it is asked for."""
        kernels, delta = kernels_for(times.device).linear, delta.contiguous()
        grad_times = grad_weight = None
        if for_weight:
            grad_weight = kernels.weight_gradient(times, crossing, delta, steps).t()
        if for_times:
            grad_times = kernels.input_gradient(times, self.rows(weight)[0], crossing, delta, steps)
        return grad_times, grad_weight

    def rows(self, weight: Tensor) -> Tensor:
        """Return the weights with one contiguous run per input, ``(1, in_features, out_features)``."""
        return weight.detach().t().contiguous().unsqueeze(0)

    def with_clock(
        self, times: Tensor, weight: Tensor, bias: Tensor, steps: int
    ) -> "tuple[Dense, Tensor, Tensor]":
        """Return wiring, weights and times with clock neurons, which add the bias at step 0, 1, ...

        They come first, so that sums begin with them, as the engine's do.
        """
        clock = torch.arange(steps, dtype=times.dtype, device=times.device).expand(len(times), steps)
        return (
            replace(self, in_features=self.in_features + steps),
            # An input's weights stay together in memory, as the kernels read them.
            torch.cat([bias.expand(steps, -1), weight.t()]).t(),
            torch.cat([clock, times], 1),
        )

    def patches(self, times: Tensor, weight: Tensor, silent: float) -> list[tuple[Tensor, Tensor]]:
        """Return the inputs of each neuron ``(B, I)`` with its weights ``(O, I)``, group by group."""
        return [(times, weight)]

    def from_patches(self, parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Return what neurons of `patches` gave as the layer's output, for inputs of `shape`."""
        return parts[0]


@dataclass(frozen=True, init=False)
class _Maps:
    """Weights that are shared over the places of maps ``(channels, y, x)``."""

    # The layer that it is known by.
    layer: ClassVar[str]
    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair
    padding: Pair
    groups: int

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
    ) -> None:
        given = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        sizes = {name: check_integer(self.layer, name, size, low=1) for name, size in given.items()}
        check_channels(**sizes)
        pairs = {
            "kernel_size": pair(kernel_size, "kernel_size", 1),
            "stride": pair(stride, "stride", 1),
            "padding": pair(padding, "padding", 0),
        }
        for name, value in {**sizes, **pairs}.items():
            object.__setattr__(self, name, value)

    @property
    def takes(self) -> tuple[str, int]:
        """What comes in, and how many."""
        return "channels", self.in_channels

    @property
    def gives(self) -> tuple[str, int]:
        """What goes out, and how many; as many biases there are."""
        return "channels", self.out_channels


@dataclass(frozen=True, init=False)
class Convolution(_Maps):
    """A neuron receives a patch of the maps; weights ``(out_channels, in_channels / groups, y, x)``.

    Inputs beyond the border are silent.
    """

    kind: ClassVar[str] = "convolution"
    layer: ClassVar[str] = "Conv2d"

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weights."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    @property
    def fan_in(self) -> float:
        """Inputs of a neuron away from the border."""
        return self.in_channels // self.groups * math.prod(self.kernel_size)

    def draw(self, bound: float, generator: torch.Generator | None) -> Tensor:
        """Return weights uniform in ``+- bound``."""
        rows = torch.empty(self.groups, int(self.fan_in), self.out_channels // self.groups)
        rows.uniform_(-bound, bound, generator=generator)
        kernels = rows.transpose(1, 2).unflatten(2, self.weight_shape[1:])
        return kernels.reshape(self.weight_shape)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_map(shape, self.in_channels)
        return (self.out_channels, *conv_size(shape, self.kernel_size, self.stride, self.padding))

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons receive each input of a map ``(channels, y, x)``, float32 ``(y, x)``."""
        _, y, x = self.out_shape(shape)
        reached = reach((shape[1], shape[2]), (y, x), self.kernel_size, self.stride, self.padding)
        return reached.to(torch.float32) * (self.out_channels // self.groups)

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None, silent: float) -> Tensor:
        """Return ``b + W x`` ``(batch, out_channels, y, x)``; `silent` stands beyond the border."""
        padding = self.padding
        if silent and any(padding):
            values, padding = _surround(values, padding, silent), (0, 0)
        stride = self.stride
        if self.kernel_size == (1, 1) and not any(padding):
            values, stride = every(values, stride), (1, 1)
        each, placed = _by_map(bias)
        membrane = F.conv2d(values, weight, each, stride=stride, padding=padding, groups=self.groups)
        return membrane if placed is None else membrane + placed

    @property
    def geometry(self) -> Geometry:
        """The sizes as the event kernels take them."""
        return Geometry(
            self.in_channels,
            self.out_channels,
            *self.kernel_size,
            *self.stride,
            *self.padding,
            self.groups,
        )

    def crossings(self, times: Tensor, weight: Tensor, threshold: float, steps: int) -> Tensor:
        """Return the step at which each sum reaches the threshold, ``(batch, out_channels, y, x)``.

        Its memory holds the channels last.
        """
        kernels = kernels_for(common_device(times=times, weight=weight)).conv2d
        crossing: Tensor = kernels.forward(times, self.rows(weight), self.geometry, threshold, steps)
        return crossing

    def gradients(
        self,
        times: Tensor,
        weight: Tensor,
        crossing: Tensor,
        delta: Tensor,
        steps: int,
        *,
        for_times: bool,
        for_weight: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the published gradients of input times and weights, each where it is asked for."""
        kernels, geometry = kernels_for(times.device).conv2d, self.geometry
        grad_times = grad_weight = None
        if for_weight:
            found = kernels.weight_gradient(times, crossing, delta, geometry, steps)
            grad_weight = found.transpose(1, 2).reshape(self.weight_shape)
        if for_times:
            rows = self.rows(weight)
            grad_times = kernels.input_gradient(times, rows, crossing, delta, geometry, steps)
        return grad_times, grad_weight

    def rows(self, weight: Tensor) -> Tensor:
        """Return the weights with one run per input of a patch, ``(groups, inputs, out / groups)``."""
        own = self.out_channels // self.groups
        return weight.detach().reshape(self.groups, own, -1).transpose(1, 2).contiguous()

    def with_clock(
        self, times: Tensor, weight: Tensor, bias: Tensor, steps: int
    ) -> "tuple[Convolution, Tensor, Tensor]":
        """Return wiring, weights and times with clock neurons, which add the bias at step 0, 1, ...

        They are maps, of which each neuron receives one place, through the kernel's tap at `padding`, which
        lies inside the map for every neuron. They come first, as `Dense.with_clock` says.

        Raises:
            ValueError: several groups, or a padding of half the kernel or more.
        """
        if self.groups != 1 or any(2 * p >= k for k, p in zip(self.kernel_size, self.padding, strict=True)):
            raise ValueError(
                "a causal convolution with a bias needs one group and a padding below half the kernel, "
                f"found {self.groups} groups, padding {self.padding}, kernel {self.kernel_size}"
            )
        clock = torch.arange(steps, dtype=times.dtype, device=times.device).reshape(1, -1, 1, 1)
        (above, left), (y, x) = self.padding, self.kernel_size
        # An input's weights stay together in memory, as the kernels read them.
        added = F.pad(bias.expand(steps, 1, 1, -1), (0, 0, left, x - 1 - left, above, y - 1 - above))
        return (
            replace(self, in_channels=self.in_channels + steps),
            torch.cat([added, weight.permute(1, 2, 3, 0)]).permute(3, 0, 1, 2),
            torch.cat([clock.expand(len(times), steps, *times.shape[2:]), times], 1),
        )

    def patches(self, times: Tensor, weight: Tensor, silent: float) -> list[tuple[Tensor, Tensor]]:
        """Return the inputs of each neuron ``(B, I)`` with its weights ``(O, I)``, group by group."""
        framed = _surround(times, self.padding, silent)
        return [
            (
                F.unfold(maps, self.kernel_size, stride=self.stride).transpose(1, 2).flatten(0, 1),
                kernels.flatten(1),
            )
            for maps, kernels in zip(framed.chunk(self.groups, 1), weight.chunk(self.groups), strict=True)
        ]

    def from_patches(self, parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Return what neurons of `patches` gave as the layer's output, for inputs of `shape`."""
        sides = conv_size(tuple(shape[1:]), self.kernel_size, self.stride, self.padding)
        return torch.cat(
            [part.unflatten(0, (shape[0], -1)).transpose(1, 2).unflatten(2, sides) for part in parts], 1
        )


@dataclass(frozen=True, init=False)
class TransposedConvolution(_Maps):
    """An input reaches a patch of the maps; weights ``(in_channels, out_channels / groups, y, x)``.

    The input at ``i`` reaches the outputs ``i * stride + k - padding``, so a stride enlarges the map.
    Inputs beyond the edge, which an output near it would receive on a larger map, are silent.
    """

    kind: ClassVar[str] = "transposed"
    layer: ClassVar[str] = "ConvTranspose2d"

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weights."""
        return self.in_channels, self.out_channels // self.groups, *self.kernel_size

    @property
    def fan_in(self) -> float:
        """Mean inputs of a neuron, ``in_channels / groups * kernel / stride``, per axis no less than 1."""
        y, x = (max(k / s, 1) for k, s in zip(self.kernel_size, self.stride, strict=True))
        return self.in_channels / self.groups * y * x

    def draw(self, bound: float, generator: torch.Generator | None) -> Tensor:
        """Return weights uniform in ``+- bound``."""
        return torch.empty(self.weight_shape).uniform_(-bound, bound, generator=generator)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_map(shape, self.in_channels)
        return (self.out_channels, *transposed_size(shape, self.kernel_size, self.stride, self.padding))

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons receive each input of a map ``(channels, y, x)``, float32 ``(y, x)``."""
        _, y, x = self.out_shape(shape)
        reached = reach_transposed(
            (shape[1], shape[2]), (y, x), self.kernel_size, self.stride, self.padding
        )
        return reached.to(torch.float32) * (self.out_channels // self.groups)

    def apply(self, values: Tensor, weight: Tensor, bias: Tensor | None, silent: float) -> Tensor:
        """Return ``b + W x`` ``(batch, out_channels, y, x)``; `silent` stands beyond the edge."""
        padding = self.padding
        if silent:
            # As many rows beyond the edge as reach an output; the wider map's own edge is cut off again.
            rim_y, rim_x = ((k - 1) // s for k, s in zip(self.kernel_size, self.stride, strict=True))
            values = _surround(values, (rim_y, rim_x), silent)
            padding = (padding[0] + rim_y * self.stride[0], padding[1] + rim_x * self.stride[1])
        each, placed = _by_map(bias)
        membrane = F.conv_transpose2d(
            values, weight, each, stride=self.stride, padding=padding, groups=self.groups
        )
        return membrane if placed is None else membrane + placed


Wiring = Dense | Convolution | TransposedConvolution


def _by_map(bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """A bias as one per map, or as one per place."""
    return (bias, None) if bias is None or bias.dim() == 1 else (None, bias)


def _surround(values: Tensor, rim: Pair, value: float) -> Tensor:
    return F.pad(values, (rim[1], rim[1], rim[0], rim[0]), value=value)

"""Pooling by integrate-and-fire neurons."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from firstspike.neurons import Causal, Neuron, Synapses
from firstspike.neurons.base import check_neuron
from firstspike.nn.connection import Connection
from firstspike.nn.geometry import Pair, Shape, check_map, conv_size, pair, reach
from firstspike.nn.wiring import Convolution
from firstspike.spikes import Spikes, check_spikes


class AvgPool2d(torch.nn.Module):
    """Spikes in, spikes out, through neurons that fire when a share of their patch has fired.

    Average pooling of spikes: each of the ``k`` inputs of a patch has the fixed weight ``1 / k``, so the
    membrane is the share of inputs that have fired, and the neuron fires with the spike that brings it to
    the threshold. Its gradient goes to the inputs by the neuron's rule; there are no parameters.

    Args:
        kernel_size: size of a patch, one number or ``(y, x)``.
        neuron: `Causal`, its threshold the share, at most 1.
        stride: from patch to patch, one number or ``(y, x)``; None takes the kernel's size. What is left
            at the lower and right borders is not pooled.
        padding: silent inputs beyond each border, one number or ``(y, x)``.
        source: whose spikes it takes, as a `Connection` does: the layer before's if None.

    The field `count` is the number of spikes that it takes. The field `neuron` is the one given with its
    threshold half-way between the shares of one spike fewer and of these, where rounding cannot decide.

    Raises:
        TypeError: no neuron.
        ValueError: another neuron, a share that no patch can reach, sizes below 1.
    """

    takes: tuple[str, int | None] = ("channels", None)
    gives: tuple[str, int | None] = ("channels", None)
    # No connection but that from the layer before.
    shortcuts: Sequence[Connection] = ()

    def __init__(
        self,
        kernel_size: int | Pair,
        neuron: Causal = Causal(threshold=0.5),  # noqa: B008 - a frozen value
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        source: int | None = None,
    ) -> None:
        super().__init__()
        check_neuron(neuron)
        events = neuron.events()
        if events is None:
            raise ValueError(f"AvgPool2d takes Causal neurons, found {neuron}")
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", 1)
        self.padding, self.source = pair(padding, "padding", 0), source
        _check_padding(self.padding, self.kernel_size)
        size = self.kernel_size[0] * self.kernel_size[1]
        # A share written as a fraction, 3 / 9 for instance, may lie a rounding error above it.
        asked = events.threshold * size
        whole = round(asked)
        near = math.isclose(asked, whole, rel_tol=1e-9)
        least = whole if near else math.ceil(asked)
        self.count = least + 1 if events.strict and near else least
        if self.count > size:
            raise ValueError(
                f"a share of {'more than ' if events.strict else ''}{events.threshold} takes {self.count} "
                f"spikes, a patch has {size}"
            )
        self.neuron: Neuron = replace(neuron, threshold=(self.count - 0.5) / size, strict=False)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_map(shape, None)
        return (shape[0], *conv_size(shape, self.kernel_size, self.stride, self.padding))

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons receive each input of a map ``(channels, y, x)``, float32 ``(y, x)``."""
        _, y, x = self.out_shape(shape)
        reached = reach((shape[1], shape[2]), (y, x), self.kernel_size, self.stride, self.padding)
        return reached.to(torch.float32)

    def synapses_for(self, shape: Shape, device: torch.device | None = None) -> Synapses:
        """Return the fixed weights that a sample of `shape` meets: a depthwise convolution, float32."""
        wiring = Convolution(
            in_channels=shape[0],
            out_channels=shape[0],
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            groups=shape[0],
        )
        weight = torch.full(wiring.weight_shape, 1 / math.prod(self.kernel_size), device=device)
        return Synapses(wiring, weight)

    def forward(self, spikes: Spikes) -> Spikes:
        """Return spikes ``(batch, channels, out_y, out_x)`` for spikes ``(batch, channels, y, x)``."""
        shape = tuple(check_spikes(spikes).shape[1:])
        self.out_shape(shape)
        return self.neuron.fire(self.synapses_for(shape, spikes.device), spikes)

    def membrane(self, spikes: Spikes) -> Tensor:
        """Return the share of each patch that has fired at the last step, as `forward` is shaped."""
        fired = (~spikes.silent).to(torch.float32)
        return F.avg_pool2d(fired, self.kernel_size, self.stride, self.padding)

    def read(self, spikes: Spikes) -> tuple[Spikes, Tensor]:
        """Return spikes and membrane together."""
        return self(spikes), self.membrane(spikes)

    def extra_repr(self) -> str:
        """Return the sizes and the neuron, for printing."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"fires with {self.count} of {math.prod(self.kernel_size)} inputs"
            f"{'' if self.source is None else f', source={self.source}'}"
        )


class EarliestPool2d(AvgPool2d):
    """Spikes in, spikes out, through neurons that fire with the first spike of their patch.

    It stands where max pooling would: over spike times the largest value is the earliest time, and unlike
    max pooling over a raster it keeps one spike per neuron. An OR of its inputs, so it has no delay, also
    between windows. The gradient goes to the earliest input.

    Args:
        kernel_size, stride, padding, source: as for `AvgPool2d`.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        source: int | None = None,
    ) -> None:
        rows, columns = pair(kernel_size, "kernel_size", 1)
        share = Causal(threshold=1 / (rows * columns))
        super().__init__(kernel_size, share, stride=stride, padding=padding, source=source)

    def forward(self, spikes: Spikes) -> Spikes:
        """Return the earliest spike ``(batch, channels, out_y, out_x)`` of each patch."""
        self.out_shape(tuple(check_spikes(spikes).shape[1:]))
        return spikes.with_times(-F.max_pool2d(-spikes.times, self.kernel_size, self.stride, self.padding))


def _check_padding(padding: Pair, kernel: Pair) -> None:
    """Raise ValueError for a padding that would leave patches without a single input."""
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding must be at most half the kernel {kernel}, found {padding}")

"""Pooling by integrate-and-fire neurons."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from firstspike.convolution import causal_conv2d
from firstspike.neurons import Causal
from firstspike.nn.geometry import Pair, Shape, check_map, conv_size, pair, reach
from firstspike.spikes import check_num_steps, check_times


class AvgPool2d(torch.nn.Module):
    """Spike times in, spike times out, through neurons that fire when a share of their patch has fired.

    Average pooling of spikes: each of the ``k`` inputs of a patch has the fixed weight ``1 / k``, so the
    membrane is the share of inputs that have fired, and the neuron fires with the spike that brings it to
    the threshold. Its gradient goes to the inputs by the neuron's rule; there are no parameters.

    Args:
        kernel_size: size of a patch, one number or ``(y, x)``.
        num_steps: length of the window in steps.
        neuron: `Causal` with the step synapse, its threshold the share, at most 1.
        stride: from patch to patch, one number or ``(y, x)``; None takes the kernel's size. What is left
            at the lower and right borders is not pooled.

    The field `count` is the number of spikes that it takes. The field `neuron` is the one given with its
    threshold half-way between the shares of one spike fewer and of these, where rounding cannot decide.

    Raises:
        ValueError: another neuron or synapse, a share that no patch can reach, sizes below 1.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        num_steps: int,
        neuron: Causal | None = None,
        *,
        stride: int | Pair | None = None,
    ) -> None:
        super().__init__()
        neuron = Causal(threshold=0.5) if neuron is None else neuron
        if not isinstance(neuron, Causal) or neuron.synapse != "step":
            raise ValueError(f"AvgPool2d takes Causal neurons with the step synapse, found {neuron}")
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", 1)
        self.num_steps = check_num_steps(num_steps)
        size = self.kernel_size[0] * self.kernel_size[1]
        # A share written as a fraction, 3 / 9 for instance, may lie a rounding error above it.
        asked = neuron.threshold * size
        whole = round(asked)
        near = math.isclose(asked, whole, rel_tol=1e-9)
        least = whole if near else math.ceil(asked)
        self.count = least + 1 if neuron.strict and near else least
        if self.count > size:
            raise ValueError(
                f"a share of {'more than ' if neuron.strict else ''}{neuron.threshold} takes {self.count} "
                f"spikes, a patch has {size}"
            )
        self.neuron = replace(neuron, threshold=(self.count - 0.5) / size, strict=False)

    @property
    def out_steps(self) -> int:
        """Length in steps of the window in which this layer fires."""
        return self.num_steps

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_map(shape, None)
        return (shape[0], *conv_size(shape, self.kernel_size, self.stride, (0, 0)))

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons hear each input of a map ``(channels, y, x)``, float32 ``(y, x)``."""
        _, y, x = self.out_shape(shape)
        heard = reach((shape[1], shape[2]), (y, x), self.kernel_size, self.stride, (0, 0))
        return heard.to(torch.float32)

    def weight_for(self, channels: int) -> Tensor:
        """Return the fixed weights of a depthwise convolution, float32 ``(channels, 1, y, x)``."""
        return torch.full((channels, 1, *self.kernel_size), 1 / math.prod(self.kernel_size))

    def forward(self, times: Tensor) -> Tensor:
        """Return spike times ``(batch, channels, out_y, out_x)`` for times ``(batch, channels, y, x)``."""
        self.out_shape(tuple(times.shape[1:]))
        channels = times.shape[1]
        weight = self.weight_for(channels).to(times.device)
        return causal_conv2d(
            times, weight, self.num_steps, self.neuron, stride=self.stride, groups=channels
        )

    def membrane(self, times: Tensor) -> Tensor:
        """Return the share of each patch that has fired at the last step, as `forward` is shaped."""
        fired = (check_times(times, self.num_steps) < self.num_steps).to(torch.float32)
        return torch.nn.functional.avg_pool2d(fired, self.kernel_size, self.stride)

    def read(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return spike times and membrane together."""
        return self(times), self.membrane(times)

    def extra_repr(self) -> str:
        """Return the sizes and the neuron, for printing."""
        size = math.prod(self.kernel_size)
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, num_steps={self.num_steps}, "
            f"fires with {self.count} of {size} inputs"
        )


class EarliestPool2d(AvgPool2d):
    """Spike times in, spike times out, through neurons that fire with the first spike of their patch.

    It stands where max pooling would: over spike times the largest value is the earliest time, and unlike
    max pooling over a raster it keeps one spike per neuron. An OR of its inputs, so it has no delay, also
    between windows. The gradient goes to the earliest input.

    Args:
        kernel_size, num_steps, stride: as for `AvgPool2d`.
    """

    def __init__(
        self, kernel_size: int | Pair, num_steps: int, *, stride: int | Pair | None = None
    ) -> None:
        rows, columns = pair(kernel_size, "kernel_size", 1)
        super().__init__(kernel_size, num_steps, Causal(threshold=1 / (rows * columns)), stride=stride)

    def forward(self, times: Tensor) -> Tensor:
        """Return the earliest time ``(batch, channels, out_y, out_x)`` of each patch."""
        self.out_shape(tuple(times.shape[1:]))
        # A narrow type has no negative numbers, or too few.
        times = check_times(times, self.num_steps).to(torch.float32)
        return -torch.nn.functional.max_pool2d(-times, self.kernel_size, self.stride)

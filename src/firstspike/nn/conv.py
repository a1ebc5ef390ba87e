"""Convolutions of single-spike neurons."""

import torch
from torch import Tensor

from firstspike.convolution import causal_conv2d
from firstspike.functional import window_fire
from firstspike.neurons import Causal, Neuron, Window
from firstspike.nn.geometry import (
    Pair,
    Shape,
    check_channels,
    check_map,
    conv_size,
    pair,
    reach,
    reach_transposed,
    transposed_size,
)
from firstspike.nn.start import check_bias, check_start, with_bias
from firstspike.spikes import check_num_steps, check_times
from firstspike.window_convolution import window_conv2d_membrane, window_conv_transpose2d_membrane


class Conv2d(torch.nn.Module):
    """Spike times in, spike times out, through a convolution over maps ``(channels, y, x)``.

    A causal neuron hears each spike of its patch as it comes; what lies beyond the border is silent.

    Args:
        in_channels, out_channels: numbers of maps.
        kernel_size: size of a neuron's patch, one number or ``(y, x)``.
        num_steps: length of the input window in steps.
        neuron: `Causal` with the step synapse, or `Window`.
        stride, padding: in inputs, one number or ``(y, x)``; padded inputs are silent.
        groups: parts of the channels that do not hear each other.
        bias: learn a bias per map; of causal neurons it is the membrane before the first input, and a
            neuron whose start reaches the threshold fires at step 0.
        constant: the bias of causal neurons is a constant current, added at every step instead.
        generator: source of the initial weights; torch's global one by default.

    Weights ``(out_channels, in_channels / groups, y, x)`` start uniform in ``+- 1/sqrt(fan-in)``, scaled by
    the threshold for causal neurons. They are kept with one contiguous row per input of a patch, because an
    input spike reads rows, if there is one group or one map per group.

    Raises:
        ValueError: the ramp synapse, a phased neuron, sizes below 1, channels
            that do not divide into the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        num_steps: int,
        neuron: Neuron,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = False,
        constant: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels, groups)
        if not (isinstance(neuron, Window) or (isinstance(neuron, Causal) and neuron.synapse == "step")):
            raise ValueError(f"Conv2d takes Window or Causal neurons with the step synapse, found {neuron}")
        check_bias(bias, constant, neuron)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding = pair(stride, "stride", 1), pair(padding, "padding", 0)
        if bias and isinstance(neuron, Causal):
            check_start(self.kernel_size, self.padding, groups)
        self.num_steps = check_num_steps(num_steps)
        self.neuron: Causal | Window = neuron
        self.bias_steps = num_steps if constant else 1
        fan_in = in_channels // groups * self.kernel_size[0] * self.kernel_size[1]
        bound = fan_in**-0.5 * (neuron.threshold if isinstance(neuron, Causal) else 1)
        rows = torch.empty(groups, fan_in, out_channels // groups)
        rows.uniform_(-bound, bound, generator=generator)
        kernels = rows.transpose(1, 2).unflatten(2, (in_channels // groups, *self.kernel_size))
        self.weight = torch.nn.Parameter(kernels.reshape(out_channels, -1, *self.kernel_size))
        self.bias = (
            torch.nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound, generator=generator))
            if bias
            else None
        )

    @property
    def out_steps(self) -> int:
        """Length in steps of the window in which this layer fires."""
        return self.neuron.out_steps_for(self.num_steps)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_map(shape, self.in_channels)
        return (self.out_channels, *conv_size(shape, self.kernel_size, self.stride, self.padding))

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons hear each input of a map ``(channels, y, x)``, float32 ``(y, x)``."""
        _, y, x = self.out_shape(shape)
        heard = reach((shape[1], shape[2]), (y, x), self.kernel_size, self.stride, self.padding)
        return heard.to(torch.float32) * (self.out_channels // self.groups)

    def forward(self, times: Tensor) -> Tensor:
        """Return spike times ``(batch, out_channels, y, x)`` for times ``(batch, in_channels, y, x)``."""
        if isinstance(self.neuron, Window):
            return window_fire(self.membrane(times), self.out_steps, self.neuron)
        weight: Tensor = self.weight
        if self.bias is not None:
            times, weight = with_bias(
                times, weight, self.bias, self.num_steps, self.bias_steps, self.padding
            )
        return causal_conv2d(
            times,
            weight,
            self.num_steps,
            self.neuron,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )

    def membrane(self, times: Tensor) -> Tensor:
        """Return the membrane ``(batch, out_channels, y, x)`` that decides whether and when to fire.

        Window: the potential ``u`` at the end of the inputs. Causal: the membrane at the last step, without
        reset.
        """
        if isinstance(self.neuron, Window):
            return window_conv2d_membrane(
                times,
                self.weight,
                self.bias,
                self.num_steps,
                self.neuron,
                stride=self.stride,
                padding=self.padding,
                groups=self.groups,
            )
        fired = (check_times(times, self.num_steps) < self.num_steps).to(self.weight.dtype)
        bias = None if self.bias is None else self.bias * self.bias_steps
        return torch.nn.functional.conv2d(
            fired, self.weight, bias, stride=self.stride, padding=self.padding, groups=self.groups
        )

    def read(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return spike times and membrane together, each ``(batch, out_channels, y, x)``."""
        membrane = self.membrane(times)
        if isinstance(self.neuron, Window):
            return window_fire(membrane, self.out_steps, self.neuron), membrane
        return self(times), membrane

    def extra_repr(self) -> str:
        """Return the sizes and the neuron, for printing."""
        return _sizes(self)


class ConvTranspose2d(torch.nn.Module):
    """Spike times in, spike times out, through a transposed convolution of window neurons.

    The input at ``i`` reaches the outputs ``i * stride + k - padding``, so a stride enlarges the map.

    Args:
        in_channels, out_channels, kernel_size, num_steps, groups, generator: as for `Conv2d`.
        neuron: `Window`.
        stride: in outputs, one number or ``(y, x)``.
        padding: outputs cut off at each edge, one number or ``(y, x)``.
        bias: learn a bias per map.

    Weights ``(in_channels, out_channels / groups, y, x)`` start uniform in ``+- 1/sqrt(fan-in)`` with the
    mean fan-in, ``in_channels / groups * kernel / stride``, per axis no less than 1.

    Raises:
        ValueError: another neuron, sizes below 1, channels that do not divide into the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        num_steps: int,
        neuron: Window,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels, groups)
        if not isinstance(neuron, Window):
            raise ValueError(f"ConvTranspose2d takes Window neurons, found {neuron}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding = pair(stride, "stride", 1), pair(padding, "padding", 0)
        self.num_steps = check_num_steps(num_steps)
        self.neuron = neuron
        taps = [max(k / s, 1) for k, s in zip(self.kernel_size, self.stride, strict=True)]
        bound = (in_channels / groups * taps[0] * taps[1]) ** -0.5
        weight = torch.empty(in_channels, out_channels // groups, *self.kernel_size)
        self.weight = torch.nn.Parameter(weight.uniform_(-bound, bound, generator=generator))
        self.bias = (
            torch.nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound, generator=generator))
            if bias
            else None
        )

    @property
    def out_steps(self) -> int:
        """Length in steps of the window in which this layer fires."""
        return self.neuron.out_steps_for(self.num_steps)

    def out_shape(self, shape: Shape) -> Shape:
        """Return the shape of a sample's output for inputs of `shape`; ValueError if they do not fit."""
        check_map(shape, self.in_channels)
        return (self.out_channels, *transposed_size(shape, self.kernel_size, self.stride, self.padding))

    def fan_out(self, shape: Shape) -> Tensor:
        """Return how many neurons hear each input of a map ``(channels, y, x)``, float32 ``(y, x)``."""
        _, y, x = self.out_shape(shape)
        heard = reach_transposed((shape[1], shape[2]), (y, x), self.kernel_size, self.stride, self.padding)
        return heard.to(torch.float32) * (self.out_channels // self.groups)

    def forward(self, times: Tensor) -> Tensor:
        """Return spike times ``(batch, out_channels, y, x)`` for times ``(batch, in_channels, y, x)``."""
        return self.read(times)[0]

    def membrane(self, times: Tensor) -> Tensor:
        """Return the potential ``u`` at the end of the inputs, ``(batch, out_channels, y, x)``."""
        return window_conv_transpose2d_membrane(
            times,
            self.weight,
            self.bias,
            self.num_steps,
            self.neuron,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )

    def read(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return spike times and membrane together, each ``(batch, out_channels, y, x)``."""
        membrane = self.membrane(times)
        return window_fire(membrane, self.out_steps, self.neuron), membrane

    def extra_repr(self) -> str:
        """Return the sizes and the neuron, for printing."""
        return _sizes(self)


def _sizes(layer: Conv2d | ConvTranspose2d) -> str:
    return (
        f"{layer.in_channels}, {layer.out_channels}, kernel_size={layer.kernel_size}, "
        f"stride={layer.stride}, padding={layer.padding}, groups={layer.groups}, "
        f"num_steps={layer.num_steps}, {layer.neuron}"
    )

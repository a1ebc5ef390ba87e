"""Rows of one causal convolution, 32 -> 64 channels, 3 x 3, on 14 x 14, against the dense one."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from firstspike.bench.harness import Skipped
from firstspike.bench.network import NEURON, NUM_STEPS
from firstspike.bench.setting import CONV_SHAPE, Measured, Setting, convolution

_BATCHES = 8
_NOTE = f"batch {CONV_SHAPE[0]}, 30 % of the inputs active, T = {NUM_STEPS}"


def conv_forward(setting: Setting) -> Measured:
    """Forward of the layer, both without gradients."""
    layer, dense = conv_layer(), _dense()
    ours, theirs = itertools.cycle(_spikes()), itertools.cycle(_values())
    with torch.no_grad():
        pairs = setting.compare(lambda: layer(next(ours)), lambda: dense(next(theirs)))
    return Measured(pairs.scaled(1e3), _NOTE)


def conv_train(setting: Setting) -> Measured:
    """Forward and backward, to weights and inputs."""
    dense = _dense()
    values = itertools.cycle(_values())
    pairs = setting.compare(conv_step(), _backward(dense, values, torch.ones(_out_shape())))
    return Measured(pairs.scaled(1e3), f"{_NOTE}; gradients of weights and inputs")


def conv_step(batch: int = CONV_SHAPE[0]) -> Callable[[], None]:
    """Return forward and backward of our layer, to weights and inputs, with `batch` images or fewer."""
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(_out_shape(), generator=generator)[:batch]
    times = [part.detach()[:batch].clone().requires_grad_() for part in _spikes()]
    return _backward(conv_layer(), itertools.cycle(times), gradient)


def conv_layer() -> Callable[[Tensor], Tensor]:
    """Return our convolution as a function of spike times, with a ``weight``.

    Raises:
        Skipped: this version has none.
    """
    try:
        from firstspike.convolution import causal_conv2d
    except ImportError:
        raise Skipped("this version of firstspike has no causal convolution") from None
    return _CausalConv(causal_conv2d)


class _CausalConv(torch.nn.Module):
    def __init__(self, operation: Callable[..., Tensor]) -> None:
        super().__init__()
        self.operation = operation
        self.weight = torch.nn.Parameter(convolution()[1])

    def forward(self, times: Tensor) -> Tensor:
        return self.operation(times, self.weight, NUM_STEPS, NEURON, padding=1)


def _dense() -> torch.nn.Module:
    _, weight = convolution()
    return torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)


def _backward(
    layer: Callable[[Tensor], Tensor], inputs: "itertools.cycle[Tensor]", gradient: Tensor
) -> Callable[[], None]:
    def step() -> None:
        values = next(inputs)
        values.grad = None
        layer(values).backward(gradient)

    return step


def _spikes() -> list[Tensor]:
    times, _ = convolution(_BATCHES)
    return [part.clone().requires_grad_() for part in times.split(CONV_SHAPE[0])]


def _values() -> list[Tensor]:
    return [(1 - times.detach() / NUM_STEPS).requires_grad_() for times in _spikes()]


def _out_shape() -> tuple[int, ...]:
    return (CONV_SHAPE[0], convolution()[1].shape[0], *CONV_SHAPE[2:])

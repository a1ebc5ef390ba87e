"""Rows of one causal convolution, 32 -> 64 channels, 3 x 3, on 14 x 14, against the dense one."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from firstspike.bench.network import NEURON, STEPS
from firstspike.bench.setting import CONV_SHAPE, Measured, Setting, convolution
from firstspike.nn import Conv2d
from firstspike.spikes import Spikes

_BATCHES = 8
_NOTE = f"batch {CONV_SHAPE[0]}, 30 % of the inputs active, T = {STEPS}"


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
    times = [part.times.detach()[:batch].clone().requires_grad_() for part in _spikes()]
    layer = conv_layer()
    return _backward(
        lambda given: layer(Spikes.trusted(given, STEPS)).times, itertools.cycle(times), gradient
    )


def conv_layer() -> Conv2d:
    """Return our convolution with the comparison's weights."""
    _, weight = convolution()
    layer = Conv2d(weight.shape[1], weight.shape[0], 3, NEURON, padding=1)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


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


def _spikes() -> list[Spikes]:
    return list(convolution(_BATCHES)[0].split(CONV_SHAPE[0]))


def _values() -> list[Tensor]:
    return [spikes.values.requires_grad_() for spikes in _spikes()]


def _out_shape() -> tuple[int, ...]:
    return (CONV_SHAPE[0], convolution()[1].shape[0], *CONV_SHAPE[2:])

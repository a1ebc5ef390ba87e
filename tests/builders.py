"""Layers with given weights, drawn spikes, and how an error is looked at: for the tests of the core."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from firstspike.neurons import Neuron
from firstspike.nn import Conv2d, ConvTranspose2d, Layer, Linear
from firstspike.spikes import Spikes


@contextmanager
def refused(error: type[Exception], *words: str) -> Iterator[None]:
    """Expect an error of that very type, in one line, in which all `words` occur."""
    with pytest.raises(error) as caught:
        yield
    text = str(caught.value)
    assert caught.type is error
    assert "\n" not in text
    for word in words:
        assert word in text, text


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_spikes(*shape: int, steps: int = 16, seed: int = 0) -> Spikes:
    return Spikes(torch.randint(0, steps + 1, shape, generator=seeded(seed)), steps)


def with_weights(layer: Layer, weight: Tensor, bias: Tensor | None) -> Any:
    """Give a layer weights, of any precision and memory layout, and a bias."""
    assert layer.weight.shape == weight.shape
    layer.weight = torch.nn.Parameter(weight.detach())
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.detach())
    return layer


def dense(weight: Any, neuron: Neuron, bias: Any = None) -> Linear:
    """Return a layer with the weights ``(out, in)``."""
    weight, bias = torch.as_tensor(weight), None if bias is None else torch.as_tensor(bias)
    layer = Linear(weight.shape[1], weight.shape[0], neuron, bias=bias is not None)
    return with_weights(layer, weight, bias)


def conv(weight: Any, neuron: Neuron, bias: Any = None, groups: int = 1, **how: Any) -> Conv2d:
    """Return a convolution with the weights ``(out_channels, in_channels / groups, y, x)``."""
    weight = torch.as_tensor(weight)
    outputs, inputs, *kernel = weight.shape
    layer = Conv2d(inputs * groups, outputs, kernel, neuron, groups=groups, bias=bias is not None, **how)
    return with_weights(layer, weight, bias)


def transposed(
    weight: Any, neuron: Neuron, bias: Any = None, groups: int = 1, **how: Any
) -> ConvTranspose2d:
    """Return a transposed convolution with the weights ``(in_channels, out_channels / groups, y, x)``."""
    weight = torch.as_tensor(weight)
    inputs, outputs, *kernel = weight.shape
    layer = ConvTranspose2d(
        inputs, outputs * groups, kernel, neuron, groups=groups, bias=bias is not None, **how
    )
    return with_weights(layer, weight, bias)


def fires(layer: Layer, times: Any, steps: int) -> Tensor:
    """Return the times of a layer for times of its inputs."""
    return layer(Spikes(times, steps)).times

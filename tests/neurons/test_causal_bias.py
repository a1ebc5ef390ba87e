"""Causal layers with a bias, a start membrane or a constant current, against a walk through the steps."""

from collections.abc import Callable

import pytest
import torch
from builders import refused
from torch import Tensor
from torch.nn import functional as F

from firstspike import Causal, Conv2d, Linear, Spikes, Stack
from firstspike.engine import Engine
from firstspike.neurons.causal import Bias

T = 6


def simulated(drive: Callable[[int], Tensor]) -> Tensor:
    """First step at which ``drive(t)`` reaches 1."""
    times = torch.full_like(drive(0), T)
    for step in reversed(range(T)):
        times[drive(step) >= 1] = step
    return times


def layers(seed: int, bias: Bias = "start") -> tuple[Conv2d, Linear]:
    """Return layers whose weights and biases are multiples of 1/16, whose sums are exact in any order."""
    torch.manual_seed(seed)
    conv = Conv2d(2, 5, 3, Causal(bias=bias), stride=2, padding=1, bias=True)
    linear = Linear(5 * 4 * 3, 7, Causal(bias=bias), bias=True)
    with torch.no_grad():
        for layer in (conv, linear):
            assert layer.bias is not None
            for parameter in (layer.weight, layer.bias):
                parameter.copy_(torch.round(parameter * 32) / 16)
            layer.bias += torch.linspace(-1, 1.25, len(layer.bias)).mul(16).round() / 16
    return conv, linear


def maps() -> Spikes:
    return Spikes(torch.randint(0, T + 1, (9, 2, 8, 6)), T)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bias", ["start", "current"])
def test_the_bias_is_there_before_the_first_input_or_added_at_every_step(seed: int, bias: Bias) -> None:
    conv, linear = layers(seed, bias)
    spikes = maps()

    def fired(spikes: Spikes, t: int) -> Tensor:
        return (spikes.times <= t).float()

    def times_bias(t: int) -> int:
        return t + 1 if bias == "current" else 1

    hidden = conv(spikes)
    expected = simulated(
        lambda t: F.conv2d(
            fired(spikes, t), conv.weight, conv.bias * times_bias(t), stride=2, padding=1
        ).detach()
    )
    assert torch.equal(hidden.times, expected)
    assert torch.equal(conv.simulate(spikes).times, expected)
    assert hidden.silent.any()
    flat = hidden.detach().flatten()
    expected = simulated(
        lambda t: F.linear(fired(flat, t), linear.weight, linear.bias * times_bias(t)).detach()
    )
    assert torch.equal(linear(flat).times, expected)
    assert torch.equal(linear.simulate(flat).times, expected)
    last = F.linear(fired(flat, T - 1), linear.weight, linear.bias * times_bias(T - 1))
    assert torch.equal(linear.membrane(flat), last)


@pytest.mark.parametrize("seed", range(3))
def test_the_engine_starts_from_it_too(seed: int) -> None:
    stack = Stack(*layers(seed), steps=T)
    engine, spikes = Engine(stack, (2, 8, 6)), maps()
    spikes.times[0] = T
    traced = stack.trace(spikes)
    assert (traced[1].times == 0).any()
    decisions = engine.run_many(spikes, early_exit=False)
    assert torch.equal(decisions.output_times, traced[-1].times.detach())
    counts = torch.stack([(~layer.silent).flatten(1).sum(1) for layer in traced], 1)
    assert torch.equal(decisions.spikes, counts)
    assert torch.equal(decisions.steps.float(), traced[-1].first())
    early = engine.run_many(spikes)
    assert torch.equal(early.steps, decisions.steps)
    assert torch.equal(early.labels, decisions.labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float64])
def test_a_narrow_type_of_the_times_cannot_shorten_the_clock(dtype: torch.dtype) -> None:
    layer = Linear(4, 3, Causal(bias="current"), bias=True)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(2.0**-11)
    times = torch.tensor([[1, 2, 3, 4]]).to(dtype)
    # 2048 additions of 2^-11 make 1, exactly.
    assert layer(Spikes(times, 3000)).times.tolist() == [[2047.0] * 3]


def test_gradients_reach_the_bias() -> None:
    conv, linear = layers(0)
    spikes = maps()
    linear(conv(spikes)).times.sum().backward()
    # The published rule: dt/dw is -1 for an input before the spike, and this one comes before all.
    assert linear.bias is not None
    assert conv.bias is not None
    assert torch.equal(linear.bias.grad, -torch.full((7,), 9.0))
    assert conv.bias.grad is not None
    assert conv.bias.grad.ne(0).any()


@pytest.mark.parametrize(("kernel", "options"), [(3, {"groups": 2}), (2, {"padding": 1})])
def test_what_a_causal_convolution_with_a_bias_cannot_be(kernel: int, options: dict[str, int]) -> None:
    layer = Conv2d(2, 4, kernel, Causal(), bias=True, **options)  # type: ignore[arg-type]
    with refused(ValueError, "one group", "padding below half the kernel"):
        layer(maps())

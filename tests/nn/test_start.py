"""Causal layers with a start membrane, against a walk through the steps."""

import pytest
import torch
from torch.nn import functional as F

from firstspike import Causal, Conv2d, Linear, Stack
from firstspike.engine import Engine

T = 6


def simulated(drive, num_steps=T):
    """First step at which ``drive(t)`` reaches 1."""
    times = torch.full_like(drive(0), num_steps)
    for step in reversed(range(num_steps)):
        times[drive(step) >= 1] = step
    return times


def on_grid(tensor):
    """Multiples of 1/16, whose sums are exact in any order."""
    tensor.data = torch.round(tensor.data * 32) / 16
    return tensor


def layers(seed):
    torch.manual_seed(seed)
    conv = Conv2d(2, 5, 3, T, Causal(), stride=2, padding=1, bias=True)
    linear = Linear(5 * 4 * 3, 7, T, Causal(), bias=True)
    for layer in (conv, linear):
        on_grid(layer.weight)
        on_grid(layer.bias).data += torch.linspace(-1, 1.25, len(layer.bias)).mul(16).round() / 16
    return conv, linear


@pytest.mark.parametrize("seed", range(3))
def test_layers_start_from_their_bias(seed):
    conv, linear = layers(seed)
    maps = torch.randint(0, T + 1, (9, 2, 8, 6)).to(torch.float32)
    flags = lambda times, t: (times <= t).to(torch.float32)  # noqa: E731
    expected = simulated(lambda t: F.conv2d(flags(maps, t), conv.weight, conv.bias, stride=2, padding=1))
    hidden = conv(maps)
    assert torch.equal(hidden, expected)
    assert (hidden == 0).any()
    assert (hidden == T).any()
    flat = hidden.detach().flatten(1)
    assert torch.equal(
        linear(flat), simulated(lambda t: F.linear(flags(flat, t), linear.weight, linear.bias))
    )
    fired = (flat < T).to(torch.float32)
    assert torch.equal(linear.membrane(flat), F.linear(fired, linear.weight, linear.bias))


@pytest.mark.parametrize("seed", range(3))
def test_the_engine_starts_from_it_too(seed):
    conv, linear = layers(seed)
    stack = Stack([conv, linear])
    engine = Engine(stack, (2, 8, 6))
    maps = torch.randint(0, T + 1, (9, 2, 8, 6)).to(torch.float32)
    maps[0] = T
    traced = stack.trace(maps)
    decisions = engine.run_many(maps, early_exit=False)
    assert torch.equal(decisions.output_times, traced[-1].detach())
    counts = torch.stack([(times < T).flatten(1).sum(1) for times in traced], 1)
    assert torch.equal(decisions.spikes, counts)
    assert torch.equal(decisions.steps.to(torch.float32), traced[-1].min(1).values)
    early = engine.run_many(maps)
    assert torch.equal(early.steps, decisions.steps)
    assert torch.equal(early.labels, decisions.labels)


def test_a_constant_current_is_added_at_every_step():
    conv, linear = layers(1)
    for layer in (conv, linear):
        layer.bias_steps = T
    maps = torch.randint(0, T + 1, (9, 2, 8, 6)).to(torch.float32)
    flags = lambda times, t: (times <= t).to(torch.float32)  # noqa: E731
    hidden = conv(maps)
    expected = simulated(
        lambda t: F.conv2d(flags(maps, t), conv.weight, conv.bias * (t + 1), stride=2, padding=1)
    )
    assert torch.equal(hidden, expected)
    flat = hidden.detach().flatten(1)
    expected = simulated(lambda t: F.linear(flags(flat, t), linear.weight, linear.bias * (t + 1)))
    assert torch.equal(linear(flat), expected)
    with pytest.raises(ValueError, match="layer 0 has a constant current"):
        Engine(Stack([conv, linear]), (2, 8, 6))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float64])
def test_a_narrow_type_of_the_times_cannot_shorten_the_clock(dtype):
    num_steps = 3000
    layer = Linear(4, 3, num_steps, Causal(), bias=True, constant=True)
    layer.weight.data.zero_()
    layer.bias.data.fill_(2.0**-11)
    times = torch.tensor([[1, 2, 3, 4]])
    # 2048 additions of 2^-11 make 1, exactly.
    assert layer(times.to(dtype)).tolist() == [[2047.0] * 3]


def test_gradients_reach_the_bias():
    conv, linear = layers(0)
    maps = torch.randint(0, T + 1, (9, 2, 8, 6)).to(torch.float32)
    linear(conv(maps).flatten(1)).sum().backward()
    # The published rule: dt/dw is -1 for an input before the spike, and this one comes before all.
    heard = conv(maps).flatten(1)
    assert torch.equal(linear.bias.grad, -torch.full((7,), float(len(heard))))
    assert conv.bias.grad.ne(0).any()


def test_what_a_start_cannot_be():
    with pytest.raises(ValueError, match="one group and a padding below half the kernel"):
        Conv2d(2, 4, 3, T, Causal(), groups=2, bias=True)
    with pytest.raises(ValueError, match="one group and a padding below half the kernel"):
        Conv2d(2, 4, 2, T, Causal(), padding=1, bias=True)
    conv, linear = layers(0)
    linear.bias.data[3] = float("nan")
    with pytest.raises(ValueError, match="the bias of layer 1 holds NaN"):
        Engine(Stack([conv, linear]), (2, 8, 6))

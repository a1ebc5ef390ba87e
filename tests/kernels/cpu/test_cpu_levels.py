"""Fired flags at levels: times of the plain layer, and the gradient of a dense autograd form."""

import pytest
import torch
from spike_cases import dense_flags

from firstspike.functional import causal_levels, causal_linear
from firstspike.neurons import Causal
from firstspike.rules import RunningMaxRule

NUM_STEPS = 12
LEVELS = (0, 2, 3, 7, 11)


def flags_of(times):
    return (times.unsqueeze(1) <= torch.tensor(LEVELS, dtype=times.dtype).reshape(1, -1, 1)).to(times.dtype)


@pytest.fixture
def layer():
    source = torch.Generator().manual_seed(3)
    times = torch.randint(0, NUM_STEPS + 1, (9, 17), generator=source).float()
    weight = torch.rand(8, 17, generator=source) * 1.1 - 0.35
    threshold = torch.full((9, 8), 1.0)
    return times, weight, threshold


def test_times_are_those_of_the_plain_layer(layer):
    times, weight, threshold = layer
    flags, out = causal_levels(None, times, weight, threshold, NUM_STEPS, RunningMaxRule(levels=LEVELS))
    assert torch.equal(out, causal_linear(times, weight, NUM_STEPS, Causal()))
    assert torch.equal(flags, flags_of(out))
    assert 0 < flags.mean() < 1


def test_thresholds_may_differ_per_sample(layer):
    times, weight, threshold = layer
    threshold = threshold.clone()
    threshold[::2] = 1e9
    _, out = causal_levels(None, times, weight, threshold, NUM_STEPS, RunningMaxRule(levels=LEVELS))
    assert (out[::2] == NUM_STEPS).all()
    assert (out[1::2] < NUM_STEPS).any()


def test_gradient_equals_the_dense_form_through_two_layers(layer):
    times, first, threshold = layer
    # Every step is a level, so that no membrane can peak between two of them.
    levels = tuple(range(NUM_STEPS))
    source = torch.Generator().manual_seed(4)
    second = torch.rand(5, 8, generator=source) * 1.1 - 0.35
    weights = torch.rand(9, NUM_STEPS, 5, generator=source)
    rules = [RunningMaxRule(levels=levels, width=0.5), RunningMaxRule(levels=levels, width=1.5)]
    top = torch.full((9, 5), 0.5)

    ours = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    flags, hidden = causal_levels(None, times, ours[0], threshold, NUM_STEPS, rules[0])
    flags, _ = causal_levels(flags, hidden, ours[1], top, NUM_STEPS, rules[1])
    (flags * weights).sum().backward()

    dense = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    steps = torch.arange(NUM_STEPS, dtype=torch.float32).reshape(1, -1, 1)
    seen = (times.unsqueeze(1) <= steps).float()
    hidden_flags = dense_flags(seen, dense[0], threshold, 0.5)
    out_flags = dense_flags(hidden_flags, dense[1], top, 1.5)
    (out_flags * weights).sum().backward()

    assert torch.equal(flags, out_flags)
    for mine, theirs in zip(ours, dense, strict=True):
        assert theirs.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_empty_batch_and_bad_levels(layer):
    _, weight, _ = layer
    rule = RunningMaxRule(levels=LEVELS)
    flags, out = causal_levels(None, torch.empty(0, 17), weight, torch.empty(0, 8), NUM_STEPS, rule)
    assert flags.shape == (0, len(LEVELS), 8)
    assert out.shape == (0, 8)
    with pytest.raises(ValueError, match="below num_steps = 8"):
        causal_levels(None, torch.empty(0, 17), weight, torch.empty(0, 8), 8, rule)
    with pytest.raises(ValueError, match="ascending"):
        RunningMaxRule(levels=(3, 3))
    with pytest.raises(ValueError, match="above 0"):
        RunningMaxRule(width=0)

"""The gradient of `causal_levels` when levels are few, against loops that say the rule step by step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spike_cases import Case, cases, naive_times
from torch import Tensor

from firstspike.functional import causal_levels
from firstspike.neurons import Causal
from firstspike.rules import RunningMaxRule

T = 16


@st.composite
def rules(draw: st.DrawFn, num_steps: int) -> RunningMaxRule:
    levels = draw(st.sets(st.integers(0, num_steps - 1), min_size=1, max_size=5))
    return RunningMaxRule(levels=tuple(sorted(levels)), width=draw(st.sampled_from([0.25, 1.0, 8.0])))


def naive_gradients(
    times: Tensor, weight: Tensor, threshold: Tensor, rule: RunningMaxRule, grad_flags: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dL/dw`` and ``dL/dF_in`` by nested loops.

    The flag of a level has the slope ``1 / (1 + |M - theta| / width)^2`` in the largest membrane seen
    at the levels so far, and that membrane is a sum over inputs at or before the level it was seen at.
    """
    grad_weight = np.zeros(weight.shape)
    grad_in = np.zeros((times.shape[0], len(rule.levels), weight.shape[1]))
    for b in range(times.shape[0]):
        t_in = times[b].tolist()
        for j, row in enumerate(weight.tolist()):
            best, best_at = -np.inf, 0
            for k, level in enumerate(rule.levels):
                membrane = sum(w for w, t in zip(row, t_in, strict=True) if t <= level)
                if membrane > best:
                    best, best_at = membrane, k
                distance = abs(best - float(threshold[b, j])) / rule.width
                slope = grad_flags[b, k, j] / (1 + distance) ** 2
                for i, t in enumerate(t_in):
                    grad_in[b, best_at, i] += slope * row[i]
                    if t <= rule.levels[best_at]:
                        grad_weight[j, i] += slope
    return grad_weight, grad_in


@settings(deadline=None, max_examples=50)
@given(case=cases(), data=st.data())
def test_times_see_every_step_and_flags_their_levels(case: Case, data: st.DataObject) -> None:
    rule = data.draw(rules(case.num_steps))
    times, weight = case.times.to(torch.float32), case.weight.to(torch.float32)
    threshold = torch.full((len(times), len(weight)), case.threshold)
    flags, found = causal_levels(None, times, weight, threshold, case.num_steps, rule)
    neuron = Causal(threshold=case.threshold)
    assert torch.equal(found, naive_times(times, weight, case.num_steps, neuron))
    assert flags.shape == (len(times), len(rule.levels), len(weight))
    for k, level in enumerate(rule.levels):
        assert torch.equal(flags[:, k], (found <= level).to(torch.float32))


@settings(deadline=None, max_examples=50)
@given(case=cases(), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_naive_loops(case: Case, data: st.DataObject, seed: int) -> None:
    rule = data.draw(rules(case.num_steps))
    rng = np.random.default_rng(seed)
    # The width is in units of the membrane: bring the drawn weights to the scale of 1.
    times = case.times.to(torch.float32)
    weight = (case.weight.to(torch.float64) / case.threshold).to(torch.float32).requires_grad_()
    threshold = torch.from_numpy(rng.integers(1, 33, (len(times), len(weight))) / 16).to(torch.float32)
    levels = torch.tensor(rule.levels).reshape(1, -1, 1)
    flags_in = (times.unsqueeze(1) <= levels).to(torch.float32).requires_grad_()
    flags, _ = causal_levels(flags_in, times, weight, threshold, case.num_steps, rule)
    delta = rng.integers(-8, 9, tuple(flags.shape)) / 8
    grads = torch.autograd.grad(flags, (weight, flags_in), torch.from_numpy(delta).to(flags))
    # The oracle reads the rounded weights; a maximum that ties in rounding is the same in both.
    expected = naive_gradients(times, weight.detach(), threshold, rule, delta)
    for found, wanted in zip(grads, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-3, atol=1e-3)


def test_the_gradient_by_hand() -> None:
    # V at the levels 0, 2, 4: 1, 0.5, 2. The largest so far: 1, 1, 2, first seen at 0, 0, 4.
    times = torch.tensor([[0.0, 1.0, 3.0, T]])
    weight = torch.tensor([[1.0, -0.5, 1.5, 9.0]], requires_grad=True)
    rule = RunningMaxRule(levels=(0, 2, 4), width=0.5)
    flags, found = causal_levels(None, times, weight, torch.tensor([[1.5]]), T, rule)
    assert found.item() == 3
    assert flags.flatten().tolist() == [0, 0, 1]
    (grad,) = torch.autograd.grad(flags, weight, torch.tensor([[[1.0], [10.0], [100.0]]]))
    # Each maximum is 0.5 from threshold, one width: slope 1 / (1 + 1)^2.
    assert grad.tolist() == [[111 / 4, 100 / 4, 100 / 4, 0]]


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3)])
def test_a_threshold_per_sample_and_neuron_is_needed(shape: tuple[int, ...]) -> None:
    rule = RunningMaxRule(levels=(0, 3))
    with pytest.raises(ValueError, match=r"expected threshold \(batch, out_features\) = \(2, 4\)"):
        causal_levels(None, torch.zeros(2, 3), torch.ones(4, 3), torch.ones(shape), T, rule)

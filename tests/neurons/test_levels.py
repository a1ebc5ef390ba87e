"""Cumulative spikes at levels: times of the causal neuron, gradients of loops and of a dense form."""

from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.spike_cases import Case, cases
from oracles import dense_form, naive_times
from torch import Tensor

from firstspike import Causal, Spikes
from firstspike.neurons.levels import RunningMax, fire_at_levels

T = 16


@st.composite
def rules(draw: st.DrawFn, steps: int) -> RunningMax:
    levels = draw(st.sets(st.integers(0, steps - 1), min_size=1, max_size=5))
    return RunningMax(levels=tuple(sorted(levels)), width=draw(st.sampled_from([0.25, 1.0, 8.0])))


def naive_gradients(
    times: Tensor, weight: Tensor, threshold: Tensor, rule: RunningMax, grad_cumulative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``dL/dw`` and ``dL/dF_in`` by nested loops.

    The cumulative spike of a level has the slope ``1 / (1 + |M - theta| / width)^2`` in the largest
    membrane seen at the levels so far, a sum over inputs at or before the level that it was seen at.
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
                slope = grad_cumulative[b, k, j] / (1 + distance) ** 2
                for i, t in enumerate(t_in):
                    grad_in[b, best_at, i] += slope * row[i]
                    if t <= rule.levels[best_at]:
                        grad_weight[j, i] += slope
    return grad_weight, grad_in


@settings(deadline=None, max_examples=50)
@given(case=cases(), data=st.data())
def test_times_see_every_step_and_cumulative_spikes_their_levels(case: Case, data: st.DataObject) -> None:
    rule = data.draw(rules(case.num_steps))
    times, weight = case.times.to(torch.float32), case.weight.to(torch.float32)
    threshold = torch.full((len(times), len(weight)), case.threshold)
    cumulative, out = fire_at_levels(None, Spikes(times, case.num_steps), weight, threshold, rule)
    neuron = Causal(threshold=case.threshold)
    assert torch.equal(out.times, naive_times(times, weight, case.num_steps, neuron))
    assert cumulative.shape == (len(times), len(rule.levels), len(weight))
    for k, level in enumerate(rule.levels):
        assert torch.equal(cumulative[:, k], (out.times <= level).to(torch.float32))


@settings(deadline=None, max_examples=50)
@given(case=cases(), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_naive_loops(case: Case, data: st.DataObject, seed: int) -> None:
    rule = data.draw(rules(case.num_steps))
    rng = np.random.default_rng(seed)
    # The width is in units of the membrane: bring the drawn weights to the scale of 1, and to a grid on
    # which sums are exact in any order, so that membranes tie in both or in neither.
    times = case.times.to(torch.float32)
    weight = (torch.round(case.weight.to(torch.float64) / case.threshold * 256) / 256).to(torch.float32)
    weight.requires_grad_()
    threshold = torch.from_numpy(rng.integers(1, 33, (len(times), len(weight))) / 16).to(torch.float32)
    levels = torch.tensor(rule.levels).reshape(1, -1, 1)
    before = (times.unsqueeze(1) <= levels).to(torch.float32).requires_grad_()
    cumulative, _ = fire_at_levels(before, Spikes(times, case.num_steps), weight, threshold, rule)
    delta = rng.integers(-8, 9, tuple(cumulative.shape)) / 8
    grads = torch.autograd.grad(cumulative, (weight, before), torch.from_numpy(delta).to(cumulative))
    expected = naive_gradients(times, weight.detach(), threshold, rule, delta)
    for found, wanted in zip(grads, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-3, atol=1e-3)


def test_the_gradient_by_hand() -> None:
    # V at the levels 0, 2, 4: 1, 0.5, 2. The largest so far: 1, 1, 2, first seen at 0, 0, 4.
    spikes = Spikes([[0, 1, 3, T]], T)
    weight = torch.tensor([[1.0, -0.5, 1.5, 9.0]], requires_grad=True)
    rule = RunningMax(levels=(0, 2, 4), width=0.5)
    cumulative, out = fire_at_levels(None, spikes, weight, torch.tensor([[1.5]]), rule)
    assert out.times.item() == 3
    assert cumulative.flatten().tolist() == [0, 0, 1]
    (grad,) = torch.autograd.grad(cumulative, weight, torch.tensor([[[1.0], [10.0], [100.0]]]))
    # Each maximum is 0.5 from threshold, one width: slope 1 / (1 + 1)^2.
    assert grad.tolist() == [[111 / 4, 100 / 4, 100 / 4, 0]]


def layer() -> tuple[Spikes, Tensor, Tensor]:
    source = seeded(3)
    spikes = Spikes(torch.randint(0, 13, (9, 17), generator=source), 12)
    return spikes, torch.rand(8, 17, generator=source) * 1.1 - 0.35, torch.ones(9, 8)


def test_thresholds_may_differ_per_sample() -> None:
    spikes, weight, threshold = layer()
    rule = RunningMax(levels=(0, 2, 3, 7, 11))
    threshold[::2] = 1e9
    _, out = fire_at_levels(None, spikes, weight, threshold, rule)
    assert out.silent[::2].all()
    assert torch.equal(out.times[1::2], dense(weight, Causal())(spikes).times[1::2])


def test_a_current_gives_the_causal_neurons_times_and_the_gradient_of_its_steps() -> None:
    spikes, weight, threshold = layer()
    current = torch.rand(8, generator=seeded(6)) * 0.2 - 0.05
    levels = (1, 4, 5, 9, 11)
    rule = RunningMax(levels=levels)
    before = torch.rand(9, 5, 17, generator=seeded(7))
    upstream = torch.rand(9, 5, 8, generator=seeded(8))
    mine = [tensor.clone().requires_grad_() for tensor in (before, weight, current)]
    cumulative, out = fire_at_levels(mine[0], spikes, mine[1], threshold, rule, mine[2])
    neuron = dense(weight, Causal(bias="current"), bias=current)
    assert torch.equal(out.times, neuron(spikes).times)

    # Twelve further inputs, one a step, each of the current's weight.
    times = torch.cat([spikes.times, torch.arange(12.0).expand(9, -1)], 1)
    joined = torch.cat([weight, current.unsqueeze(1).expand(-1, 12)], 1)
    grad_weight, grad_in = naive_gradients(times, joined, threshold, rule, upstream.numpy())
    found = torch.autograd.grad(cumulative, mine, upstream)
    expected = (grad_in[..., :17], grad_weight[:, :17], grad_weight[:, 17:].sum(1))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_the_dense_form_through_two_layers() -> None:
    spikes, first, threshold = layer()
    # Every step is a level, so that no membrane can peak between two of them.
    levels = tuple(range(12))
    second = torch.rand(5, 8, generator=seeded(4)) * 1.1 - 0.35
    weights = torch.rand(9, 12, 5, generator=seeded(5))
    top = torch.full((9, 5), 0.5)

    ours = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    cumulative, hidden = fire_at_levels(
        None, spikes, ours[0], threshold, RunningMax(levels=levels, width=0.5)
    )
    cumulative, _ = fire_at_levels(cumulative, hidden, ours[1], top, RunningMax(levels=levels, width=1.5))
    (cumulative * weights).sum().backward()

    theirs = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    seen = (spikes.times.unsqueeze(1) <= torch.arange(12).reshape(1, -1, 1)).float()
    out = dense_form(dense_form(seen, theirs[0], threshold, 0.5), theirs[1], top, 1.5)
    (out * weights).sum().backward()

    assert torch.equal(cumulative, out)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.grad is not None
        assert other.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_an_empty_batch() -> None:
    _, weight, _ = layer()
    rule = RunningMax(levels=(0, 2))
    cumulative, out = fire_at_levels(None, Spikes(torch.empty(0, 17), 12), weight, torch.empty(0, 8), rule)
    assert (cumulative.shape, out.shape) == ((0, 2, 8), (0, 8))


# What is refused


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        *[
            ({"threshold": torch.ones(s)}, ValueError, ("(2, 4)", str(tuple(s))))
            for s in ([1, 4], [4], [2, 3])
        ],
        ({"spikes": Spikes(torch.zeros(2, 5), T)}, ValueError, ("(2, 3)", "(2, 5)")),
        ({"spikes": Spikes(torch.zeros(2, 3), 8)}, ValueError, ("levels", "8", "9")),
        ({"weight": torch.ones(4, 3).double()}, TypeError, ("weight", "float32", "float64")),
        ({"threshold": torch.ones(2, 4).double()}, TypeError, ("threshold", "float32", "float64")),
        ({"weight": torch.full((4, 3), np.nan)}, ValueError, ("weights", "NaN")),
        ({"spikes": Spikes.trusted(torch.full((2, 3), np.nan), T)}, ValueError, ("times", "NaN")),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], error: type[Exception], words: tuple[str, ...]) -> None:
    given = {
        "spikes": Spikes(torch.zeros(2, 3), T),
        "weight": torch.ones(4, 3),
        "threshold": torch.ones(2, 4),
    }
    with refused(error, *words):
        fire_at_levels(None, **(given | changes), rule=RunningMax(levels=(0, 9)))  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [(), (-1, 2), (3, 3), (5, 2), (0, 2.5), (True, 2)])
def test_levels_are_ascending_time_steps(levels: Any) -> None:
    with refused(ValueError, "RunningMax.levels"):
        RunningMax(levels=levels)
    assert RunningMax(levels=[1, np.int64(4)]).levels == (1, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0.0, -1.0, np.nan, np.inf])
def test_the_width_is_above_zero(width: float) -> None:
    with refused(ValueError, "RunningMax.width", "above 0"):
        RunningMax(width=width)

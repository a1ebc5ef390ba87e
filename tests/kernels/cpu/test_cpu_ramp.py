import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spike_cases import Case, cases, draw_times, draw_weight, naive_raster, naive_times

from firstspike.functional import causal_linear
from firstspike.kernels.cpu import ramp
from firstspike.kernels.reference import simulate_causal
from firstspike.neurons import Causal
from firstspike.rules import ExactRule
from firstspike.spikes import raster_to_times


def closed_form_crossing(
    times_I: np.ndarray, weight_I: np.ndarray, threshold: float, num_steps: int
) -> tuple[float, float]:
    """Return the first crossing ``(theta + sum w t_i) / A`` and its slope ``A``; ``(T, 0)`` if none.

    One neuron, one sample: the line of the first k inputs counts up to the arrival of the next.
    """
    order = np.argsort(times_I, kind="stable")
    order = order[times_I[order] < num_steps]
    for k in range(1, len(order) + 1):
        early = order[:k]
        until = times_I[order[k]] if k < len(order) else num_steps - 1
        slope = weight_I[early].sum()
        if slope > 0:
            crossing = (threshold + (weight_I[early] * times_I[early]).sum()) / slope
            if crossing <= min(until, num_steps - 1):
                return float(crossing), float(slope)
    return float(num_steps), 0.0


# Spike times


@settings(deadline=None, max_examples=120)
@given(case=cases(), strict=st.booleans(), delay=st.sampled_from([0, 1, 5]))
def test_times_are_the_simulators_and_the_naive_ones(case: Case, strict: bool, delay: int) -> None:
    neuron = Causal(threshold=case.threshold, synapse="ramp", strict=strict, delay=delay)
    times = causal_linear(case.times, case.weight, case.num_steps, neuron)
    assert times.dtype == torch.float32
    assert torch.equal(times, naive_times(case.times, case.weight, case.num_steps, neuron))
    assert torch.equal(times, simulate_causal(case.times, case.weight, case.num_steps, neuron))


@settings(deadline=None, max_examples=100)
@given(case=cases(), strict=st.booleans())
def test_a_neuron_with_a_refractory_period_of_the_window_spikes_at_most_once(
    case: Case, strict: bool
) -> None:
    neuron = Causal(threshold=case.threshold, synapse="ramp", strict=strict)
    raster = torch.from_numpy(naive_raster(case.times, case.weight, case.num_steps, neuron))
    assert (raster.sum(0) <= 1).all()
    times = causal_linear(case.times, case.weight, case.num_steps, neuron)
    assert torch.equal(times, raster_to_times(raster))


@pytest.mark.parametrize("num_steps", [2, 4096])
@pytest.mark.parametrize(("strict", "delay"), [(False, 0), (True, 1)])
def test_shortest_and_longest_windows(num_steps: int, strict: bool, delay: int) -> None:
    rng = np.random.default_rng(num_steps)
    times = torch.from_numpy(draw_times(rng, (3, 40), num_steps, "half silent"))
    weight = torch.from_numpy(draw_weight(rng, (7, 40), "mixed"))
    neuron = Causal(threshold=num_steps / 8, synapse="ramp", strict=strict, delay=delay)
    found = causal_linear(times, weight, num_steps, neuron)
    assert torch.equal(found, naive_times(times, weight, num_steps, neuron))
    assert torch.equal(found, simulate_causal(times, weight, num_steps, neuron))
    assert found.unique().numel() > 2 or num_steps == 2


def test_a_hand_worked_ramp() -> None:
    # V rises by 1 a step from step 1, by 3 from step 3: V = 0, 0, 1, 2, 5, 8. It meets 4 at 3 + 2/3.
    times, weight = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 2.0]])
    crossing, slope = ramp.forward(times.numpy(), weight.t().contiguous().numpy(), 4.0, False, 6)
    assert crossing.item() == pytest.approx(3 + 2 / 3, rel=1e-15)
    assert slope.item() == 3
    assert causal_linear(times, weight, 6, Causal(threshold=4, synapse="ramp")).item() == 4


@pytest.mark.parametrize("late_weight", [-1.0, -2.0, 0.0, 1.0])
def test_a_strict_neuron_that_only_touches_its_threshold(late_weight: float) -> None:
    # V = t meets 4 at step 4, where the second input bends the line.
    times, weight = torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0, late_weight]])
    assert causal_linear(times, weight, 9, Causal(threshold=4, synapse="ramp")).item() == 4
    strict = causal_linear(times, weight, 9, Causal(threshold=4, synapse="ramp", strict=True)).item()
    assert strict == (5 if 1 + late_weight > 0 else 9)


def test_a_line_that_rounding_lifts_to_threshold_as_it_turns_flat_does_not_fire() -> None:
    # Exactly, V stays just below threshold; in float64 the two last weights cancel the slope and
    # leave V at threshold. There is no crossing to find by division.
    times = torch.tensor([[6.0, 8.0, 12.0, 12.0]])
    weight = torch.tensor([[1.1, 0.7, -0.2, -1.6]], dtype=torch.float64)
    neuron = Causal(threshold=9.400000000000004, synapse="ramp")
    assert causal_linear(times, weight, 32, neuron).item() == 32


# Gradients


@settings(deadline=None, max_examples=80)
@given(case=cases(), strict=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_gradients_are_the_closed_form_ones(case: Case, strict: bool, seed: int) -> None:
    neuron = Causal(
        threshold=case.threshold, synapse="ramp", strict=strict, ramp_rule=ExactRule(min_slope=1e-300)
    )
    times = case.times.to(torch.float32, copy=True).requires_grad_()
    weight = case.weight.to(torch.float64, copy=True).requires_grad_()
    out = causal_linear(times, weight, case.num_steps, neuron)
    delta = np.random.default_rng(seed).integers(-8, 9, tuple(out.shape)) / 8
    t_BI, w_OI = case.times.to(torch.float64).numpy(), case.weight.to(torch.float64).numpy()
    expected_times, expected_weight = np.zeros(t_BI.shape), np.zeros(w_OI.shape)
    for b, j in np.ndindex(*out.shape):
        crossing, slope = closed_form_crossing(t_BI[b], w_OI[j], case.threshold, case.num_steps)
        if crossing in (*t_BI[b], case.num_steps - 1):
            delta[b, j] = 0  # a kink, where the gradients of the two sides differ
        for i in range(len(t_BI[b])):
            if t_BI[b, i] < crossing and slope > 0:
                expected_weight[j, i] += delta[b, j] * (t_BI[b, i] - crossing) / slope
                expected_times[b, i] += delta[b, j] * w_OI[j, i] / slope
    grads = torch.autograd.grad(out, (times, weight), torch.from_numpy(delta).to(out))
    np.testing.assert_allclose(grads[0].numpy(), expected_times, rtol=1e-4, atol=1e-4)
    scale = case.threshold
    np.testing.assert_allclose(grads[1].numpy() * scale, expected_weight * scale, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_are_the_finite_differences_of_the_crossing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_steps, threshold, epsilon = 64, 5.0, 1e-6
    t_BI = draw_times(rng, (6, 8), num_steps, "half silent").astype(np.float64)
    w_OI = rng.normal(0.3, 0.5, (5, 8))

    def crossing(b: int, j: int, times: np.ndarray, weight: np.ndarray) -> float:
        return closed_form_crossing(times[b], weight[j], threshold, num_steps)[0]

    times = torch.from_numpy(t_BI).to(torch.float32).requires_grad_()
    weight = torch.from_numpy(w_OI).requires_grad_()
    out = causal_linear(times, weight, num_steps, Causal(threshold=threshold, synapse="ramp"))
    checked = 0
    for b, j in np.ndindex(*out.shape):
        middle = crossing(b, j, t_BI, w_OI)
        # Differences are taken away from kinks: other inputs' arrivals and the window's end.
        if middle == num_steps or np.abs([*(t_BI[b] - middle), num_steps - 1 - middle]).min() < 1e-2:
            continue
        assert out[b, j].item() == np.ceil(middle)
        grad_times, grad_weight = torch.autograd.grad(out[b, j], (times, weight), retain_graph=True)
        for i in range(t_BI.shape[1]):
            step = np.zeros(t_BI.shape)
            step[b, i] = epsilon
            rise = crossing(b, j, t_BI + step, w_OI) - crossing(b, j, t_BI - step, w_OI)
            assert grad_times[b, i].item() == pytest.approx(rise / (2 * epsilon), rel=1e-4, abs=1e-4)
            step = np.zeros(w_OI.shape)
            step[j, i] = epsilon
            rise = crossing(b, j, t_BI, w_OI + step) - crossing(b, j, t_BI, w_OI - step)
            assert grad_weight[j, i].item() == pytest.approx(rise / (2 * epsilon), rel=1e-4, abs=1e-4)
        checked += 1
    assert checked >= 10


def test_the_least_slope_bounds_the_gradient() -> None:
    times = torch.tensor([[0.0]], requires_grad=True)
    weight = torch.tensor([[0.25]], requires_grad=True)
    for least, slope in ((1e-6, 0.25), (0.5, 0.5)):
        neuron = Causal(synapse="ramp", ramp_rule=ExactRule(min_slope=least))
        out = causal_linear(times, weight, 9, neuron)
        assert out.item() == 4
        grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, weight))
        assert grad_times.item() == 0.25 / slope
        assert grad_weight.item() == -4 / slope


def test_an_input_at_or_after_the_crossing_has_no_gradient() -> None:
    times = torch.tensor([[0.0, 4.0, 6.0, 9.0]], requires_grad=True)
    weight = torch.ones(1, 4, requires_grad=True)
    out = causal_linear(times, weight, 9, Causal(threshold=4, synapse="ramp"))
    grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, weight))
    assert grad_times.tolist() == [[1, 0, 0, 0]]
    assert grad_weight.tolist() == [[-4, 0, 0, 0]]

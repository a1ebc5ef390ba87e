from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, fires, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.spike_cases import Case, cases, draw_times

from firstspike import Connection, Conv2d, ConvTranspose2d, Linear, Ramp, Spikes
from firstspike.kernels.cpu import ramp


def closed_form_crossing(
    times_I: np.ndarray, weight_I: np.ndarray, threshold: float, steps: int
) -> tuple[float, float]:
    """Return the first crossing ``(theta + sum w t_i) / A`` and its slope ``A``; ``(T, 0)`` if none.

    One neuron, one sample: the line of the first k inputs counts up to the arrival of the next.
    """
    order = np.argsort(times_I, kind="stable")
    order = order[times_I[order] < steps]
    for k in range(1, len(order) + 1):
        early = order[:k]
        until = times_I[order[k]] if k < len(order) else steps - 1
        slope = weight_I[early].sum()
        if slope > 0:
            crossing = (threshold + (weight_I[early] * times_I[early]).sum()) / slope
            if crossing <= min(until, steps - 1):
                return float(crossing), float(slope)
    return float(steps), 0.0


# Spike times; `test_causal` holds what both neurons on one clock have in common


def test_a_hand_worked_ramp() -> None:
    # V rises by 1 a step from step 1, by 3 from step 3: V = 0, 0, 1, 2, 5, 8. It meets 4 at 3 + 2/3.
    times = torch.tensor([[1.0, 3.0]], requires_grad=True)
    layer = dense([[1.0, 2.0]], Ramp(threshold=4))
    out = fires(layer, times, 6)
    assert out.item() == 4
    grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, layer.weight))
    # dt/dt_i = w_i / A and dt/dw_i = (t_i - t) / A with the slope A = 3.
    torch.testing.assert_close(grad_times, torch.tensor([[1 / 3, 2 / 3]]))
    torch.testing.assert_close(grad_weight, torch.tensor([[-8 / 9, -2 / 9]]))


@pytest.mark.parametrize("late_weight", [-1.0, -2.0, 0.0, 1.0])
def test_a_strict_neuron_that_only_touches_its_threshold(late_weight: float) -> None:
    # V = t meets 4 at step 4, where the second input bends the line.
    assert fires(dense([[1.0, late_weight]], Ramp(threshold=4)), [[0, 4]], 9).item() == 4
    strict = fires(dense([[1.0, late_weight]], Ramp(threshold=4, strict=True)), [[0, 4]], 9)
    assert strict.item() == (5 if 1 + late_weight > 0 else 9)


def test_a_line_that_rounding_lifts_to_threshold_as_it_turns_flat_does_not_fire() -> None:
    # Exactly, V stays just below threshold; in float64 the two last weights cancel the slope and
    # leave V at threshold. There is no crossing to find by division.
    weight = torch.tensor([[1.1, 0.7, -0.2, -1.6]], dtype=torch.float64)
    assert fires(dense(weight, Ramp(threshold=9.400000000000004)), [[6, 8, 12, 12]], 32).item() == 32


# Gradients


@settings(deadline=None, max_examples=80)
@given(case=cases(), strict=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_gradients_are_the_closed_form_ones(case: Case, strict: bool, seed: int) -> None:
    neuron = Ramp(threshold=case.threshold, strict=strict, min_slope=1e-300)
    times = case.times.to(torch.float32, copy=True).requires_grad_()
    layer = dense(case.weight.to(torch.float64), neuron)
    out = fires(layer, times, case.num_steps)
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
    grads = torch.autograd.grad(out, (times, layer.weight), torch.from_numpy(delta).to(out))
    np.testing.assert_allclose(grads[0].numpy(), expected_times, rtol=1e-4, atol=1e-4)
    scale = case.threshold
    np.testing.assert_allclose(grads[1].numpy() * scale, expected_weight * scale, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_are_the_finite_differences_of_the_crossing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, threshold, epsilon = 64, 5.0, 1e-6
    t_BI = draw_times(rng, (6, 8), steps, "half silent").astype(np.float64)
    w_OI = rng.normal(0.3, 0.5, (5, 8))

    def crossing(b: int, j: int, times: np.ndarray, weight: np.ndarray) -> float:
        return closed_form_crossing(times[b], weight[j], threshold, steps)[0]

    times = torch.from_numpy(t_BI).to(torch.float32).requires_grad_()
    layer = dense(w_OI, Ramp(threshold=threshold))
    out = fires(layer, times, steps)
    checked = 0
    for b, j in np.ndindex(*out.shape):
        middle = crossing(b, j, t_BI, w_OI)
        # Differences are taken away from kinks: other inputs' arrivals and the window's end.
        if middle == steps or np.abs([*(t_BI[b] - middle), steps - 1 - middle]).min() < 1e-2:
            continue
        assert out[b, j].detach() == np.ceil(middle)
        grad_times, grad_weight = torch.autograd.grad(out[b, j], (times, layer.weight), retain_graph=True)
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
    for least, slope in ((1e-6, 0.25), (0.5, 0.5)):
        layer = dense([[0.25]], Ramp(min_slope=least))
        out = fires(layer, times, 9)
        assert out.item() == 4
        grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, layer.weight))
        assert grad_times.item() == 0.25 / slope
        assert grad_weight.item() == -4 / slope


@pytest.mark.parametrize(
    ("silent_slope", "sign", "share"), [(None, 1, 0), (2.0, -1, 0), (2.0, 1, 1), (0.5, 1, 4)]
)
def test_a_silent_neuron_is_pulled_only_if_asked_to_and_only_earlier(
    silent_slope: float | None, sign: int, share: float
) -> None:
    # V(8) = 0.1 (8 + 5) stays under 4; the third input never comes.
    layer = dense([[0.1, 0.1, 0.1]], Ramp(threshold=4, silent_slope=silent_slope))
    times = torch.tensor([[0.0, 3.0, 9.0]], requires_grad=True)
    out = layer(Spikes(times, 9))
    assert out.silent.all()
    grad_times, grad_weight = torch.autograd.grad(sign * out.times.sum(), (times, layer.weight))
    # A crossing at T = 9 with slope 2: (t_i - 9) / 2 and w / 2.
    assert grad_weight.tolist() == [pytest.approx([-4.5 * share, -3.0 * share, 0])]
    assert grad_times.tolist() == [pytest.approx([0.05 * share, 0.05 * share, 0])]


def test_an_input_at_or_after_the_crossing_has_no_gradient() -> None:
    times = torch.tensor([[0.0, 4.0, 6.0, 9.0]], requires_grad=True)
    layer = dense(torch.ones(1, 4), Ramp(threshold=4))
    out = fires(layer, times, 9)
    grad_times, grad_weight = torch.autograd.grad(out.sum(), (times, layer.weight))
    assert grad_times.tolist() == [[1, 0, 0, 0]]
    assert grad_weight.tolist() == [[-4, 0, 0, 0]]


def test_the_membranes_gradient_reaches_the_times() -> None:
    times = torch.tensor([[0.0, 3.0, 6.0]], requires_grad=True)
    membrane = dense([[2.0, -1.0, 4.0]], Ramp()).membrane(Spikes(times, 6))
    assert membrane.item() == 2 * 5 - 2
    membrane.sum().backward()
    assert times.grad is not None
    assert times.grad.tolist() == [[-2, 1, 0]]


# What is refused


def test_an_input_gradient_is_made_only_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def backward(*arrays: Any, for_times: bool) -> Any:
        asked.append(for_times)
        found = kernel(*arrays, for_times=for_times)
        assert bool(found[1].any()) == for_times
        return found

    kernel = ramp.backward
    monkeypatch.setattr(ramp, "backward", backward)
    layer, times = (
        dense([[1.0, 2.0, 0.5], [2.0, 1.0, 1.0]], Ramp(threshold=4.0)),
        torch.tensor([[0.0, 1, 2]]),
    )
    grads = []
    for wanted in (True, False):
        given = times.clone().requires_grad_(wanted)
        layer.zero_grad()
        layer(Spikes(given, 16)).times.sum().backward()
        assert (given.grad is not None) == wanted
        grads.append(layer.weight.grad)
    assert asked == [True, False]
    assert torch.equal(*grads)


def test_connections_that_it_does_not_take() -> None:
    for make in (Conv2d, ConvTranspose2d):
        with refused(ValueError, "Ramp", "dense"):
            make(1, 2, 3, Ramp())
    with refused(ValueError, "Ramp", "bias", "threshold"):
        Linear(2, 3, Ramp(), bias=True)
    with refused(ValueError, "Ramp", "one connection", "2"):
        Linear(2, 3, Ramp(), shortcuts=[Connection.linear(2, 3, source=0)])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_the_slopes_are_above_zero(value: float) -> None:
    with refused(ValueError, "Ramp.min_slope", "above 0"):
        Ramp(min_slope=value)
    with refused(ValueError, "Ramp.silent_slope", "above 0"):
        Ramp(silent_slope=value)

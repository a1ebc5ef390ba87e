import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.functional import (
    causal_levels,
    causal_linear,
    causal_membrane,
    normalise_gradient,
    phased_linear,
    phased_membrane,
    window_fire,
    window_membrane,
)
from firstspike.kernels.reference import simulate_window
from firstspike.losses import aggressive_targets
from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.rules import Norm, RunningMaxRule, StraightThroughRule, TemporalRule
from firstspike.spikes import raster_to_times, times_to_raster


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # The simulators make thousands of tiny products, for which two threads mostly wait.
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def causal_grads(
    times: list[float],
    weight: list[list[float]],
    delta: list[float],
    rule: TemporalRule,
    num_steps: int = 8,
) -> tuple[list[float], list[list[float]]]:
    """Return ``dL/dt_i`` and ``dL/dw`` of one sample for the output gradient `delta`, threshold 1."""
    t = torch.tensor([times], requires_grad=True)
    w = torch.tensor(weight, requires_grad=True)
    out = causal_linear(t, w, 8, Causal(step_rule=rule))
    grad_times, grad_weight = torch.autograd.grad(out, (t, w), torch.tensor([delta]))
    return grad_times[0].tolist(), grad_weight.tolist()


# The published rule by hand

# A 2-3-2 network, T = 8, threshold 1.
#   inputs     t = (1, 3)
#   hidden 0   w = (1, 1/2)      V(1) = 1                            fires at 1
#   hidden 1   w = (1/2, 1/2)    V(1) = 1/2, V(3) = 1                fires at 3
#   hidden 2   w = (1/4, 1/2)    V(3) = 3/4                          silent, 8
#   output 0   w = (1/2, 1/2, 1) V(1) = 1/2, V(3) = 1                fires at 3
#   output 1   w = (1, -1, 2)    V(1) = 1                            fires at 1
# Output 0 should fire first: tau = min(3, 1) = 1, targets (1, 8), so delta = t - target = (2, -7)
# (Eqs. 6-7 and 16-17), with the L1 norm (2/9, -7/9).
INPUT_TIMES = [[1.0, 3.0]]
HIDDEN_WEIGHT = [[1.0, 0.5], [0.5, 0.5], [0.25, 0.5]]
OUTPUT_WEIGHT = [[0.5, 0.5, 1.0], [1.0, -1.0, 2.0]]


def trace(rule: TemporalRule) -> tuple[Tensor, ...]:
    """Return the times of both layers, then the gradients of both weights and of the input times."""
    neuron = Causal(step_rule=rule)
    times = torch.tensor(INPUT_TIMES, requires_grad=True)
    hidden_weight = torch.tensor(HIDDEN_WEIGHT, requires_grad=True)
    output_weight = torch.tensor(OUTPUT_WEIGHT, requires_grad=True)
    hidden = causal_linear(times, hidden_weight, 8, neuron)
    output = causal_linear(hidden, output_weight, 8, neuron)
    targets = aggressive_targets(output, torch.tensor([0]), 8)
    loss = 0.5 * (output - targets).square().sum()
    return (hidden, output, *torch.autograd.grad(loss, (output_weight, hidden_weight, times)))


def test_the_published_rule_by_hand_with_the_l1_norm() -> None:
    hidden, output, grad_output, grad_hidden, grad_times = trace(TemporalRule(norm="l1"))
    assert hidden.tolist() == [[1, 3, 8]]
    assert output.tolist() == [[3, 1]]
    # Eq. 14: -delta_j [t_i <= t_j] with t_i = (1, 3, 8) and t_j = (3, 1).
    torch.testing.assert_close(grad_output, torch.tensor([[-2 / 9, -2 / 9, 0], [7 / 9, 0, 0]]))
    # Eq. 15: hidden 0 gets 2/9 * 1/2 - 7/9 * 1 = -6/9, hidden 1 gets 2/9 * 1/2 = 1/9, and
    # output 1 fired before it; hidden 2 is silent. Divided by the L1 norm: (-6/7, 1/7, 0).
    torch.testing.assert_close(grad_hidden, torch.tensor([[6 / 7, 0], [-1 / 7, -1 / 7], [0, 0]]))
    # Input 0: -6/7 * 1 + 1/7 * 1/2 = -11/14; input 1 only through hidden 1: 1/7 * 1/2.
    torch.testing.assert_close(grad_times, torch.tensor([[-11 / 14, 1 / 14]]))


def test_the_published_rule_by_hand_without_a_norm() -> None:
    _, _, grad_output, grad_hidden, grad_times = trace(TemporalRule())
    assert grad_output.tolist() == [[-2, -2, 0], [7, 0, 0]]
    assert grad_hidden.tolist() == [[6, 0], [-1, -1], [0, 0]]
    assert grad_times.tolist() == [[-5.5, 0.5]]


def test_the_published_rule_by_hand_with_the_l2_norm() -> None:
    _, _, grad_output, grad_hidden, _ = trace(TemporalRule(norm="l2"))
    root = math.sqrt(53)
    torch.testing.assert_close(grad_output, torch.tensor([[-2, -2, 0], [7, 0, 0]]) / root)
    torch.testing.assert_close(grad_hidden, torch.tensor([[6, 0], [-1, -1], [0, 0]]) / math.sqrt(37))


def test_a_late_and_a_silent_input_receive_nothing() -> None:
    # The one neuron fires at 2 by its first input; the second comes 3 steps late, the third never.
    found = causal_grads([2.0, 5.0, 8.0], [[1.0, 3.0, 5.0]], [-2.0], TemporalRule())
    assert found == ([-2, 0, 0], [[2, 0, 0]])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_silent_neuron_counts_as_one_that_fires_at_the_last_step(sign: float) -> None:
    # Outputs: 0 fires at step 0, 1 at step 3, 2 never.
    weight = [[1.0, 0.0], [0.0, 1.0], [0.25, 0.25]]
    _, grad_weight = causal_grads([0.0, 3.0], weight, [sign] * 3, TemporalRule())
    assert grad_weight == [[-sign, 0], [-sign, -sign], [-sign, -sign]]


def test_a_gradient_step_on_a_silent_neuron_makes_it_fire() -> None:
    weight = torch.tensor([[0.25, 0.25]], requires_grad=True)
    times = torch.tensor([[0.0, 3.0]])
    out = causal_linear(times, weight, 8, Causal())
    (grad,) = torch.autograd.grad(out, weight)
    after = causal_linear(times, weight.detach() - 0.5 * grad, 8, Causal())
    assert (out.item(), after.item()) == (8, 3)


# Norms


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), min_size=2, max_size=4),
    norm=st.sampled_from(["none", "l1", "l2"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_norms_are_those_of_naive_loops(shape: list[int], norm: Norm, seed: int) -> None:
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=shape) * rng.choice([0.0, 1e-6, 1.0], (shape[0], *[1] * (len(shape) - 1)))
    expected = delta.copy()
    for b in range(shape[0]):
        if norm == "none":
            continue
        size = sum(abs(x) if norm == "l1" else x * x for x in delta[b].flatten())
        size = size if norm == "l1" else math.sqrt(size)
        expected[b] = delta[b] / size / shape[0] if size > 0 else 0
    found = normalise_gradient(torch.from_numpy(delta), norm)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_layers_update_is_the_mean_of_its_samples_updates(norm: Norm) -> None:
    rng = np.random.default_rng(0)
    times = torch.from_numpy(rng.integers(0, 9, (5, 7)).astype(np.float32))
    weight = torch.from_numpy(rng.normal(0.3, 0.5, (4, 7))).requires_grad_()
    delta = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32))
    neuron = Causal(step_rule=TemporalRule(norm=norm))

    def grad(samples: slice) -> Tensor:
        out = causal_linear(times[samples], weight, 8, neuron)
        return torch.autograd.grad(out, weight, delta[samples])[0]

    alone = torch.stack([grad(slice(b, b + 1)) for b in range(5)])
    torch.testing.assert_close(grad(slice(0, 5)), alone.mean(0), rtol=1e-5, atol=1e-7)


# The causal membrane


@pytest.mark.parametrize("synapse", ["step", "ramp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times_dtype", [torch.float32, torch.float64, torch.int64, torch.uint8])
def test_the_membrane_at_the_last_step_without_reset(
    synapse: Any, dtype: torch.dtype, times_dtype: torch.dtype
) -> None:
    num_steps = 6
    rng = np.random.default_rng(1)
    times = rng.integers(0, num_steps + 1, (5, 7))
    weight = rng.integers(-16, 17, (3, 7)) / 8
    expected = np.zeros((5, 3))
    for b in range(5):
        for j in range(3):
            V, current = 0.0, 0.0
            for t in range(num_steps):
                arriving = sum(weight[j, i] for i in range(7) if times[b, i] == t)
                V += current if synapse == "ramp" else arriving
                current += arriving
            expected[b, j] = V
    w = torch.from_numpy(weight).to(dtype).requires_grad_()
    neuron = Causal(synapse=synapse)
    membrane = causal_membrane(torch.from_numpy(times).to(times_dtype), w, num_steps, neuron)
    assert membrane.dtype == dtype
    np.testing.assert_array_equal(membrane.detach().numpy(), expected)
    membrane.sum().backward()
    assert w.grad is not None
    assert w.grad.any()


def test_the_ramp_membranes_gradient_reaches_the_times() -> None:
    times = torch.tensor([[0.0, 3.0, 6.0]], requires_grad=True)
    membrane = causal_membrane(times, torch.tensor([[2.0, -1.0, 4.0]]), 6, Causal(synapse="ramp"))
    assert membrane.item() == 2 * 5 - 2
    membrane.sum().backward()
    assert times.grad is not None
    assert times.grad.tolist() == [[-2, 1, 0]]


# The window neuron


@st.composite
def window_cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None, int, Window]:
    """Draw values for which every product and sum is exact: dyadic, and T a power of two."""
    num_steps = 2 ** draw(st.integers(1, 6))
    out_steps = draw(st.sampled_from([None, 2, 8, 64]))
    batch, n_in, n_out = draw(st.integers(0, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pattern = draw(st.sampled_from(["spread", "silent", "step 0", "two steps"]))
    times = {
        "spread": rng.integers(0, num_steps + 1, (batch, n_in)),
        "silent": np.full((batch, n_in), num_steps),
        "step 0": np.zeros((batch, n_in)),
        "two steps": rng.choice([1, num_steps - 1], (batch, n_in)),
    }[pattern]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    times_dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8]))
    scale = draw(st.sampled_from([0, 1, 16])) / 16
    weight = torch.from_numpy(rng.integers(-16, 17, (n_out, n_in)) * scale).to(dtype)
    bias = torch.from_numpy(rng.integers(-16, 17, n_out) / 16).to(dtype) if draw(st.booleans()) else None
    low, high = draw(st.sampled_from([(0.0, 4.0), (-1.0, 1.0), (0.5, 1.0)]))
    input_low, input_high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 4.0)]))
    neuron = Window(low=low, high=high, input_low=input_low, input_high=input_high, out_steps=out_steps)
    if draw(st.booleans()):
        weight = weight.t().contiguous().t()
    return torch.from_numpy(times).to(times_dtype), weight, bias, num_steps, neuron


@settings(deadline=None, max_examples=150)
@given(case=window_cases())
def test_one_matrix_product_gives_the_stepped_windows_times(
    case: tuple[Tensor, Tensor, Tensor | None, int, Window],
) -> None:
    times, weight, bias, num_steps, neuron = case
    out_steps = neuron.out_steps_for(num_steps)
    membrane = window_membrane(times, weight, bias, num_steps, neuron)
    assert membrane.dtype == weight.dtype
    found = window_fire(membrane, out_steps, neuron)
    expected = simulate_window(times, weight, bias, num_steps, neuron)
    assert torch.equal(found.to(torch.float32), expected)
    raster = times_to_raster(found, out_steps)
    assert (raster.sum(0) <= 1).all()
    assert torch.equal(raster_to_times(raster), expected)


@pytest.mark.parametrize(("num_steps", "out_steps"), [(2, 4096), (4096, 2), (4096, 4096), (10, 7)])
def test_window_times_away_from_step_boundaries_are_the_stepped_ones(
    num_steps: int, out_steps: int
) -> None:
    rng = np.random.default_rng(num_steps)
    neuron = Window(low=-1, high=2, input_low=-1, out_steps=out_steps)
    times = torch.from_numpy(rng.integers(0, num_steps + 1, (6, 30)).astype(np.float64))
    weight = torch.from_numpy(rng.normal(0, 0.3, (9, 30)))
    bias = torch.from_numpy(rng.normal(0, 0.3, 9))
    membrane = window_membrane(times, weight, bias, num_steps, neuron)
    drive = (membrane + 1) / 3 * out_steps
    clear = (drive - drive.round()).abs() > 1e-4
    found = window_fire(membrane, out_steps, neuron).to(torch.float32)
    expected = simulate_window(times, weight, bias, num_steps, neuron)
    assert clear.float().mean() > 0.5
    assert torch.equal(found[clear], expected[clear])
    assert found[clear].unique().numel() > 2


def test_the_window_equations_by_hand() -> None:
    # x = -1 + 2 (1 - t/4) = (1, 0, -1); u = 0.25 + 1 * 1 - 0.5 * 0 + 0.5 * -1 = 0.75.
    neuron = Window(low=-1, high=1, input_low=-1, out_steps=8)
    times, weight = torch.tensor([[0.0, 2.0, 4.0]]), torch.tensor([[1.0, -0.5, 0.5]])
    membrane = window_membrane(times, weight, torch.tensor([0.25]), 4, neuron)
    assert membrane.item() == 0.75
    # V = (0.75 + 1) / 2 * 8 = 7: fires at 8 - 7.
    assert window_fire(membrane, 8, neuron).item() == 1


@pytest.mark.parametrize(
    ("membrane", "time"),
    [(-5, 8), (0, 8), (0.49, 8), (0.5, 7), (0.99, 7), (2, 4), (3.99, 1), (4, 0), (99, 0), (1e30, 0)],
)
def test_when_a_window_neuron_fires(membrane: float, time: int) -> None:
    # low = 0, high = 4 over 8 steps: one step is 0.5, and below one step it stays silent.
    assert window_fire(torch.tensor([[membrane]]), 8, Window()).item() == time


@pytest.mark.parametrize("seed", range(3))
def test_window_gradients_are_finite_differences_before_the_floor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_steps, out_steps, epsilon = 16, 24, 1e-6
    neuron = Window(low=-0.5, high=1.5, input_low=-1, out_steps=out_steps)
    t_BI = rng.integers(0, num_steps + 1, (4, 6)).astype(float)
    w_OI, b_O = rng.normal(0, 0.6, (5, 6)), rng.normal(0, 0.6, 5)
    delta = rng.normal(size=(4, 5))

    def drive(times: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        x = -1 + 2 * (1 - times / num_steps)
        return (x @ weight.T + bias + 0.5) / 2 * out_steps

    def surrogate(*arguments: np.ndarray) -> float:
        return float((delta * (out_steps - np.clip(drive(*arguments), 0, out_steps))).sum())

    kinks = np.minimum(np.abs(drive(t_BI, w_OI, b_O)), np.abs(drive(t_BI, w_OI, b_O) - out_steps))
    assert kinks.min() > 1e-3
    saturated = np.abs(drive(t_BI, w_OI, b_O) - out_steps / 2) > out_steps / 2
    assert 0 < saturated.sum() < saturated.size

    tensors = [torch.from_numpy(a).requires_grad_() for a in (t_BI, w_OI, b_O)]
    membrane = window_membrane(*tensors, num_steps, neuron)
    out = window_fire(membrane, out_steps, neuron)
    grads = torch.autograd.grad(out, tensors, torch.from_numpy(delta))
    arrays = [t_BI, w_OI, b_O]
    for k, array in enumerate(arrays):
        for index in np.ndindex(*array.shape):
            values = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[k][index] += sign * epsilon
                values.append(surrogate(*moved))
            slope = (values[0] - values[1]) / (2 * epsilon)
            assert grads[k][index].item() == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_a_saturated_window_neuron_receives(sign: float) -> None:
    # Below, at both ends of, inside and above the range 0 ... 4; 8 steps, so one unit is 2 steps.
    membrane = torch.tensor([-1.0, 0.0, 2.0, 4.0, 5.0])

    def grad(saturation: Any) -> list[float]:
        u = membrane.clone().requires_grad_()
        neuron = Window(rule=StraightThroughRule(saturation=saturation))
        out = window_fire(u, 8, neuron)
        return torch.autograd.grad(out, u, torch.full_like(u, sign))[0].tolist()

    inside = -2 * sign
    assert grad("open") == [inside] * 5
    assert grad("closed") == [0, inside, inside, inside, 0]
    # A later spike (sign < 0 asks for one) is what leads back from above, an earlier one from below.
    assert grad("one_sided") == [inside if sign > 0 else 0, *[inside] * 3, inside if sign < 0 else 0]


def test_the_smooth_slope_is_that_of_a_tanh_over_the_range() -> None:
    membrane = torch.tensor([-3.0, 0.0, 1.0, 2.0, 4.0, 9.0], dtype=torch.float64, requires_grad=True)
    neuron = Window(rule=StraightThroughRule(saturation="smooth"))
    out = window_fire(membrane, 8, neuron)
    (grad,) = torch.autograd.grad(out.sum(), membrane)

    def surrogate(u: np.ndarray) -> np.ndarray:
        # Steepest in the middle of 0 ... 4, with the straight line's slope of 2 steps per unit there.
        return 8 - 4 * (1 + np.tanh((u - 2) / 2))

    u, epsilon = membrane.detach().numpy(), 1e-6
    slope = (surrogate(u + epsilon) - surrogate(u - epsilon)) / (2 * epsilon)
    np.testing.assert_allclose(grad.numpy(), slope, rtol=1e-6, atol=1e-8)
    assert grad[3].item() == -2


@pytest.mark.parametrize("start", [-3.0, 7.0])
@pytest.mark.parametrize("target", [0.0, 3.0, 8.0])
def test_one_sided_descent_never_leaves_the_range_further(start: float, target: float) -> None:
    neuron = Window(rule=StraightThroughRule(saturation="one_sided"))
    membrane = torch.tensor([start], requires_grad=True)
    for _ in range(400):
        loss = 0.5 * (window_fire(membrane, 8, neuron) - target).square().sum()
        (grad,) = torch.autograd.grad(loss, membrane)
        # Descent goes against the gradient: never away from the range.
        assert grad.item() * (1 if membrane.item() > 4 else -1 if membrane.item() < 0 else 0) >= 0
        membrane = (membrane - 0.01 * grad).detach().requires_grad_()
    assert abs(window_fire(membrane, 8, neuron).item() - target) <= 1


# Types, shapes and errors


@pytest.mark.parametrize(
    "neuron",
    [Causal(), Causal(synapse="ramp"), Window(), Phased(source=(0, 4), target=(2, 8))],
)
def test_gradients_have_the_types_and_shapes_of_what_they_belong_to(neuron: Neuron) -> None:
    def run(times: Tensor, weight: Tensor) -> Tensor:
        if isinstance(neuron, Causal):
            return causal_linear(times, weight, 8, neuron)
        if isinstance(neuron, Phased):
            return phased_linear(times, weight, None, 8, neuron)
        return window_fire(window_membrane(times, weight, None, 8, neuron), 8, neuron)

    for batch in (0, 3):
        for dtype in (torch.float32,) if isinstance(neuron, Phased) else (torch.float32, torch.float64):
            times = torch.full((batch, 4), 2.0, requires_grad=True)
            weight = torch.ones(5, 4, dtype=dtype, requires_grad=True)
            out = run(times, weight)
            assert out.shape == (batch, 5)
            out.sum().backward()
            assert times.grad is not None
            assert weight.grad is not None
            assert (times.grad.shape, times.grad.dtype) == (times.shape, times.dtype)
            assert (weight.grad.shape, weight.grad.dtype) == (weight.shape, weight.dtype)


def membrane_of_causal(times: Tensor, weight: Tensor, num_steps: int) -> Tensor:
    return causal_membrane(times, weight, num_steps, Causal())


def membrane_of_window(times: Tensor, weight: Tensor, num_steps: int) -> Tensor:
    return window_membrane(times, weight, None, num_steps, Window())


def times_of_causal(times: Tensor, weight: Tensor, num_steps: int) -> Tensor:
    return causal_linear(times, weight, num_steps, Causal())


def times_of_phased(times: Tensor, weight: Tensor, num_steps: int) -> Tensor:
    return phased_linear(times, weight, None, num_steps, Phased(source=(0, 4), target=(4, 8)))


def membrane_of_phased(times: Tensor, weight: Tensor, num_steps: int) -> Tensor:
    return phased_membrane(times, weight, None, num_steps, Phased(source=(0, 4), target=(4, 8)))


OPERATIONS = [
    times_of_causal,
    times_of_phased,
    membrane_of_causal,
    membrane_of_phased,
    membrane_of_window,
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("value", [math.nan, -1.0, 9.0, 0.5, math.inf])
def test_times_that_are_none_are_refused(operation: Callable[..., Tensor], value: float) -> None:
    with pytest.raises(ValueError, match=r"^times "):
        operation(torch.tensor([[0.0, value]]), torch.ones(3, 2), 8)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_weights_that_are_none_are_refused(operation: Callable[..., Tensor]) -> None:
    times = torch.zeros(1, 2)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="weight holds NaN or infinity"):
            operation(times, torch.tensor([[0.0, value]]), 8)
    # The sum of finite weights may overflow; they are fine.
    operation(times, torch.full((1, 2), 3e38), 8)
    for dtype in (torch.float16, torch.int64):
        with pytest.raises(TypeError, match=r"weight must be float32( or float64)?, found torch"):
            operation(times, torch.ones(1, 2).to(dtype), 8)


def test_the_kernels_of_single_precision_take_no_other() -> None:
    times, weight, bias = torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1)
    threshold = torch.ones(1, 1)
    phased, rule = Phased(source=(0, 4), target=(4, 8)), RunningMaxRule(levels=(0, 1, 2))
    with pytest.raises(TypeError, match=r"weight must be float32, found torch\.float64"):
        phased_linear(times, weight.double(), bias, 8, phased)
    with pytest.raises(TypeError, match=r"bias must be float32, found torch\.float64"):
        phased_linear(times, weight, bias.double(), 8, phased)
    with pytest.raises(TypeError, match=r"weight must be float32, found torch\.float64"):
        causal_levels(None, times, weight.double(), threshold, 8, rule)
    with pytest.raises(TypeError, match=r"threshold must be float32, found torch\.float64"):
        causal_levels(None, times, weight, threshold.double(), 8, rule)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bias_that_is_none_is_refused(value: float) -> None:
    times, weight, bias = torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([value])
    phased = Phased(source=(0, 4), target=(4, 8))
    with pytest.raises(ValueError, match="bias holds NaN or infinity"):
        window_membrane(times, weight, bias, 8, Window())
    with pytest.raises(ValueError, match="bias holds NaN or infinity"):
        phased_membrane(times, weight, bias, 8, phased)
    with pytest.raises(ValueError, match="bias holds NaN or infinity"):
        phased_linear(times, weight, bias, 8, phased)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("times", "weight"),
    [((1, 2), (3, 4)), ((2,), (3, 2)), ((1, 2), (2,)), ((1, 1, 2), (3, 2))],
)
def test_shapes_that_do_not_fit_are_refused(
    operation: Callable[..., Tensor], times: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected times \(batch, in_features\) and weight"):
        operation(torch.zeros(times), torch.zeros(weight), 8)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_windows_shorter_than_two_steps_are_refused(operation: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="num_steps must be in 2"):
        operation(torch.zeros(1, 2), torch.zeros(3, 2), 1)
    with pytest.raises(TypeError, match="num_steps must be an int"):
        operation(torch.zeros(1, 2), torch.zeros(3, 2), 8.0)

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, draw_spikes, refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike import Connection, Conv2d, Linear, Spikes, Window
from firstspike.neurons.window import Saturation

# The simulators make thousands of tiny products, for which two threads mostly wait.
pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def cases(draw: st.DrawFn) -> tuple[Spikes, Linear]:
    """Draw values for which every product and sum is exact: dyadic, and T a power of two."""
    steps = 2 ** draw(st.integers(1, 6))
    own = draw(st.sampled_from([None, 2, 8, 64]))
    batch, n_in, n_out = draw(st.integers(0, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pattern = draw(st.sampled_from(["spread", "silent", "step 0", "two steps"]))
    times = {
        "spread": rng.integers(0, steps + 1, (batch, n_in)),
        "silent": np.full((batch, n_in), steps),
        "step 0": np.zeros((batch, n_in)),
        "two steps": rng.choice([1, steps - 1], (batch, n_in)),
    }[pattern]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    times_dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.uint8]))
    scale = draw(st.sampled_from([0, 1, 16])) / 16
    weight = torch.from_numpy(rng.integers(-16, 17, (n_out, n_in)) * scale).to(dtype)
    bias = torch.from_numpy(rng.integers(-16, 17, n_out) / 16).to(dtype) if draw(st.booleans()) else None
    low, high = draw(st.sampled_from([(0.0, 4.0), (-1.0, 1.0), (0.5, 1.0)]))
    input_low, input_high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 4.0)]))
    neuron = Window(low=low, high=high, input_low=input_low, input_high=input_high, steps=own)
    if draw(st.booleans()):
        weight = weight.t().contiguous().t()
    return Spikes(torch.from_numpy(times).to(times_dtype), steps), dense(weight, neuron, bias)


@settings(deadline=None, max_examples=150)
@given(case=cases())
def test_one_matrix_product_gives_the_stepped_windows_times(case: tuple[Spikes, Linear]) -> None:
    spikes, layer = case
    found, membrane = layer.read(spikes)
    assert (found.times.dtype, membrane.dtype) == (spikes.times.dtype, layer.weight.dtype)
    assert found.steps == layer.neuron.out_steps(spikes.steps)
    assert torch.equal(found.times.float(), layer.simulate(spikes).times)
    assert torch.equal(layer(spikes).times, found.times)
    assert torch.equal(layer.membrane(spikes), membrane)


@pytest.mark.parametrize(("steps", "own"), [(2, 4096), (4096, 2), (4096, 4096), (10, 7)])
def test_times_away_from_step_boundaries_are_the_stepped_ones(steps: int, own: int) -> None:
    rng = np.random.default_rng(steps)
    neuron = Window(low=-1, high=2, input_low=-1, steps=own)
    spikes = Spikes(rng.integers(0, steps + 1, (6, 30)), steps)
    layer = dense(rng.normal(0, 0.3, (9, 30)), neuron, rng.normal(0, 0.3, 9))
    found, membrane = layer.read(spikes)
    drive = (membrane + 1) / 3 * own
    clear = (drive - drive.round()).abs() > 1e-4
    assert clear.float().mean() > 0.5
    assert torch.equal(found.times[clear], layer.simulate(spikes).times[clear])
    assert found.times[clear].unique().numel() > 2


def test_the_equations_by_hand() -> None:
    # x = -1 + 2 (1 - t/4) = (1, 0, -1); u = 0.25 + 1 * 1 - 0.5 * 0 + 0.5 * -1 = 0.75.
    layer = dense([[1.0, -0.5, 0.5]], Window(low=-1, high=1, input_low=-1, steps=8), [0.25])
    found, membrane = layer.read(Spikes([[0, 2, 4]], 4))
    assert membrane.item() == 0.75
    # V = (0.75 + 1) / 2 * 8 = 7: fires at 8 - 7.
    assert (found.times.item(), found.steps) == (1, 8)


@pytest.mark.parametrize(
    ("membrane", "time"),
    [(-5, 8), (0, 8), (0.49, 8), (0.5, 7), (0.99, 7), (2, 4), (3.99, 1), (4, 0), (99, 0), (1e30, 0)],
)
def test_when_a_window_neuron_fires(membrane: float, time: int) -> None:
    # low = 0, high = 4 over 8 steps: one step is 0.5, and below one step it stays silent.
    for neuron in (Window(), Window(saturation="smooth")):
        assert neuron.quantise(torch.tensor([[membrane]]), 8).times.item() == time


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_finite_differences_before_the_floor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, own, epsilon = 16, 24, 1e-6
    neuron = Window(low=-0.5, high=1.5, input_low=-1, steps=own)
    t_BI = rng.integers(0, steps + 1, (4, 6)).astype(float)
    w_OI, b_O = rng.normal(0, 0.6, (5, 6)), rng.normal(0, 0.6, 5)
    delta = rng.normal(size=(4, 5))

    def drive(times: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        x = -1 + 2 * (1 - times / steps)
        return (x @ weight.T + bias + 0.5) / 2 * own

    def surrogate(*arguments: np.ndarray) -> float:
        return float((delta * (own - np.clip(drive(*arguments), 0, own))).sum())

    kinks = np.minimum(np.abs(drive(t_BI, w_OI, b_O)), np.abs(drive(t_BI, w_OI, b_O) - own))
    assert kinks.min() > 1e-3
    saturated = np.abs(drive(t_BI, w_OI, b_O) - own / 2) > own / 2
    assert 0 < saturated.sum() < saturated.size

    times, layer = torch.from_numpy(t_BI).requires_grad_(), dense(w_OI, neuron, b_O)
    out = layer(Spikes(times, steps)).times
    given = (times, layer.weight, layer.bias)
    grads = torch.autograd.grad(out, given, torch.from_numpy(delta))  # type: ignore[arg-type]
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

    def grad(saturation: Saturation) -> list[float]:
        u = membrane.clone().requires_grad_()
        out = Window(saturation=saturation).quantise(u, 8).times
        return torch.autograd.grad(out, u, torch.full_like(u, sign))[0].tolist()

    inside = -2 * sign
    assert grad("open") == [inside] * 5
    assert grad("closed") == [0, inside, inside, inside, 0]
    # A later spike (sign < 0 asks for one) is what leads back from above, an earlier one from below.
    assert grad("one_sided") == [inside if sign > 0 else 0, *[inside] * 3, inside if sign < 0 else 0]


def test_the_smooth_slope_is_that_of_a_tanh_over_the_range() -> None:
    membrane = torch.tensor([-3.0, 0.0, 1.0, 2.0, 4.0, 9.0], dtype=torch.float64, requires_grad=True)
    out = Window(saturation="smooth").quantise(membrane, 8).times
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
    neuron = Window.output()
    assert (neuron.high, neuron.saturation) == (1, "one_sided")
    neuron = dataclasses.replace(neuron, high=4.0)
    membrane = torch.tensor([start], requires_grad=True)
    for _ in range(400):
        loss = 0.5 * (neuron.quantise(membrane, 8).times - target).square().sum()
        (grad,) = torch.autograd.grad(loss, membrane)
        # Descent goes against the gradient: never away from the range.
        assert grad.item() * (1 if membrane.item() > 4 else -1 if membrane.item() < 0 else 0) >= 0
        membrane = (membrane - 0.01 * grad).detach().requires_grad_()
    assert abs(neuron.quantise(membrane, 8).times.item() - target) <= 1


# Several connections


def test_connections_into_one_layer_add_their_membranes() -> None:
    neuron = Window(low=-1.0, high=1.0, input_low=-1.0, steps=8)
    maps = Connection.conv2d(3, 2, 3, source=1, padding=1, bias=True, generator=seeded(1))
    layer = Conv2d(1, 2, 3, neuron, padding=1, shortcuts=[maps], generator=seeded(0))
    near, far = draw_spikes(9, 1, 4, 5, seed=2), draw_spikes(9, 3, 4, 5, steps=32, seed=3)
    found, membrane = layer.read(near, far)
    expected = neuron.membrane(layer.synapses, near) + neuron.membrane(maps.synapses, far)
    assert torch.equal(membrane, expected)
    assert torch.equal(found.times, neuron.quantise(expected, 16).times)
    assert torch.equal(layer(near, far).times, found.times)
    found.times.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_two_dense_connections_are_one_from_all_inputs() -> None:
    neuron = Window(low=-1.0, high=1.0)
    shortcut = Connection.linear(4, 5, source=0, bias=True, generator=seeded(1))
    layer = Linear(6, 5, neuron, shortcuts=[shortcut], generator=seeded(0))
    assert layer.bias is not None
    assert shortcut.bias is not None
    near, far = draw_spikes(9, 6, seed=2), draw_spikes(9, 4, seed=3)
    joined = dense(torch.cat([layer.weight, shortcut.weight], 1), neuron, layer.bias + shortcut.bias)
    both = Spikes(torch.cat([near.times, far.times], 1), 16)
    torch.testing.assert_close(layer.read(near, far)[1], joined.membrane(both))


def test_membranes_of_other_shapes_do_not_add() -> None:
    layer = Conv2d(1, 2, 3, shortcuts=[Connection.conv2d(1, 2, 2, source=0)])
    with refused(ValueError, "(2, 2, 2)", "(2, 3, 3)"):
        layer(draw_spikes(1, 1, 4, 4), draw_spikes(1, 1, 4, 4))


# Options


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        *[
            (name, value, ValueError)
            for name in ("low", "high", "input_low", "input_high")
            for value in (math.nan, math.inf, -math.inf, "1", None)
        ],
        *[("low", value, ValueError) for value in (4.0, 5.0)],
        *[("input_low", value, ValueError) for value in (1.0, 2.0)],
        *[("steps", value, ValueError) for value in (1, 0, 70_000)],
        ("steps", 8.0, TypeError),
        ("saturation", "shut", ValueError),
    ],
)
def test_other_options_are_refused_by_name(field: str, value: Any, error: type[Exception]) -> None:
    options: dict[str, Any] = {field: value}
    with refused(error, "Window", field, str(value)):
        Window(**options)


def test_its_own_window_may_have_another_length() -> None:
    assert Window().out_steps(16) == 16
    assert Window(steps=np.int64(32)).out_steps(16) == 32  # type: ignore[arg-type]
    assert Window(steps=np.int64(32)) == Window(steps=32)  # type: ignore[arg-type]

import math
from typing import Any

import numpy as np
import pytest
import torch
from builders import dense, draw_spikes, fires, refused, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.spike_cases import Case, cases, draw_times, draw_weight
from oracles import naive_gradients, naive_raster, naive_times
from torch import Tensor

from firstspike import Causal, Connection, Linear, Neuron, Ramp, Spikes, aggressive_targets
from firstspike.neurons.causal import Norm, normalise_gradient

# The simulators make thousands of tiny products, for which two threads mostly wait.
pytestmark = pytest.mark.usefixtures("one_thread")


def neurons(threshold: float, **options: Any) -> list[Neuron]:
    """Return both neurons on one clock: what is said of the one here holds of the other."""
    return [Causal(threshold=threshold, **options), Ramp(threshold=threshold, **options)]


# Spike times


@settings(deadline=None, max_examples=150)
@given(case=cases(), strict=st.booleans(), delay=st.sampled_from([0, 1, 5]))
def test_times_are_the_simulators_and_the_naive_ones(case: Case, strict: bool, delay: int) -> None:
    for neuron in neurons(case.threshold, strict=strict, delay=delay):
        layer, spikes = dense(case.weight, neuron), Spikes(case.times, case.num_steps)
        found = layer(spikes)
        expected = naive_times(case.times, case.weight, case.num_steps, neuron)  # type: ignore[arg-type]
        assert found.times.dtype == spikes.times.dtype
        assert torch.equal(found.times.float(), expected)
        assert torch.equal(layer.simulate(spikes).times, expected)


@settings(deadline=None, max_examples=100)
@given(case=cases(), strict=st.booleans())
def test_a_neuron_with_a_refractory_period_of_the_window_spikes_at_most_once(
    case: Case, strict: bool
) -> None:
    for neuron in neurons(case.threshold, strict=strict):
        raster = naive_raster(case.times, case.weight, case.num_steps, neuron)  # type: ignore[arg-type]
        found = dense(case.weight, neuron)(Spikes(case.times, case.num_steps))
        assert (raster.sum(0) <= 1).all()
        assert torch.equal(found.raster().double(), torch.from_numpy(raster))


@settings(deadline=None, max_examples=100)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 5)),
    magnitude=st.sampled_from([1e-30, 1.0, 1e6, 1e38]),
    strict=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_rounding_is_the_simulators_to_the_last_bit(
    data: st.DataObject, shape: tuple[int, int, int], magnitude: float, strict: bool, dtype: torch.dtype
) -> None:
    batch, n_in, n_out = shape
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    spikes = Spikes(rng.integers(0, 7, (batch, n_in)), 6)
    scales = rng.choice([1.0, 1e-8, 1e-3], (n_out, n_in))
    weight = torch.from_numpy(rng.uniform(-1, 1, (n_out, n_in)) * scales * magnitude).to(dtype)
    # A threshold that the first neuron's membrane reaches exactly on the first sample.
    order = np.argsort(spikes.times[:1].numpy().ravel(), kind="stable")
    with np.errstate(over="ignore"):
        membranes = np.cumsum(weight.numpy()[0][order])
    reached = membranes[(membranes > 0) & np.isfinite(membranes)]
    neuron = Causal(threshold=float(rng.choice(reached)) if len(reached) else magnitude, strict=strict)
    layer = dense(weight, neuron)
    assert torch.equal(layer(spikes).times, layer.simulate(spikes).times)


@pytest.mark.parametrize("steps", [2, 4096])
@pytest.mark.parametrize(("strict", "delay"), [(False, 0), (True, 1)])
def test_shortest_and_longest_windows(steps: int, strict: bool, delay: int) -> None:
    rng = np.random.default_rng(steps)
    times = torch.from_numpy(draw_times(rng, (3, 40), steps, "half silent"))
    weight = torch.from_numpy(draw_weight(rng, (7, 40), "mixed"))
    for neuron in (
        Causal(threshold=3.0, strict=strict, delay=delay),
        Ramp(threshold=steps / 8, strict=strict, delay=delay),
    ):
        layer = dense(weight, neuron)
        found = layer(Spikes(times, steps))
        assert torch.equal(found.times, naive_times(times, weight, steps, neuron))
        assert torch.equal(found.times, layer.simulate(Spikes(times, steps)).times)
        assert found.times.unique().numel() > 2 or steps == 2


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_a_delay_moves_spikes_and_loses_those_past_the_end(delay: int) -> None:
    found = fires(dense([[1.0]], Causal(delay=delay)), [[0], [5], [7], [8]], 8)
    assert found.flatten().tolist() == [min(t + delay, 8) for t in (0, 5, 7, 8)]


def test_strict_firing_needs_more_than_the_threshold() -> None:
    assert fires(dense([[1.0, 0.125]], Causal()), [[1, 4]], 8).item() == 1
    assert fires(dense([[1.0, 0.125]], Causal(strict=True)), [[1, 4]], 8).item() == 4


# What must not change the times


@settings(deadline=None, max_examples=80)
@given(case=cases(min_batch=1), data=st.data())
def test_an_input_after_the_output_spike_changes_nothing(case: Case, data: st.DataObject) -> None:
    T = case.num_steps
    for neuron in neurons(case.threshold):
        before = fires(dense(case.weight, neuron), case.times, T)
        b = data.draw(st.integers(0, before.shape[0] - 1))
        j = data.draw(st.integers(0, before.shape[1] - 1))
        spike = int(before[b, j])
        later = data.draw(st.integers(min(spike + 1, T), T))
        drive = data.draw(st.sampled_from([-1e3, 1e3])) * case.threshold
        times = torch.cat([case.times, torch.full_like(case.times[:, :1], later)], 1)
        weight = torch.cat([case.weight, torch.full_like(case.weight[:, :1], drive)], 1)
        moved = torch.where(times > spike, torch.tensor(later, dtype=times.dtype), times)
        for changed in (times, moved):
            assert fires(dense(weight, neuron), changed, T)[b, j] == spike


@settings(deadline=None, max_examples=100)
@given(case=cases(), exponent=st.integers(-30, 30), strict=st.booleans())
def test_scaling_weights_and_threshold_together_changes_nothing(
    case: Case, exponent: int, strict: bool
) -> None:
    factor = 2.0**exponent
    small, large = (neurons(case.threshold * f, strict=strict) for f in (1.0, factor))
    for one, two in zip(small, large, strict=True):
        expected = fires(dense(case.weight, one), case.times, case.num_steps)
        assert torch.equal(fires(dense(case.weight * factor, two), case.times, case.num_steps), expected)


@settings(deadline=None, max_examples=100)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_permuting_inputs_outputs_or_samples_permutes_nothing_else(case: Case, seed: int) -> None:
    samples, inputs = (torch.randperm(n, generator=seeded(seed)) for n in case.times.shape)
    outputs = torch.randperm(case.weight.shape[0], generator=seeded(seed))
    for neuron in neurons(case.threshold):
        expected = fires(dense(case.weight, neuron), case.times, case.num_steps)
        changed = dense(case.weight[outputs][:, inputs], neuron)
        found = fires(changed, case.times[samples][:, inputs], case.num_steps)
        assert torch.equal(found, expected[samples][:, outputs])


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
HIDDEN_WEIGHT = [[1.0, 0.5], [0.5, 0.5], [0.25, 0.5]]
OUTPUT_WEIGHT = [[0.5, 0.5, 1.0], [1.0, -1.0, 2.0]]


def trace(norm: Norm) -> tuple[Tensor, ...]:
    """Return the times of both layers, then the gradients of both weights and of the input times."""
    times = torch.tensor([[1.0, 3.0]], requires_grad=True)
    first, second = (dense(weight, Causal(norm=norm)) for weight in (HIDDEN_WEIGHT, OUTPUT_WEIGHT))
    hidden = first(Spikes(times, 8))
    output = second(hidden)
    loss = 0.5 * (output.times - aggressive_targets(output, [0])).square().sum()
    return (hidden.times, output.times, *torch.autograd.grad(loss, (second.weight, first.weight, times)))


def test_the_published_rule_by_hand_with_the_l1_norm() -> None:
    hidden, output, grad_output, grad_hidden, grad_times = trace("l1")
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
    _, _, grad_output, grad_hidden, grad_times = trace("none")
    assert grad_output.tolist() == [[-2, -2, 0], [7, 0, 0]]
    assert grad_hidden.tolist() == [[6, 0], [-1, -1], [0, 0]]
    assert grad_times.tolist() == [[-5.5, 0.5]]


def test_the_published_rule_by_hand_with_the_l2_norm() -> None:
    _, _, grad_output, grad_hidden, _ = trace("l2")
    torch.testing.assert_close(grad_output, torch.tensor([[-2, -2, 0], [7, 0, 0]]) / math.sqrt(53))
    torch.testing.assert_close(grad_hidden, torch.tensor([[6, 0], [-1, -1], [0, 0]]) / math.sqrt(37))


@settings(deadline=None, max_examples=120)
@given(
    case=cases(),
    strict=st.booleans(),
    delay=st.sampled_from([0, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_are_those_of_naive_loops(case: Case, strict: bool, delay: int, seed: int) -> None:
    crosses = Causal(threshold=case.threshold, strict=strict)
    crossing = naive_times(case.times, case.weight, case.num_steps, crosses)
    layer = dense(case.weight, Causal(threshold=case.threshold, strict=strict, delay=delay))
    times = case.times.to(torch.float32, copy=True).requires_grad_()
    out = fires(layer, times, case.num_steps)
    delta = torch.from_numpy(np.random.default_rng(seed).integers(-8, 9, tuple(out.shape)) / 8).to(out)
    grad_times, grad_weight = torch.autograd.grad(out, (times, layer.weight), delta)
    expected_weight, expected_times = naive_gradients(
        case.times, case.weight, crossing, delta, case.num_steps
    )
    np.testing.assert_allclose(grad_weight.numpy(), expected_weight, rtol=1e-5, atol=1e-5)
    scale = case.threshold
    np.testing.assert_allclose(grad_times.numpy() / scale, expected_times / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_silent_neuron_learns_as_one_that_fires_at_the_end_and_a_silent_input_not(sign: float) -> None:
    # Outputs: 0 fires at step 0, 1 at step 3, 2 never; the third input is silent.
    layer = dense([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.25, 0.25, 1.0]], Causal())
    out = fires(layer, [[0, 3, 8]], 8)
    assert out.tolist() == [[0, 3, 8]]
    (grad,) = torch.autograd.grad(out, layer.weight, torch.full_like(out, sign))
    assert grad.tolist() == [[-sign, 0, 0], [-sign, -sign, 0], [-sign, -sign, 0]]
    with torch.no_grad():
        layer.weight.add_(0.5)
    # Descent on its time makes it fire.
    assert fires(layer, [[0, 3, 8]], 8)[0, 2].item() == 3


def test_a_late_input_leaves_the_other_gradients_alone() -> None:
    grads = []
    for extra in (torch.zeros(1, 0), torch.tensor([[4.0]])):
        times = torch.cat([torch.tensor([[1.0, 3.0]]), extra], 1).requires_grad_()
        layer = dense(torch.cat([torch.tensor([[0.5, 0.5]]), torch.full_like(extra, -9.0)], 1), Causal())
        out = fires(layer, times, 8)
        assert out.item() == 3
        grads.append(torch.autograd.grad(out.sum(), (times, layer.weight)))
    for alone, joined in zip(*grads, strict=True):
        assert torch.equal(joined[:, :2], alone)
        assert joined[:, 2].item() == 0


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
    spikes = Spikes(rng.integers(0, 9, (5, 7)), 8)
    layer = dense(rng.normal(0.3, 0.5, (4, 7)), Causal(norm=norm))
    delta = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32))

    def grad(samples: slice) -> Tensor:
        return torch.autograd.grad(layer(spikes[samples]).times, layer.weight, delta[samples])[0]

    alone = torch.stack([grad(slice(b, b + 1)) for b in range(5)])
    torch.testing.assert_close(grad(slice(0, 5)), alone.mean(0), rtol=1e-5, atol=1e-7)


# The membrane


@pytest.mark.parametrize("neuron", [Causal(), Ramp()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times_dtype", [torch.float32, torch.float64, torch.uint8])
def test_the_membrane_at_the_last_step_without_reset(
    neuron: Neuron, dtype: torch.dtype, times_dtype: torch.dtype
) -> None:
    steps = 6
    rng = np.random.default_rng(1)
    times = rng.integers(0, steps + 1, (5, 7))
    weight = rng.integers(-16, 17, (3, 7)) / 8
    expected = np.zeros((5, 3))
    for b in range(5):
        for j in range(3):
            V, current = 0.0, 0.0
            for t in range(steps):
                arriving = sum(weight[j, i] for i in range(7) if times[b, i] == t)
                V += current if isinstance(neuron, Ramp) else arriving
                current += arriving
            expected[b, j] = V
    layer = dense(torch.from_numpy(weight).to(dtype), neuron)
    membrane = layer.membrane(Spikes(torch.from_numpy(times).to(times_dtype), steps))
    assert membrane.dtype == dtype
    np.testing.assert_array_equal(membrane.detach().numpy(), expected)
    membrane.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.any()


# Several connections


@pytest.mark.parametrize("norm", ["none", "l1"])
@pytest.mark.parametrize("biases", [(), (0,), (1,), (0, 1)])
def test_connections_into_one_layer_are_one_connection_from_all_inputs(
    norm: Norm, biases: tuple[int, ...]
) -> None:
    neuron = Causal(threshold=0.75, norm=norm)
    shortcut = Connection.linear(4, 5, source=0, bias=1 in biases, generator=seeded(1))
    layer = Linear(6, 5, neuron, bias=0 in biases, shortcuts=[shortcut], generator=seeded(0))
    parts = [layer, shortcut]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((parameter * 16).round() / 16 + 1 / 16)
    bias = sum((parts[k].bias.detach() for k in biases), torch.zeros(5)) if biases else None
    joined = dense(torch.cat([part.weight.detach() for part in parts], 1), neuron, bias)
    near, far = draw_spikes(9, 6, seed=2), draw_spikes(9, 2, 2, seed=3)
    both = Spikes(torch.cat([near.times, far.times.flatten(1)], 1), 16)
    found, membrane = layer.read(near, far)
    assert torch.equal(found.times, joined(both).times)
    torch.testing.assert_close(membrane, joined.membrane(both))
    assert torch.equal(layer(near, far).times, found.times)
    found.times.sum().backward()
    joined(both).times.sum().backward()
    assert joined.weight.grad is not None
    expected = joined.weight.grad.split([6, 4], 1)
    for part, grad in zip(parts, expected, strict=True):
        torch.testing.assert_close(part.weight.grad, grad)


def test_connections_that_causal_neurons_do_not_join() -> None:
    with refused(ValueError, "dense"):
        Linear(4, 3, Causal(), shortcuts=[Connection.conv2d(1, 3, 2, source=0)])
    layer = Linear(4, 3, Causal(), shortcuts=[Connection.linear(4, 3, source=0)])
    with refused(ValueError, "one window", "16, 8"):
        layer(draw_spikes(2, 4), draw_spikes(2, 4, steps=8))


# Options


@pytest.mark.parametrize("kind", [Causal, Ramp])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("threshold", value) for value in (0.0, -1.0, math.inf, math.nan, "1", None, True)],
        *[("delay", value) for value in (-1, 1.5, True, "1", math.nan)],
    ],
)
def test_numbers_out_of_range_are_refused_by_name(kind: Any, field: str, value: Any) -> None:
    with refused(ValueError, f"{kind.__name__}.{field}", repr(value)):
        kind(**{field: value})
    assert kind(delay=np.int64(2)) == kind(delay=2)


@pytest.mark.parametrize(("field", "choices"), [("norm", "none, l1, l2"), ("bias", "start, current")])
def test_an_unknown_word_is_answered_with_the_valid_ones(field: str, choices: str) -> None:
    options: dict[str, Any] = {field: "other"}
    with refused(ValueError, f"Causal.{field}", choices, "other"):
        Causal(**options)

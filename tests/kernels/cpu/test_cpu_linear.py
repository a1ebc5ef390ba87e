import numpy as np
import pytest
import torch
from firstspike.functional import causal_linear
from firstspike.kernels.reference import simulate_causal
from hypothesis import given, settings
from hypothesis import strategies as st
from spike_cases import Case, cases, draw_times, draw_weight, naive_gradients, naive_raster, naive_times

from firstspike.kernels.cpu import linear
from firstspike.neurons import Causal
from firstspike.spikes import raster_to_times, times_to_raster

# Spike times


@settings(deadline=None, max_examples=150)
@given(case=cases(), strict=st.booleans(), delay=st.sampled_from([0, 1, 5]))
def test_times_are_the_simulators_and_the_naive_ones(case: Case, strict: bool, delay: int) -> None:
    neuron = Causal(threshold=case.threshold, strict=strict, delay=delay)
    times = causal_linear(case.times, case.weight, case.num_steps, neuron)
    assert times.dtype == torch.float32
    assert torch.equal(times, naive_times(case.times, case.weight, case.num_steps, neuron))
    assert torch.equal(times, simulate_causal(case.times, case.weight, case.num_steps, neuron))


@settings(deadline=None, max_examples=100)
@given(case=cases(), strict=st.booleans())
def test_a_neuron_with_a_refractory_period_of_the_window_spikes_at_most_once(
    case: Case, strict: bool
) -> None:
    neuron = Causal(threshold=case.threshold, strict=strict)
    raster = torch.from_numpy(naive_raster(case.times, case.weight, case.num_steps, neuron))
    times = causal_linear(case.times, case.weight, case.num_steps, neuron)
    assert (raster.sum(0) <= 1).all()
    assert torch.equal(times, raster_to_times(raster))
    assert torch.equal(times_to_raster(times, case.num_steps).to(raster.dtype), raster)


@settings(deadline=None, max_examples=100)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 5)),
    magnitude=st.sampled_from([1e-30, 1.0, 1e6, 3e38]),
    strict=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_rounding_is_the_simulators_to_the_last_bit(
    data: st.DataObject, shape: tuple[int, int, int], magnitude: float, strict: bool, dtype: torch.dtype
) -> None:
    batch, n_in, n_out = shape
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    times = torch.from_numpy(rng.integers(0, 7, (batch, n_in)).astype(np.float32))
    scales = rng.choice([1.0, 1e-8, 1e-3], (n_out, n_in))
    weight = torch.from_numpy(rng.uniform(-1, 1, (n_out, n_in)) * scales * magnitude).to(dtype)
    # A threshold that the first neuron's membrane reaches exactly on the first sample.
    order = np.argsort(times[:1].numpy().ravel(), kind="stable")
    with np.errstate(over="ignore"):
        membranes = np.cumsum(weight.numpy()[0][order])
    reached = membranes[(membranes > 0) & np.isfinite(membranes)]
    neuron = Causal(threshold=float(rng.choice(reached)) if len(reached) else magnitude, strict=strict)
    expected = simulate_causal(times, weight, 6, neuron)
    assert torch.equal(causal_linear(times, weight, 6, neuron), expected)


@pytest.mark.parametrize("num_steps", [2, 4096])
@pytest.mark.parametrize(("strict", "delay"), [(False, 0), (True, 1)])
def test_shortest_and_longest_windows(num_steps: int, strict: bool, delay: int) -> None:
    rng = np.random.default_rng(num_steps)
    times = torch.from_numpy(draw_times(rng, (3, 40), num_steps, "half silent"))
    weight = torch.from_numpy(draw_weight(rng, (7, 40), "mixed"))
    neuron = Causal(threshold=3.0, strict=strict, delay=delay)
    found = causal_linear(times, weight, num_steps, neuron)
    assert torch.equal(found, naive_times(times, weight, num_steps, neuron))
    assert torch.equal(found, simulate_causal(times, weight, num_steps, neuron))
    assert found.unique().numel() > 2 or num_steps == 2


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_a_delay_moves_spikes_and_loses_those_past_the_end(delay: int) -> None:
    times = torch.tensor([[0.0], [5.0], [7.0], [8.0]])
    found = causal_linear(times, torch.ones(1, 1), 8, Causal(delay=delay))
    assert found.flatten().tolist() == [min(t + delay, 8) for t in (0, 5, 7, 8)]


def test_strict_firing_needs_more_than_the_threshold() -> None:
    times, weight = torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, 0.125]])
    assert causal_linear(times, weight, 8, Causal()).item() == 1
    assert causal_linear(times, weight, 8, Causal(strict=True)).item() == 4


# What must not change the times


@settings(deadline=None, max_examples=80)
@given(case=cases(min_batch=1), data=st.data(), synapse=st.sampled_from(["step", "ramp"]))
def test_an_input_after_the_output_spike_changes_nothing(
    case: Case, data: st.DataObject, synapse: str
) -> None:
    neuron = Causal(threshold=case.threshold, synapse=synapse)
    T = case.num_steps
    before = causal_linear(case.times, case.weight, T, neuron)
    b = data.draw(st.integers(0, before.shape[0] - 1))
    j = data.draw(st.integers(0, before.shape[1] - 1))
    spike = int(before[b, j])
    later = data.draw(st.integers(min(spike + 1, T), T))
    drive = data.draw(st.sampled_from([-1e3, 1e3])) * case.threshold
    times = torch.cat([case.times, torch.full_like(case.times[:, :1], later)], 1)
    weight = torch.cat([case.weight, torch.full_like(case.weight[:, :1], drive)], 1)
    moved = torch.where(times > spike, torch.tensor(later, dtype=times.dtype), times)
    for changed in (times, moved):
        assert causal_linear(changed, weight, T, neuron)[b, j] == spike


@settings(deadline=None, max_examples=100)
@given(
    case=cases(),
    exponent=st.integers(-30, 30),
    synapse=st.sampled_from(["step", "ramp"]),
    strict=st.booleans(),
)
def test_scaling_weights_and_threshold_together_changes_nothing(
    case: Case, exponent: int, synapse: str, strict: bool
) -> None:
    factor = 2.0**exponent
    small = Causal(threshold=case.threshold, synapse=synapse, strict=strict)
    large = Causal(threshold=case.threshold * factor, synapse=synapse, strict=strict)
    expected = causal_linear(case.times, case.weight, case.num_steps, small)
    assert torch.equal(causal_linear(case.times, case.weight * factor, case.num_steps, large), expected)


@settings(deadline=None, max_examples=100)
@given(case=cases(), synapse=st.sampled_from(["step", "ramp"]), seed=st.integers(0, 2**32 - 1))
def test_permuting_inputs_outputs_or_samples_permutes_nothing_else(
    case: Case, synapse: str, seed: int
) -> None:
    neuron = Causal(threshold=case.threshold, synapse=synapse)
    generator = torch.Generator().manual_seed(seed)
    expected = causal_linear(case.times, case.weight, case.num_steps, neuron)
    samples, inputs = (torch.randperm(n, generator=generator) for n in case.times.shape)
    outputs = torch.randperm(case.weight.shape[0], generator=generator)
    found = causal_linear(
        case.times[samples][:, inputs], case.weight[outputs][:, inputs], case.num_steps, neuron
    )
    assert torch.equal(found, expected[samples][:, outputs])


# Gradients


@settings(deadline=None, max_examples=120)
@given(
    case=cases(),
    strict=st.booleans(),
    delay=st.sampled_from([0, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_are_those_of_naive_loops(case: Case, strict: bool, delay: int, seed: int) -> None:
    neuron = Causal(threshold=case.threshold, strict=strict, delay=delay)
    crosses = Causal(threshold=case.threshold, strict=strict)
    crossing = naive_times(case.times, case.weight, case.num_steps, crosses)
    times = case.times.to(torch.float32, copy=True).requires_grad_()
    weight = case.weight.detach().clone().requires_grad_()
    out = causal_linear(times, weight, case.num_steps, neuron)
    delta = torch.from_numpy(np.random.default_rng(seed).integers(-8, 9, tuple(out.shape)) / 8).to(out)
    grad_times, grad_weight = torch.autograd.grad(out, (times, weight), delta)
    expected_weight, expected_times = naive_gradients(
        case.times, case.weight, crossing, delta, case.num_steps
    )
    assert (grad_times.dtype, grad_weight.dtype) == (times.dtype, weight.dtype)
    np.testing.assert_allclose(grad_weight.numpy(), expected_weight, rtol=1e-5, atol=1e-5)
    scale = case.threshold
    np.testing.assert_allclose(grad_times.numpy() / scale, expected_times / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_steps", [2, 4096])
def test_kernel_gradients_in_the_shortest_and_longest_window(num_steps: int) -> None:
    rng = np.random.default_rng(num_steps)
    times = draw_times(rng, (5, 23), num_steps, "half silent")
    weight = draw_weight(rng, (4, 23), "mixed")
    crossing = draw_times(rng, (5, 4), num_steps, "half silent")
    delta = rng.integers(-8, 9, (5, 4)) / 8
    expected_weight, expected_times = naive_gradients(
        torch.from_numpy(times),
        torch.from_numpy(weight),
        torch.from_numpy(crossing),
        torch.from_numpy(delta),
        num_steps,
    )
    grad_weight = linear.weight_gradient(times, crossing, delta, num_steps)
    rows = np.ascontiguousarray(weight.T)
    grad_times = linear.input_gradient(times, rows, crossing, delta, num_steps)
    np.testing.assert_allclose(grad_weight.T, expected_weight, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grad_times, expected_times, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(case=cases(min_batch=1))
def test_a_silent_input_gets_no_weight_gradient(case: Case) -> None:
    neuron = Causal(threshold=case.threshold)
    times = torch.full(case.times.shape, float(case.num_steps))
    weight = case.weight.clone().requires_grad_()
    causal_linear(times, weight, case.num_steps, neuron).sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()


def test_a_late_input_leaves_the_other_gradients_alone() -> None:
    neuron = Causal()
    times, weight = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.5, 0.5]])
    grads = []
    for extra in (torch.zeros(1, 0), torch.tensor([[4.0]])):
        t = torch.cat([times, extra], 1).requires_grad_()
        w = torch.cat([weight, torch.full_like(extra, -9.0)], 1).requires_grad_()
        out = causal_linear(t, w, 8, neuron)
        assert out.item() == 3
        grads.append(torch.autograd.grad(out.sum(), (t, w)))
    for alone, joined in zip(*grads, strict=True):
        assert torch.equal(joined[:, :2], alone)
        assert joined[:, 2].item() == 0

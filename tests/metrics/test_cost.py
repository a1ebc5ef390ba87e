import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from firstspike.metrics.cost import (
    energy,
    membrane_updates,
    multiply_adds,
    spikes_per_layer,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.neurons import Causal, Neuron, Window
from firstspike.nn import Linear, Stack
from firstspike.spikes import times_to_raster


def make_stack(sizes: list[int], num_steps: int, neurons: list[Neuron]) -> Stack:
    layers = []
    for inputs, outputs, neuron in zip(sizes, sizes[1:], neurons, strict=False):
        layers.append(Linear(inputs, outputs, num_steps, neuron))
        num_steps = layers[-1].out_steps
    return Stack(layers)


CAUSAL: list[Neuron] = [Causal(), Causal()]
WINDOW: list[Neuron] = [Window(out_steps=4), Window(out_steps=6)]
MIXED: list[Neuron] = [Causal(), Window(out_steps=6)]
DELAYED_CAUSAL: list[Neuron] = [Window(out_steps=4), Causal()]
KINDS = [CAUSAL, WINDOW, MIXED, DELAYED_CAUSAL]


@st.composite
def traces(draw: st.DrawFn) -> tuple[Stack, list[Tensor]]:
    """Draw a stack and times for all its layers; costs need no consistent forward pass."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=3, max_size=3))
    stack = make_stack(sizes, draw(st.integers(2, 7)), draw(st.sampled_from(KINDS)))
    batch = draw(st.integers(1, 4))
    windows = [stack.num_steps, *(layer.out_steps for layer in stack)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    quiet = draw(st.sampled_from([0.0, 0.5, 1.0]))
    traced = []
    for size, window in zip(sizes, windows, strict=True):
        times = torch.randint(0, window + 1, (batch, size), generator=generator).float()
        traced.append(
            torch.where(torch.rand(batch, size, generator=generator) < quiet, float(window), times)
        )
    return stack, traced


def events(stack: Stack, traced: list[Tensor], sample: int) -> tuple[list[tuple[int, int]], int]:
    """Return each spike as (layer, step on the input's clock), and the clock's last step plus 1.

    Rasters laid one after the other: a window layer's begins where its input's ends, a causal one's
    where its input's begins.
    """
    spikes, start, length = [], 0, stack.num_steps
    for depth, times in enumerate(traced):
        if depth > 0:
            layer = list(stack)[depth - 1]
            if isinstance(layer.neuron, Window):
                start += length
            length = layer.out_steps
        raster = times_to_raster(times[sample], length)
        for step in range(length):
            for neuron in range(raster.shape[1]):
                if raster[step, neuron] == 1:
                    spikes.append((depth, start + step))
    return spikes, start + length


@settings(deadline=None, max_examples=80)
@given(drawn=traces())
def test_costs_are_counts_of_events_up_to_the_first_output_spike(
    drawn: tuple[Stack, list[Tensor]],
) -> None:
    stack, traced = drawn
    steps = steps_to_decision(stack, traced[-1])
    until = spikes_to_decision(stack, traced)
    everything = spikes_per_layer(stack, traced)
    synops = synaptic_operations(stack, until)
    assert steps.dtype == until.dtype == everything.dtype == synops.dtype == torch.float32
    fan_out = [layer.out_features for layer in stack]
    for b in range(len(steps)):
        spikes, end = events(stack, traced, b)
        decision = min((step for depth, step in spikes if depth == 2), default=end)
        counted = [depth for depth, step in spikes if step <= decision]
        assert steps[b].item() == decision
        assert until[b].tolist() == [counted.count(depth) for depth in range(3)]
        assert everything[b].tolist() == [sum(d == depth for d, _ in spikes) for depth in range(3)]
        assert synops[b].item() == sum(fan_out[depth] for depth in counted if depth < 2)


def test_a_causal_decision_by_hand() -> None:
    stack = make_stack([4, 3, 2], 10, CAUSAL)
    # Decided at step 5: spikes at 5 count, at 6 not, and 10 is silence.
    traced = [
        torch.tensor([[0.0, 5.0, 6.0, 10.0]]),
        torch.tensor([[4.0, 5.0, 9.0]]),
        torch.tensor([[5.0, 7.0]]),
    ]
    assert steps_to_decision(stack, traced[-1]).tolist() == [5]
    spikes = spikes_to_decision(stack, traced)
    assert spikes.tolist() == [[2, 2, 1]]
    assert spikes_per_layer(stack, traced).tolist() == [[3, 3, 2]]
    # Each input spike adds at 3 hidden neurons, each hidden one at 2 outputs.
    assert synaptic_operations(stack, spikes).tolist() == [2 * 3 + 2 * 2]


def test_a_window_decision_by_hand() -> None:
    stack = make_stack([4, 3, 2], 10, WINDOW)
    # Windows start at 0, 10 and 14: the first output spike is at 14 + 2.
    traced = [
        torch.tensor([[0.0, 5.0, 9.0, 10.0]]),
        torch.tensor([[0.0, 3.0, 4.0]]),
        torch.tensor([[2.0, 3.0]]),
    ]
    assert steps_to_decision(stack, traced[-1]).tolist() == [16]
    spikes = spikes_to_decision(stack, traced)
    assert spikes.tolist() == [[3, 2, 1]]
    assert synaptic_operations(stack, spikes).tolist() == [3 * 3 + 2 * 2]


@pytest.mark.parametrize(("neurons", "end"), [(CAUSAL, 10), (WINDOW, 20), (MIXED, 16)])
def test_without_an_output_spike_the_wait_ends_with_the_window(neurons: list[Neuron], end: int) -> None:
    stack = make_stack([2, 3, 2], 10, neurons)
    hidden, output = (layer.out_steps for layer in stack)
    traced = [
        torch.tensor([[9.0, 10.0]]),
        torch.full((1, 3), hidden - 1.0),
        torch.full((1, 2), float(output)),
    ]
    assert steps_to_decision(stack, traced[-1]).tolist() == [end]
    assert spikes_to_decision(stack, traced).tolist() == [[1, 3, 0]]


def test_membrane_updates_without_spikes() -> None:
    assert membrane_updates(make_stack([4, 3, 2], 10, CAUSAL)) == 0
    ramp: list[Neuron] = [Causal(synapse="ramp"), Causal()]
    assert membrane_updates(make_stack([4, 3, 2], 10, ramp)) == 3 * 10
    # Hidden: 10 steps of input and 4 of its own; outputs: 4 and 6.
    assert membrane_updates(make_stack([4, 3, 2], 10, WINDOW)) == 3 * (10 + 4) + 2 * (4 + 6)


def test_energy_is_operations_times_the_stated_constants() -> None:
    stack = make_stack([4, 3, 2], 10, WINDOW)
    assert multiply_adds(stack) == 4 * 3 + 3 * 2
    cost = energy(stack, 21.5)
    assert (cost.synops, cost.updates) == (21.5, 62)
    assert cost.spiking_pj == pytest.approx((21.5 + 62) * 0.9)
    assert cost.dense_pj == pytest.approx(18 * 4.6)


def test_an_empty_batch_costs_nothing() -> None:
    stack = make_stack([4, 3, 2], 10, CAUSAL)
    traced = [torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0, 2)]
    assert steps_to_decision(stack, traced[-1]).shape == (0,)
    assert spikes_to_decision(stack, traced).shape == (0, 3)
    assert synaptic_operations(stack, spikes_per_layer(stack, traced)).shape == (0,)

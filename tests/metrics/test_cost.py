from itertools import pairwise, product
from typing import Any

import pytest
import torch
from builders import seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.metrics.cost import (
    energy,
    membrane_updates,
    multiply_adds,
    spikes_per_layer,
    spikes_to_decision,
    steps_to_decision,
    synaptic_operations,
)
from firstspike.neurons import Causal, Neuron, Phased, Ramp, Window
from firstspike.nn import AvgPool2d, Connection, Conv2d, ConvTranspose2d, Linear, Stack
from firstspike.spikes import Spikes


def make_stack(sizes: list[int], steps: int, neurons: list[Neuron]) -> Stack:
    layers = [Linear(*two, neuron) for two, neuron in zip(pairwise(sizes), neurons, strict=True)]
    return Stack(*layers, steps=steps)


def spikes_of(stack: Stack, *times: Any) -> list[Spikes]:
    """Return times as the spikes of the input and of each layer."""
    return [Spikes(one, steps) for one, steps in zip(times, stack.windows, strict=True)]


CAUSAL: list[Neuron] = [Causal(), Causal()]
WINDOW: list[Neuron] = [Window(steps=4), Window(steps=6)]
MIXED: list[Neuron] = [Causal(), Window(steps=6)]
DELAYED_CAUSAL: list[Neuron] = [Window(steps=4), Causal()]
KINDS = [CAUSAL, WINDOW, MIXED, DELAYED_CAUSAL]


@st.composite
def traces(draw: st.DrawFn) -> tuple[Stack, list[Spikes]]:
    """Draw a stack and times for all its layers; costs need no consistent forward pass."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=3, max_size=3))
    stack = make_stack(sizes, draw(st.integers(2, 7)), draw(st.sampled_from(KINDS)))
    batch = draw(st.integers(1, 4))
    generator = seeded(draw(st.integers(0, 2**31)))
    quiet = draw(st.sampled_from([0.0, 0.5, 1.0]))
    traced = []
    for size, window in zip(sizes, stack.windows, strict=True):
        times = torch.randint(0, window + 1, (batch, size), generator=generator)
        silent = torch.rand(batch, size, generator=generator) < quiet
        traced.append(torch.where(silent, window, times))
    return stack, spikes_of(stack, *traced)


def events(stack: Stack, traced: list[Spikes], sample: int) -> tuple[list[tuple[int, int]], int]:
    """Return each spike as (layer, step on the input's clock), and the clock's last step plus 1.

    Rasters laid one after the other: a window layer's begins where its input's ends, a causal one's
    where its input's begins.
    """
    spikes, start, length = [], 0, stack.steps
    for depth, layer in enumerate(traced):
        if depth > 0:
            if isinstance(stack[depth - 1].neuron, Window):
                start += length
            length = layer.steps
        raster = layer[sample].raster()
        for step in range(length):
            for neuron in range(raster.shape[1]):
                if raster[step, neuron] == 1:
                    spikes.append((depth, start + step))
    return spikes, start + length


@settings(deadline=None, max_examples=80)
@given(drawn=traces())
def test_costs_are_counts_of_events_up_to_the_first_output_spike(
    drawn: tuple[Stack, list[Spikes]],
) -> None:
    stack, traced = drawn
    steps = steps_to_decision(stack, traced[-1])
    until = spikes_to_decision(stack, traced)
    everything = spikes_per_layer(stack, traced)
    synops = synaptic_operations(stack, traced)
    all_synops = synaptic_operations(stack, traced, until_decision=False)
    assert steps.dtype == until.dtype == everything.dtype == synops.dtype == torch.float32
    fan_out = [layer.shape[1] for layer in traced[1:]]
    for b in range(len(steps)):
        spikes, end = events(stack, traced, b)
        decision = min((step for depth, step in spikes if depth == 2), default=end)
        counted = [depth for depth, step in spikes if step <= decision]
        assert steps[b].item() == decision
        assert until[b].tolist() == [counted.count(depth) for depth in range(3)]
        assert everything[b].tolist() == [sum(d == depth for d, _ in spikes) for depth in range(3)]
        assert synops[b].item() == sum(fan_out[depth] for depth in counted if depth < 2)
        assert all_synops[b].item() == sum(fan_out[depth] for depth, _ in spikes if depth < 2)


def test_a_causal_decision_by_hand() -> None:
    stack = make_stack([4, 3, 2], 10, CAUSAL)
    # Decided at step 5: spikes at 5 count, at 6 not, and 10 is silence.
    traced = spikes_of(stack, [[0, 5, 6, 10]], [[4, 5, 9]], [[5, 7]])
    assert steps_to_decision(stack, traced[-1]).tolist() == [5]
    assert spikes_to_decision(stack, traced).tolist() == [[2, 2, 1]]
    assert spikes_per_layer(stack, traced).tolist() == [[3, 3, 2]]
    # Each input spike adds at 3 hidden neurons, each hidden one at 2 outputs.
    assert synaptic_operations(stack, traced).tolist() == [2 * 3 + 2 * 2]
    # Another rule may decide later.
    assert spikes_to_decision(stack, traced, torch.tensor([6.0])).tolist() == [[3, 2, 1]]
    assert synaptic_operations(stack, traced, decision=torch.tensor([6.0])).tolist() == [3 * 3 + 2 * 2]


def test_a_window_decision_by_hand() -> None:
    stack = make_stack([4, 3, 2], 10, WINDOW)
    # Windows start at 0, 10 and 14: the first output spike is at 14 + 2.
    traced = spikes_of(stack, [[0, 5, 9, 10]], [[0, 3, 4]], [[2, 3]])
    assert steps_to_decision(stack, traced[-1]).tolist() == [16]
    assert spikes_to_decision(stack, traced).tolist() == [[3, 2, 1]]
    assert synaptic_operations(stack, traced).tolist() == [3 * 3 + 2 * 2]


@pytest.mark.parametrize(("neurons", "end"), [(CAUSAL, 10), (WINDOW, 20), (MIXED, 16)])
def test_without_an_output_spike_the_wait_ends_with_the_window(neurons: list[Neuron], end: int) -> None:
    stack = make_stack([2, 3, 2], 10, neurons)
    _, hidden, output = stack.windows
    traced = spikes_of(stack, [[9, 10]], [[hidden - 1] * 3], [[output] * 2])
    assert steps_to_decision(stack, traced[-1]).tolist() == [end]
    assert spikes_to_decision(stack, traced).tolist() == [[1, 3, 0]]


def test_membrane_updates_without_spikes() -> None:
    assert membrane_updates(make_stack([4, 3, 2], 10, CAUSAL)) == 0
    assert membrane_updates(make_stack([4, 3, 2], 10, [Ramp(), Causal()])) == 3 * 10
    # Until the phase ends.
    phased = Phased(source=(0, 4), target=(2, 8))
    assert membrane_updates(make_stack([4, 3, 2], 10, [phased, Causal()])) == 3 * 8
    # Hidden: 10 steps of input and 4 of its own; outputs: 4 and 6.
    assert membrane_updates(make_stack([4, 3, 2], 10, WINDOW)) == 3 * (10 + 4) + 2 * (4 + 6)
    # A constant current is added at every step, a start membrane never.
    for bias, updates in (("start", 0), ("current", 3 * 10)):
        layer = Linear(4, 3, Causal(bias=bias), bias=True)  # type: ignore[arg-type]
        assert membrane_updates(Stack(layer, steps=10)) == updates


def test_a_shortcut_costs_what_a_connection_costs() -> None:
    stack = Stack(
        Linear(4, 3, Causal()),
        Linear(3, 2, Causal(), shortcuts=[Connection.linear(4, 2, source=0)]),
        steps=10,
    )
    assert multiply_adds(stack) == 4 * 3 + 3 * 2 + 4 * 2
    traced = spikes_of(stack, [[0, 5, 6, 10]], [[4, 5, 9]], [[5, 7]])
    # An input spike adds at 3 hidden neurons and at 2 outputs.
    assert synaptic_operations(stack, traced).tolist() == [2 * (3 + 2) + 2 * 2]
    assert synaptic_operations(stack, traced, until_decision=False).tolist() == [3 * (3 + 2) + 3 * 2]


def test_energy_is_operations_times_the_stated_constants() -> None:
    stack = make_stack([4, 3, 2], 10, WINDOW)
    assert multiply_adds(stack) == 4 * 3 + 3 * 2
    cost = energy(stack, 21.5)
    assert (cost.synops, cost.updates) == (21.5, 62)
    assert cost.spiking_pj == pytest.approx((21.5 + 62) * 0.9)
    assert cost.dense_pj == pytest.approx(18 * 4.6)


def test_an_empty_batch_costs_nothing() -> None:
    stack = make_stack([4, 3, 2], 10, CAUSAL)
    traced = spikes_of(stack, *(torch.zeros(0, size) for size in (4, 3, 2)))
    assert steps_to_decision(stack, traced[-1]).shape == (0,)
    assert spikes_to_decision(stack, traced).shape == (0, 3)
    assert spikes_per_layer(stack, traced).shape == (0, 3)
    assert synaptic_operations(stack, traced).shape == (0,)


def map_stack() -> Stack:
    return Stack(
        Conv2d(2, 4, 3, Causal(), stride=2, padding=1, groups=2),
        AvgPool2d((2, 1)),
        Conv2d(4, 3, 2, Window(steps=5)),
        ConvTranspose2d(3, 2, 3, Window(steps=4), stride=2),
        Linear(2 * 3 * 5, 3, Causal()),
        steps=8,
    )


IN_SHAPE = (2, 7, 6)


def receivers(layer: int, shape: tuple[int, ...], out_shape: tuple[int, ...]) -> dict[tuple[int, ...], int]:
    """Return for each input of a layer of `map_stack` how many of its neurons receive it, one by one."""
    counts = dict.fromkeys(product(*map(range, shape)), 0)
    for target in product(*map(range, out_shape)):
        if layer == 4:
            received = list(counts)
        else:
            o, y, x = target
            if layer == 0:
                channels, rows, columns = [o // 2], range(2 * y - 1, 2 * y + 2), range(2 * x - 1, 2 * x + 2)
            elif layer == 1:
                channels, rows, columns = [o], range(2 * y, 2 * y + 2), range(x, x + 1)
            elif layer == 2:
                channels, rows, columns = range(4), range(y, y + 2), range(x, x + 2)
            else:
                channels = range(3)
                rows = [row for row in range(shape[1]) if 0 <= y - 2 * row < 3]
                columns = [column for column in range(shape[2]) if 0 <= x - 2 * column < 3]
            received = [place for place in product(channels, rows, columns) if place in counts]
        for place in received:
            counts[place] += 1
    return counts


def test_costs_of_maps_are_counts_over_all_pairs_of_neurons() -> None:
    stack = map_stack()
    shapes = stack.shapes(IN_SHAPE)
    assert shapes == [IN_SHAPE, (4, 4, 3), (4, 2, 3), (3, 1, 2), (2, 3, 5), (3,)]
    pairs = [receivers(layer, shapes[layer], shapes[layer + 1]) for layer in range(5)]
    # The border and what stride leaves out have fewer receivers.
    assert len(set(pairs[0].values())) > 1
    assert multiply_adds(stack, IN_SHAPE) == sum(sum(counts.values()) for counts in pairs)
    # Window layers: 8 + 5 steps for 6 neurons, 5 + 4 for 30. The step synapses need none.
    assert membrane_updates(stack, IN_SHAPE) == 6 * (8 + 5) + 30 * (5 + 4)
    cost = energy(stack, 10.0, IN_SHAPE)
    assert cost.updates == membrane_updates(stack, IN_SHAPE)
    assert cost.dense_pj == pytest.approx(4.6 * multiply_adds(stack, IN_SHAPE))

    generator = seeded(0)
    windows = [8, 8, 8, 5, 4, 4]
    times = [
        torch.randint(0, window + 1, (6, *shape), generator=generator).float()
        for shape, window in zip(shapes, windows, strict=True)
    ]
    times[-1][0] = 4.0
    traced = spikes_of(stack, *times)
    assert stack.windows == windows
    assert stack.offsets == [0, 0, 0, 8, 13, 13]
    until, everything = spikes_to_decision(stack, traced), spikes_per_layer(stack, traced)
    synops = synaptic_operations(stack, traced)
    all_synops = synaptic_operations(stack, traced, until_decision=False)
    for b in range(6):
        decision = 13 + float(times[-1][b].min())
        assert steps_to_decision(stack, traced[-1])[b] == decision
        operations = all_operations = 0
        for depth, (shape, window, start) in enumerate(zip(shapes, windows, stack.offsets, strict=True)):
            spikes = [p for p in product(*map(range, shape)) if times[depth][b][p] < window]
            early = [p for p in spikes if start + float(times[depth][b][p]) <= decision]
            assert (until[b, depth], everything[b, depth]) == (len(early), len(spikes))
            if depth < 5:
                all_operations += sum(pairs[depth][p] for p in spikes)
                operations += sum(pairs[depth][p] for p in early)
        assert (synops[b], all_synops[b]) == (operations, all_operations)
    assert synaptic_operations(stack, [part[:0] for part in traced]).shape == (0,)


def test_a_network_of_maps_needs_the_size_of_its_input() -> None:
    for cost in (membrane_updates, multiply_adds):
        with pytest.raises(ValueError, match="give in_shape"):
            cost(map_stack())


def test_an_output_of_maps_is_decided_by_its_first_spike() -> None:
    stack = Stack(Conv2d(1, 2, 1, Causal()), steps=8)
    traced = spikes_of(stack, [[[[0, 5, 6]]]], [[[[8, 7, 6]], [[8, 5, 8]]]])
    assert steps_to_decision(stack, traced[-1]).tolist() == [5]
    assert spikes_to_decision(stack, traced).tolist() == [[2, 1]]
    assert synaptic_operations(stack, traced).tolist() == [4]

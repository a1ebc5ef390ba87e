from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from builders import draw_spikes, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike import AvgPool2d, Causal, EarliestPool2d, Events, Neuron, Phased, Ramp, Spikes, Window


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_pooling_neuron_fires_with_the_kth_spike_of_its_patch(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    size = kernel[0] * kernel[1]
    count = data.draw(st.integers(1, size))
    stride = data.draw(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)))
    steps = data.draw(st.sampled_from([2, 8, 300]))
    delay = data.draw(st.sampled_from([0, 1]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (2, data.draw(st.integers(1, 3)), *(k + data.draw(st.integers(0, 4)) for k in kernel))
    times = torch.from_numpy(rng.integers(0, steps + 1, shape)).float()
    # The share as a user would write it, though rounding may put it above or below the sum of weights.
    pool = AvgPool2d(kernel, Causal(threshold=count / size, delay=delay), stride=stride)
    assert pool.count == count
    found = pool(Spikes(times, steps)).times
    step_y, step_x = kernel if stride is None else stride
    assert found.shape[2:] == torch.nn.functional.avg_pool2d(times, kernel, stride).shape[2:]
    for b, c, y, x in product(*(range(n) for n in found.shape)):
        top, left = y * step_y, x * step_x
        patch = times[b, c, top : top + kernel[0], left : left + kernel[1]]
        kth = patch.flatten().sort().values[count - 1]
        assert found[b, c, y, x] == min(float(kth) + delay, steps)


def test_a_neuron_of_ones_own_is_asked_when_it_fires() -> None:
    class Above(Causal):
        def events(self) -> Events:
            return Events(threshold=self.threshold, strict=True, delay=self.delay)

    assert AvgPool2d(2, Above(threshold=0.5)).count == 3


@pytest.mark.parametrize(
    ("size", "neuron", "count"),
    [
        (2, Causal(threshold=0.5), 2),
        (3, Causal(threshold=0.5), 5),
        (2, Causal(threshold=0.6), 3),
        (2, Causal(threshold=0.5, strict=True), 3),
        (3, Causal(threshold=1 / 3), 3),
        (3, Causal(threshold=1 / 3, strict=True), 4),
        (3, Causal(threshold=0.5, strict=True), 5),
        (2, Causal(threshold=1e-9), 1),
        (2, Causal(threshold=1.0), 4),
    ],
)
def test_how_many_spikes_a_share_is(size: int, neuron: Causal, count: int) -> None:
    pool = AvgPool2d(size, neuron)
    assert pool.count == count
    times = torch.full((1, 1, size, size), 8.0)
    times.view(-1)[: count - 1] = 3.0
    assert pool(Spikes(times, 8)).times.item() == 8
    times.view(-1)[count - 1] = 5.0
    assert pool(Spikes(times, 8)).times.item() == 5


def test_the_membrane_is_the_share_that_has_fired() -> None:
    spikes = Spikes([[[[0, 8, 1, 2], [3, 8, 8, 8]]]], 8)
    pool = AvgPool2d(2)
    fired, membrane = pool.read(spikes)
    assert membrane.tolist() == pool.membrane(spikes).tolist() == [[[[0.5, 0.5]]]]
    assert (fired.times.tolist(), fired.steps) == ([[[[3, 2]]]], 8)
    assert list(pool.parameters()) == []
    assert "fires with 2 of 4 inputs" in repr(pool)


def test_a_gradient_goes_to_the_inputs_that_were_received() -> None:
    times = torch.tensor([[[[0.0, 6.0], [3.0, 8.0]]]], requires_grad=True)
    AvgPool2d(2)(Spikes(times, 8)).times.sum().backward()
    # dt/dt_i = w = 1/4 for inputs up to the spike at 3.
    assert times.grad is not None
    assert times.grad.tolist() == [[[[0.25, 0.0], [0.25, 0.0]]]]


@pytest.mark.parametrize("stride", [None, 1, (2, 1)])
def test_the_earliest_spike_of_a_patch_is_that_of_a_neuron_that_one_spike_fires(stride: Any) -> None:
    spikes = draw_spikes(4, 3, 6, 5, steps=9)
    pool = EarliestPool2d((3, 2), stride=stride)
    found, membrane = pool.read(spikes)
    assert torch.equal(found.times, AvgPool2d((3, 2), Causal(threshold=1 / 6), stride=stride)(spikes).times)
    assert torch.equal(found.silent, membrane == 0)
    assert (pool.count, found.steps) == (1, 9)
    times = torch.tensor([[[[5.0, 2.0], [3.0, 8.0]]]], requires_grad=True)
    (grad,) = torch.autograd.grad(EarliestPool2d(2)(Spikes(times, 8)).times.sum(), times)
    assert grad.tolist() == [[[[0, 1], [0, 0]]]]


@pytest.mark.parametrize("neuron", [Window(), Phased(source=(0, 4), target=(2, 8)), Ramp()])
def test_other_neurons_are_refused(neuron: Neuron) -> None:
    with refused(ValueError, "AvgPool2d", "Causal", type(neuron).__name__):
        AvgPool2d(2, neuron)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: AvgPool2d(2, Causal(threshold=1.25)), ("1.25", "5 spikes", "a patch has 4")),
        (lambda: AvgPool2d(2, Causal(threshold=1.0, strict=True)), ("more than 1.0", "a patch has 4")),
        *[
            (lambda kind=kind: kind(0), ("kernel_size", "1 or more", "0"))
            for kind in (AvgPool2d, EarliestPool2d)
        ],
        *[
            (lambda kind=kind: kind(2, stride=0), ("stride", "1 or more", "0"))
            for kind in (AvgPool2d, EarliestPool2d)
        ],
        (lambda: AvgPool2d(2)(draw_spikes(1, 4, 4)), ("(channels, y, x)", "4 x 4")),
        (lambda: EarliestPool2d(3)(draw_spikes(1, 1, 2, 4)), ("kernel of 3 x 3", "map 2 x 4")),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], object], words: tuple[str, ...]) -> None:
    with refused(ValueError, *words):
        call()


@pytest.mark.parametrize("kernel", [2, 3, (3, 2)])
def test_what_lies_beyond_the_border_is_silent(kernel: Any) -> None:
    times = torch.randint(0, 9, (4, 2, 7, 6), generator=torch.Generator().manual_seed(0)).float()
    framed = torch.nn.functional.pad(times, (1, 1, 1, 1), value=8.0)
    for pool in (EarliestPool2d, AvgPool2d):
        padded, plain = pool(kernel, stride=2, padding=1), pool(kernel, stride=2)
        assert torch.equal(padded(Spikes(times, 8)).times, plain(Spikes(framed, 8)).times)
        assert padded.out_shape((2, 7, 6)) == tuple(padded(Spikes(times, 8)).shape[1:])


def test_a_padding_beyond_half_the_kernel_is_refused() -> None:
    with refused(ValueError, "padding", "(2, 2)"):
        EarliestPool2d(3, padding=2)

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.neurons import Causal, Neuron, Phased, Window
from firstspike.nn import AvgPool2d


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_pooling_neuron_fires_with_the_kth_spike_of_its_patch(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    size = kernel[0] * kernel[1]
    count = data.draw(st.integers(1, size))
    stride = data.draw(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)))
    num_steps = data.draw(st.sampled_from([2, 8, 300]))
    delay = data.draw(st.sampled_from([0, 1]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (2, data.draw(st.integers(1, 3)), *(k + data.draw(st.integers(0, 4)) for k in kernel))
    times = torch.from_numpy(rng.integers(0, num_steps + 1, shape)).float()
    # The share as a user would write it, though rounding may put it above or below the sum of weights.
    pool = AvgPool2d(kernel, num_steps, Causal(threshold=count / size, delay=delay), stride=stride)
    assert pool.count == count
    found = pool(times)
    step_y, step_x = kernel if stride is None else stride
    assert found.shape[2:] == torch.nn.functional.avg_pool2d(times, kernel, stride).shape[2:]
    for b, c, y, x in product(*(range(n) for n in found.shape)):
        top, left = y * step_y, x * step_x
        patch = times[b, c, top : top + kernel[0], left : left + kernel[1]]
        kth = patch.flatten().sort().values[count - 1]
        assert found[b, c, y, x] == min(float(kth) + delay, num_steps)


@pytest.mark.parametrize(
    ("size", "neuron", "count"),
    [
        (2, None, 2),
        (3, None, 5),
        (2, Causal(threshold=0.6), 3),
        (2, Causal(threshold=0.5, strict=True), 3),
        (3, Causal(threshold=1 / 3), 3),
        (3, Causal(threshold=1 / 3, strict=True), 4),
        (3, Causal(threshold=0.5, strict=True), 5),
        (2, Causal(threshold=1e-9), 1),
        (2, Causal(threshold=1.0), 4),
    ],
)
def test_how_many_spikes_a_share_is(size: int, neuron: Causal | None, count: int) -> None:
    pool = AvgPool2d(size, 8, neuron)
    assert pool.count == count
    times = torch.full((1, 1, size, size), 8.0)
    times.view(-1)[: count - 1] = 3.0
    assert pool(times).item() == 8
    times.view(-1)[count - 1] = 5.0
    assert pool(times).item() == 5


def test_the_membrane_is_the_share_that_has_fired() -> None:
    times = torch.tensor([[[[0.0, 8.0, 1.0, 2.0], [3.0, 8.0, 8.0, 8.0]]]])
    pool = AvgPool2d(2, 8)
    fired, membrane = pool.read(times)
    assert membrane.tolist() == pool.membrane(times).tolist() == [[[[0.5, 0.5]]]]
    assert fired.tolist() == [[[[3.0, 2.0]]]]
    assert (pool.out_steps, list(pool.parameters())) == (8, [])
    assert "fires with 2 of 4 inputs" in repr(pool)


def test_a_gradient_goes_to_the_inputs_that_were_heard() -> None:
    times = torch.tensor([[[[0.0, 6.0], [3.0, 8.0]]]], requires_grad=True)
    AvgPool2d(2, 8)(times).sum().backward()
    # dt/dt_i = w = 1/4 for inputs up to the spike at 3.
    assert times.grad is not None
    assert times.grad.tolist() == [[[[0.25, 0.0], [0.25, 0.0]]]]


@pytest.mark.parametrize("neuron", [Window(), Phased(source=(0, 4), target=(2, 8)), Causal(synapse="ramp")])
def test_other_neurons_are_refused(neuron: Neuron) -> None:
    with pytest.raises(ValueError, match="AvgPool2d takes Causal neurons with the step synapse, found"):
        AvgPool2d(2, 8, neuron)  # type: ignore[arg-type]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a share of 1.25 takes 5 spikes, a patch has 4"):
        AvgPool2d(2, 8, Causal(threshold=1.25))
    with pytest.raises(ValueError, match=r"more than 1.0 takes 5 spikes, a patch has 4"):
        AvgPool2d(2, 8, Causal(threshold=1.0, strict=True))
    with pytest.raises(ValueError, match="kernel_size must be 1 or more"):
        AvgPool2d(0, 8)
    with pytest.raises(ValueError, match="stride must be 1 or more"):
        AvgPool2d(2, 8, stride=0)
    with pytest.raises(ValueError, match=r"takes maps \(channels, y, x\), found 4 x 4"):
        AvgPool2d(2, 8)(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="kernel of 3 x 3, larger than the map 2 x 4"):
        AvgPool2d(3, 8)(torch.zeros(1, 1, 2, 4))
    with pytest.raises(ValueError, match="NaN"):
        AvgPool2d(2, 8)(torch.full((1, 1, 2, 2), float("nan")))

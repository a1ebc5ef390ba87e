"""What a kernel must not read is refused: NaN, infinite weights, times that are none."""

import pytest
import torch

from firstspike.neurons.base import check_read
from firstspike.spikes import Spikes


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_that_are_not_finite(bad, dtype):
    spikes, weights = Spikes(torch.zeros(2, 3), 4), torch.randn(3, 3, dtype=dtype)
    check_read(spikes, weights, torch.empty(0))
    weights[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        check_read(spikes, torch.ones(2), weights)


@pytest.mark.parametrize("bad", [float("nan"), -1.0, 5.0])
def test_times_outside_the_window(bad):
    times = torch.tensor([[0.0, 4.0, 2.0]])
    check_read(Spikes.trusted(times, 4))
    times[0, 1] = bad
    with pytest.raises(ValueError, match="time"):
        check_read(Spikes.trusted(times, 4))

import pytest
import torch
from builders import dense
from neurons.oracles import dense_form
from torch import Tensor
from triton_device import needs_triton, on_every_device, triton_kernels

from firstspike.neurons import Causal
from firstspike.spikes import Spikes

pytestmark = [needs_triton, on_every_device]
T = 12


@pytest.fixture
def layer() -> tuple[Tensor, Tensor, Tensor]:
    """Return times ``(batch, in)``, weights ``(in, out)`` and thresholds ``(batch, out)``."""
    source = torch.Generator().manual_seed(3)
    times = torch.randint(0, T + 1, (9, 17), generator=source).float()
    weight = torch.rand(17, 8, generator=source) * 1.1 - 0.35
    return times, weight, torch.ones(9, 8)


def simulated(times: Tensor, weight: Tensor) -> Tensor:
    return dense(weight.t(), Causal()).simulate(Spikes(times, T)).times


def membranes(times: Tensor, weight: Tensor, levels: Tensor) -> Tensor:
    """Return the membranes at the levels, added up in double precision."""
    seen = (times.unsqueeze(1) <= levels.reshape(1, -1, 1)).double()
    return seen @ weight.double()


@pytest.mark.parametrize("levels", [(0,), (0, 2, 3, 7, 11), (1, 5, 6), tuple(range(T))])
def test_times_and_running_maxima(layer: tuple, levels: tuple[int, ...], device: str) -> None:
    times, weight, threshold = layer
    at = torch.tensor(levels)
    out, peak = triton_kernels().levels.forward(
        times.to(device), weight.to(device), threshold.to(device), at.to(device), T
    )
    assert torch.equal(out.cpu(), simulated(times, weight))
    expected = membranes(times, weight, at).cummax(1).values
    torch.testing.assert_close(peak.cpu().double(), expected, rtol=1e-6, atol=1e-6)


def test_thresholds_may_differ_per_sample(layer: tuple, device: str) -> None:
    times, weight, threshold = layer
    threshold = threshold.clone()
    threshold[::2] = 1e9
    at = torch.tensor([2])
    out, _ = triton_kernels().levels.forward(
        times.to(device), weight.to(device), threshold.to(device), at.to(device), T
    )
    assert (out[::2] == T).all()
    assert torch.equal(out.cpu()[1::2], simulated(times, weight)[1::2])


@pytest.mark.parametrize("levels", [(0,), (0, 2, 3, 7), tuple(range(T))])
def test_gradient_equals_the_dense_form(layer: tuple, levels: tuple[int, ...], device: str) -> None:
    times, weight, threshold = layer
    at = torch.tensor(levels)
    grad = torch.randn(9, len(levels), 8, generator=torch.Generator().manual_seed(4))
    rows = weight.t().clone().requires_grad_()
    seen = (times.unsqueeze(1) <= at.reshape(1, -1, 1)).float()
    (dense_form(seen, rows, threshold, 0.5) * grad).sum().backward()
    assert rows.grad.abs().max() > 0

    kernels = triton_kernels().levels
    given, limit, at = times.to(device), threshold.to(device), at.to(device)
    _, peak = kernels.forward(given, weight.to(device), limit, at, T)
    grad_weight = kernels.weight_gradient(given, grad.to(device), peak, limit, 0.5, at, T)
    torch.testing.assert_close(grad_weight.t().cpu(), rows.grad, rtol=1e-4, atol=1e-5)


def test_empty_batch(device: str) -> None:
    kernels = triton_kernels().levels
    times, limit, at = torch.empty(0, 3).to(device), torch.empty(0, 2).to(device), torch.tensor([1, 4])
    out, peak = kernels.forward(times, torch.ones(3, 2).to(device), limit, at.to(device), T)
    assert out.shape == (0, 2)
    assert peak.shape == (0, 2, 2)
    assert kernels.membrane_gradient(peak, peak, limit, 0.5).shape == (0, 2, 2)
    assert not kernels.weight_gradient(times, peak, peak, limit, 0.5, at.to(device), T).any()
